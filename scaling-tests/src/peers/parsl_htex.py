"""Parsl's high-throughput executor: MODE TASKS TASK_US WORKERS; prints one JSON object.

MODE is `all` (every task at once, seconds from the first submit to the last result, as parsl-perf counts) or `single` (one at
a time, microseconds of each).
"""

import concurrent.futures
import json
import sys
import tempfile
import time

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


@parsl.python_app
def task(us):
    import time

    if us:
        time.sleep(us / 1e6)
    return us


def main():
    mode, tasks, us, workers = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    with tempfile.TemporaryDirectory() as folder:
        executor = HighThroughputExecutor(
            label="htex",
            address="127.0.0.1",
            max_workers_per_node=workers,
            encrypted=False,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        with parsl.load(Config(executors=[executor], run_dir=folder, initialize_logging=False)):
            for future in [task(0.0) for _ in range(20)]:
                future.result()
            if mode == "single":
                times = []
                for _ in range(tasks):
                    start = time.perf_counter()
                    task(us).result()
                    times.append((time.perf_counter() - start) * 1e6)
                said = {"microseconds": times}
            else:
                start = time.perf_counter()
                futures = [task(us) for _ in range(tasks)]
                for future in concurrent.futures.as_completed(futures):
                    future.result()
                said = {"seconds": time.perf_counter() - start, "count": len(futures)}
        said["version"] = parsl.__version__
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
