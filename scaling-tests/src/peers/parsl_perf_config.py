"""The configuration that parsl-perf measures: a worker for each core of this machine."""

import os
import tempfile

from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


# A function: parsl-perf loads this file twice.
def fresh_config():
    executor = HighThroughputExecutor(
        label="htex",
        address="127.0.0.1",
        max_workers_per_node=len(os.sched_getaffinity(0)),
        encrypted=False,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    return Config(executors=[executor], run_dir=tempfile.mkdtemp(dir="."), initialize_logging=False)
