"""Forward and backward of every objective with state from Python, on the inputs of bench/loss_bench.cc.

    ./dev python bench/modules.py NAME...
"""
import sys
import time

import torch

import ood

WIDTH = 128  # of features and embeddings that are not one a class


def step(name, rows, classes):
    o = ood.objectives()[name]
    by_class = "classes" in o.sizes
    sizes = {"classes": classes, "dimension": WIDTH if by_class else classes}
    if not by_class and name not in ("confidence", "energy_margin"):
        sizes["dimension"] = WIDTH
    criterion = getattr(ood.nn, o.class_name)(**{s: sizes[s] for s in o.sizes}).train()
    last = torch.nn.Linear(WIDTH, classes)
    inputs = []
    for i in o.inputs:
        shape = (rows,) if i == "confidence_logit" else (rows, classes if i == "logits" else WIDTH)
        inputs.append(torch.randn(shape, requires_grad=True))
    target = torch.randint(0, classes, (rows,))
    if o.name in {e for e, x in ood.objectives().items() if "left out" not in x.ood_labels}:
        target[:rows // 2] = -1
    if o.target != "target":
        target.clamp_(max=0)
    more = (last,) if o.draws == "outliers" else ()
    leaves = [*inputs, *criterion.parameters(), *last.parameters()]

    def run():
        for leaf in leaves:
            leaf.grad = None
        criterion(*inputs, target, *more).backward()
    return run


def block(call, seconds=0.2):
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        call()
        n += 1
    return (time.perf_counter() - start) / n


if __name__ == "__main__":
    for name in sys.argv[1:] or [n for n, o in ood.objectives().items() if o.state]:
        for rows, classes in ((128, 10), (512, 1000)):
            call = step(name, rows, classes)
            for _ in range(20):
                call()
            times = sorted(block(call) for _ in range(5))
            print(f"{name:28} {rows}x{classes:<5} {1e6 * times[2]:9.1f} us ({1e6 * times[0]:.1f} to {1e6 * times[-1]:.1f})", flush=True)
