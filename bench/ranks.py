"""Training in several processes: pictures a second, and what communication costs.

    .deps/peers/bin/python bench/ranks.py [--repeat N]

Pairs one process on one core with two processes on two cores, and takes the times of Gloo's collectives
between 2 to 4 processes, from which the time of a step with more ranks follows (docs/distributed.md).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = pathlib.Path(os.environ.get("OOD_BUILD", ROOT / "build" / "dev")) / "bin" / "ood"
TASK = ["--data", "fashion-mnist", "--known", "0,1,2,3,4,8", "--outliers", "5,6", "--unknown", "7,9", "--limit-test", "100",
        "--objective", "outlier_exposure", "--epochs", "2", "--validation", "0", "--checkpoint", "1000000"]
NETWORKS = {"small-cnn": 10000, "small-cnn --sync-batchnorm": 10000, "resnet-18 --batch-size 64": 400}

COLLECTIVES = """
import os, time, torch, torch.distributed as dist
torch.set_num_threads(1)
dist.init_process_group("gloo")
for kind, sizes in (("all-reduce", (256, 60_000, 1_000_000, 11_000_000)), ("all-gather", (256, 10_000, 100_000))):
    for n in sizes:
        x = torch.ones(n)
        parts = [torch.empty(n) for _ in range(dist.get_world_size())]
        one = (lambda: dist.all_reduce(x)) if kind == "all-reduce" else (lambda: dist.all_gather(parts, x))
        times = []
        for i in range(120 if n < 10**6 else 25):
            started = time.perf_counter()
            one()
            times.append(time.perf_counter() - started)
        times = sorted(times[5:])
        if dist.get_rank() == 0:
            print(kind, dist.get_world_size(), 4 * n, *(1e3 * times[int(q * (len(times) - 1))] for q in (.25, .5, .75)), flush=True)
os._exit(0)
"""


def pictures_a_second(network, samples, processes):
    with tempfile.TemporaryDirectory() as out:
        command = [str(PROGRAM), *(["launch", "-n", str(processes)] if processes > 1 else []), "train", *TASK, "--limit-train",
                   str(samples), "--threads", "1", "--out", out + "/run", "--model", *network.split()]
        if processes == 1:
            command = ["taskset", "-c", "0", *command]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        lines = [json.loads(l) for l in open(out + "/run/metrics.jsonl")]
    first, second = (l["seconds"] for l in lines if "seconds" in l)  # what starts up is in the first epoch
    return samples * 1.5 / (second - first)  # an outlier for every second sample


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    for network, samples in NETWORKS.items():
        pairs = [[pictures_a_second(network, samples, n) for n in (1, 2)] for _ in range(repeat)]
        ratios = sorted(b / a for a, b in pairs)
        one, two = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        print(f"{network}: {one:.0f} pictures/s in one process, {two:.0f} in two; ratio median {statistics.median(ratios):.2f} "
              f"({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=".py") as worker:
        worker.write(COLLECTIVES)
        worker.flush()
        for processes in (2, 3, 4):
            subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), worker.name],
                           check=True, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"})


if __name__ == "__main__":
    main()
