"""The large cells: dense prediction, distances to many centers, a step of VOS that draws its outliers.

Ours and pytorch-ood alternate in one process; the figure is the median over rounds of the ratio of medians.
"""
import statistics
import time

import torch

from compat import compat  # puts the package on the path, too

ops = torch.ops.ood


def dense(peer):
    x = torch.randn(2, 19, 512, 512).requires_grad_()
    y = torch.randint(0, 19, (2, 512, 512))
    y[:, ::2] = -1
    theirs = peer.OutlierExposureLoss(alpha=.5)
    return "outlier_exposure 2x19x512x512", [x], \
        lambda: ops.loss(x, y, "outlier_exposure", [.5], None, None, "mean", "whole_batch"), lambda: theirs(x, y), 12, 3


def center(peer):
    """Ours computes what the loss needs, the distance to the own center; the peer all of them."""
    x, y = torch.randn(4096, 512).requires_grad_(), torch.randint(0, 1000, (4096,))
    c = torch.randn(1000, 512).requires_grad_()
    theirs = peer.CenterLoss(1000, 512)
    return "center 4096x1000, 512 features", [x, c, *theirs.parameters()], \
        lambda: ops.center_loss(x, y, c, 0.), lambda: theirs(theirs.centers(x), y), 10, 2


def ii(peer):
    x, y = torch.randn(4096, 512).requires_grad_(), torch.randint(0, 1000, (4096,))
    ours, theirs = compat.IILoss(1000, 512), peer.IILoss(1000, 512)
    return "ii 4096x1000, 512 features", [x], lambda: ours(x, y), lambda: theirs(x, y), 10, 1


def synthesis(peer, classes=10, features=128, queue=1000, rows=128, sample_from=10000):
    state = [torch.randn(classes, queue, features), torch.full((classes,), queue),
             torch.zeros(classes, features, dtype=torch.double), torch.zeros(features, features, dtype=torch.double)]
    flat = state[0].double().reshape(-1, features)
    state[2], state[3] = state[0].double().sum(1), flat.t() @ flat
    last, phi = torch.nn.Linear(features, classes), torch.nn.Linear(1, 2)
    w = torch.rand(classes).requires_grad_()
    x, y = torch.randn(rows, features).requires_grad_(), torch.randint(0, classes, (rows,))
    steps = iter(range(10 ** 9))
    labels = torch.cat([y, torch.full((classes,), -1)])

    def ours():
        logits = last(x)
        ops.vos_enqueue_(*state, x.detach(), y, next(steps))
        drawn = ops.vos_sample((state[2] / queue).float(), ops.vos_covariance(*state), sample_from, 1)
        return ops.vos_reg_loss(torch.cat([logits, last(drawn)]), labels, w, phi.weight, phi.bias)

    energy = torch.nn.Linear(classes, 1)
    torch.nn.init.uniform_(energy.weight)
    theirs = peer.VirtualOutlierSynthesizingRegLoss(torch.nn.Linear(1, 2), energy, last, sample_number=queue,
                                                    sample_from=sample_from)
    theirs.data_dict.normal_()
    theirs.number_dict = {k: queue for k in range(classes)}
    leaves = [x, w, *last.parameters(), *phi.parameters(), *theirs.parameters()]
    return f"vos step {classes}x{features}, queue {queue}", leaves, ours, lambda: theirs(last(x), x, y), 40, 1


def timed(call, leaves, repeats):
    times = []
    call().backward()  # not timed: the other's turn has left the caches to itself
    for _ in range(repeats):
        for t in leaves:
            t.grad = None
        start = time.perf_counter()
        call().backward()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(peer, rounds=5):
    print("\nlarge cells, forward + backward")
    rows = []
    for make in (dense, center, ii, synthesis):
        name, leaves, ours, theirs, n, m = make(peer)
        # Fresh memory of the process comes slowly at first.
        timed(ours, leaves, 2 * n), timed(theirs, leaves, m)
        pairs = [(timed(ours, leaves, n), timed(theirs, leaves, m)) for _ in range(rounds)]
        row = {"cell": name, "ours_ms": 1e3 * statistics.median(p[0] for p in pairs),
               "peer_ms": 1e3 * statistics.median(p[1] for p in pairs),
               "ratio": statistics.median(b / a for a, b in pairs)}
        print(f"{name:34} ours {row['ours_ms']:9.2f} ms  peer {row['peer_ms']:9.1f} ms  peer/ours {row['ratio']:8.1f}",
              flush=True)
        rows.append(row)
    return rows


def main():
    """With the allocator's defaults, where a large gradient is fresh memory in each step: adds them to a results file."""
    import json
    import pathlib
    import sys
    import warnings

    warnings.filterwarnings("ignore")
    import pytorch_ood.loss as peer
    path = pathlib.Path(sys.argv[1])
    result = json.loads(path.read_text())
    result["large_default_allocator"] = measure(peer)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
