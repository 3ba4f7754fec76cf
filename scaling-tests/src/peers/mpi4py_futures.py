"""mpi4py.futures: MODE TASKS TASK_US CHUNK; prints one JSON object.

MODE is `all` (every task at once, seconds from the first submit to the last result) or `single` (one at a time, microseconds
of each). Started as `mpiexec -n RANKS python -m mpi4py.futures`, where rank 0 hands out and the others work.
"""

import json
import sys
import time

import mpi4py
from mpi4py.futures import MPIPoolExecutor


def task(us):
    if us:
        time.sleep(us / 1e6)
    return us


def main():
    mode, tasks, us, chunk = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    with MPIPoolExecutor() as executor:
        list(executor.map(task, [0.0] * 20))
        if mode == "single":
            times = []
            for _ in range(tasks):
                start = time.perf_counter()
                executor.submit(task, us).result()
                times.append((time.perf_counter() - start) * 1e6)
            said = {"microseconds": times}
        else:
            start = time.perf_counter()
            count = sum(1 for _ in executor.map(task, [us] * tasks, chunksize=chunk, unordered=True))
            said = {"seconds": time.perf_counter() - start, "count": count}
            assert count == tasks
    said["version"] = mpi4py.__version__
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
