"""HyperQueue's Python package: TASKS WORKERS; prints one JSON object.

A server and a worker in this process (LocalCluster), one job of many /bin/true whose output is not kept. The package looks
once a second whether a job has ended; how long the tasks took is therefore known to a second only.
"""

import importlib.metadata
import json
import os
import sys
import tempfile
import time

# The package prints tables and bars to the standard output.
stdout = os.dup(1)
os.dup2(2, 1)

from hyperqueue import Job, LocalCluster  # noqa: E402
from hyperqueue.cluster import WorkerConfig  # noqa: E402


def main():
    tasks, workers = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder, LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=workers))
        client = cluster.client()

        def seconds(count):
            job = Job(default_workdir=folder)
            for _ in range(count):
                job.program(["/bin/true"], stdout=None, stderr=None)
            start = time.perf_counter()
            client.wait_for_jobs([client.submit(job)])
            return time.perf_counter() - start

        seconds(20)
        said = {"seconds": seconds(tasks), "count": tasks, "version": importlib.metadata.version("hyperqueue")}
    os.write(stdout, (json.dumps(said) + "\n").encode())


if __name__ == "__main__":
    main()
