"""Dask distributed: MODE TASKS TASK_US WORKERS; prints one JSON object.

MODE is `all` (every task at once, seconds from the first submit to the last result) or `single` (one at a time, microseconds
of each). Each worker is a process with one thread.
"""

import json
import sys
import time

import distributed


def task(_index, us):
    if us:
        time.sleep(us / 1e6)
    return us


def main():
    mode, tasks, us, workers = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    options = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        client.wait_for_workers(workers)
        client.gather(client.map(task, range(-20, 0), us=0.0, pure=False))
        if mode == "single":
            times = []
            for index in range(tasks):
                start = time.perf_counter()
                client.submit(task, index, us, pure=False).result()
                times.append((time.perf_counter() - start) * 1e6)
            said = {"microseconds": times}
        else:
            start = time.perf_counter()
            count = len(client.gather(client.map(task, range(tasks), us=us, pure=False)))
            said = {"seconds": time.perf_counter() - start, "count": count}
            assert count == tasks
    said["version"] = distributed.__version__
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
