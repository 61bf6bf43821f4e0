"""Forward + backward of each objective against pytorch-ood, called from one process.

Ours and the peer's alternate block by block, so that a change of the machine's speed meets both; the
figure of a cell is the median over blocks, the ratio the median of the blocks' ratios. The floor is
copy_ of the logits into a preallocated tensor. Half of the labels are OOD.
"""
import argparse
import json
import math
import os
import pathlib
import resource
import statistics
import time
import warnings

import torch

warnings.filterwarnings("ignore")
ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("OOD_BUILD", ROOT / "build" / "dev"))
torch.ops.load_library(str(BUILD / "lib" / "libood.so"))
import pytorch_ood.loss as peer  # noqa: E402  (after the warnings filter)

SHAPES = [(128, 10), (512, 1000), (4096, 1000)]
# name, parameters, balance, the peer's criterion
ROWS = [
    ("cross_entropy", [0.], "default", peer.CrossEntropyLoss()),
    ("outlier_exposure", [.5], "whole_batch", peer.OutlierExposureLoss(alpha=.5)),
    ("entropic_open_set", [1.], "default", peer.EntropicOpenSetLoss()),
    ("energy_regularized", [.1, -9., -3.], "default",
     peer.EnergyRegularizedLoss(alpha=.1, margin_in=-9, margin_out=-3)),
    ("logit_norm", [.04], "default", peer.LogitNorm(t=.04)),
]


def block(call, seconds):
    """Mean time of a call, repeated for about that long."""
    call()
    n, start = 0, time.perf_counter()
    while True:
        call()
        n += 1
        now = time.perf_counter()
        if now - start >= seconds:
            return (now - start) / n


def gradient_memory(call, leaf):
    """Bytes that one call adds to the tensors alive at its peak, by the profiler's allocations."""
    leaf.grad = None  # its memory is not to be counted as freed by the call
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as p:
        call()
    alive = most = 0
    for event in p.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            most = max(most, alive)
    return most


def measure(rows, classes, name, parameters, balance, criterion, blocks, seconds):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(rows, classes, generator=g).requires_grad_()
    y = torch.randint(0, classes, (rows,), generator=g)
    y[::2] = -1
    sink = torch.empty_like(x)

    def ours():
        x.grad = None
        torch.ops.ood.loss(x, y, name, parameters, None, None, "mean", balance).backward()

    def theirs():
        x.grad = None
        criterion(x, y).backward()

    def floor():
        with torch.no_grad():
            sink.copy_(x)

    times = {"ours": [], "peer": [], "floor": []}
    for _ in range(blocks):
        for key, call in (("ours", ours), ("peer", theirs), ("floor", floor)):
            times[key].append(block(call, seconds))
    logits = x.numel() * 4
    return {
        "objective": name, "rows": rows, "classes": classes,
        **{k + "_us": 1e6 * statistics.median(v) for k, v in times.items()},
        "ratio": statistics.median(p / o for p, o in zip(times["peer"], times["ours"])),
        "ours_memory": gradient_memory(ours, x) / logits,
        "peer_memory": gradient_memory(theirs, x) / logits,
    }


def cpp_rows(path):
    """Ours over torch's cross-entropy, from the C++ benchmark's JSON."""
    times = {}
    for b in json.loads(pathlib.Path(path).read_text())["benchmarks"]:
        objective, who, rows, classes, *_ = b["name"].split("/")
        if objective == "cross_entropy":
            times[(int(rows), int(classes), who)] = b["real_time"] / 1e3
    return [{"rows": r, "classes": c, "ours_us": times[(r, c, "ours")], "torch_us": times[(r, c, "torch")],
             "share": times[(r, c, "ours")] / times[(r, c, "torch")]} for r, c in SHAPES]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--cpp", help="JSON of the C++ benchmark")
    p.add_argument("--out", default=str(ROOT / "bench" / "results.json"))
    p.add_argument("--threads", type=int, default=torch.get_num_threads())
    p.add_argument("--blocks", type=int, default=7)
    p.add_argument("--seconds", type=float, default=.15, help="length of a block")
    a = p.parse_args()
    torch.set_num_threads(a.threads)

    cells = []
    print(f"forward + backward from Python, float32, {a.threads} threads, peer: pytorch-ood 0.4.0")
    print(f"{'objective':20} {'shape':>10} {'ours us':>9} {'peer us':>9} {'copy us':>9} {'peer/ours':>9}"
          f" {'memory ours':>11} {'peer':>5}   (memory in multiples of the logits)")
    for name, parameters, balance, criterion in ROWS:
        mine = []
        for rows, classes in SHAPES:
            c = measure(rows, classes, name, parameters, balance, criterion, a.blocks, a.seconds)
            mine.append(c)
            print(f"{name:20} {f'{rows}x{classes}':>10} {c['ours_us']:9.1f} {c['peer_us']:9.1f} {c['floor_us']:9.1f}"
                  f" {c['ratio']:9.1f} {c['ours_memory']:11.2f} {c['peer_memory']:5.2f}", flush=True)
        mean = math.exp(sum(math.log(c["ratio"]) for c in mine) / len(mine))
        print(f"{name:20} {'geom. mean':>10} {'':29} {mean:9.1f}")
        cells += mine
    import compat
    import large  # after the library is loaded
    classes = compat.measure(block, max(3, a.blocks // 2), a.seconds)
    cells_large = large.measure(peer)
    result = {"threads": a.threads, "torch": torch.__version__, "python": cells, "compat": classes, "large": cells_large,
              "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if a.cpp:
        result["cpp"] = cpp_rows(a.cpp)
        print("\nfrom C++, cross-entropy, all labels ID")
        for r in result["cpp"]:
            print(f"{r['rows']}x{r['classes']}: ours {r['ours_us']:.1f} us, torch {r['torch_us']:.1f} us,"
                  f" ours/torch {r['share']:.2f}")
    pathlib.Path(a.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
