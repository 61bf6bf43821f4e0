"""Every class of ood.compat.pytorch_ood.loss against the class of that name in pytorch_ood.loss, forward + backward.

A class is called as its users call it, with gradients set to None before each step; a distance loss with its own
distance(). Half of the labels are OOD. The queues of VOS are full, the state in which it draws outliers.
"""
import math
import os
import pathlib
import statistics
import sys

import torch

ROOT = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("OOD_BUILD", str(ROOT / "build" / "dev"))
sys.path.insert(0, str(ROOT / "python"))
import ood.compat.pytorch_ood.loss as compat  # noqa: E402
import pytorch_ood.loss as peer  # noqa: E402

SHAPES = [(128, 10), (512, 1000)]
EMBEDDING, QUEUE, DRAWN = 64, 20, 200


class Batch:
    def __init__(self, rows, classes):
        g = torch.Generator().manual_seed(0)
        leaf = lambda *shape: torch.randn(*shape, generator=g).requires_grad_()
        self.rows, self.classes = rows, classes
        self.logits, self.one_more, self.embedding = leaf(rows, classes), leaf(rows, classes + 1), leaf(rows, EMBEDDING)
        self.confidence = torch.rand(rows, 1, generator=g).requires_grad_()
        self.target = torch.randint(0, classes, (rows,), generator=g)
        self.target[::2] = -1
        self.leaves = [self.logits, self.one_more, self.embedding, self.confidence]


def layer(inputs, outputs):
    torch.manual_seed(0)
    made = torch.nn.Linear(inputs, outputs)
    torch.nn.init.uniform_(made.weight)
    return made


def synthesis(library, b):
    c = library.VirtualOutlierSynthesizingRegLoss(layer(1, 2), layer(b.classes, 1), layer(EMBEDDING, b.classes),
                                                  sample_number=QUEUE, sample_from=DRAWN)
    g = torch.Generator().manual_seed(1)
    if library is peer:
        c.data_dict = torch.randn(b.classes, QUEUE, EMBEDDING, generator=g)
        c.number_dict = {k: QUEUE for k in range(b.classes)}
    else:
        for _ in range(QUEUE):
            c.queues.draw(torch.randn(b.classes, EMBEDDING, generator=g), torch.arange(b.classes))
        assert c.queues.full()
    return c


def cases(m, b):
    """Class, and how it is called."""
    direct = lambda c: c(b.logits, b.target)
    by_distance = lambda x: lambda c: c(c.distance(x), b.target)
    zero = torch.zeros(EMBEDDING)
    phi = layer(1, 1)
    return [
        (m.CrossEntropyLoss(), direct), (m.OutlierExposureLoss(), direct), (m.EntropicOpenSetLoss(), direct),
        (m.EnergyRegularizedLoss(margin_in=-9., margin_out=-3.), direct), (m.LogitNorm(.04), direct),
        (m.BackgroundClassLoss(b.classes), lambda c: c(b.one_more, b.target)),
        (m.ObjectosphereLoss(), lambda c: c(b.logits, b.embedding, b.target)),
        (m.ConfidenceLoss(), lambda c: c(b.logits, b.confidence, b.target)),
        (m.CACLoss(b.classes), by_distance(b.logits)), (m.CenterLoss(b.classes, EMBEDDING), by_distance(b.embedding)),
        (m.IILoss(b.classes, EMBEDDING), lambda c: c(b.embedding, b.target)),
        (m.DeepSVDDLoss(EMBEDDING, center=zero), lambda c: c(b.embedding, b.target)),
        (m.DeepSADLoss(EMBEDDING, center=zero), lambda c: c(b.embedding, b.target)),
        (m.MCHADLoss(b.classes, EMBEDDING, margin=1.), by_distance(b.embedding)),
        (m.VOSRegLoss(layer(1, 2), layer(b.classes, 1)), direct),
        (synthesis(m, b), lambda c: c(b.logits, b.embedding, b.target)),
        (m.EnergyMarginLoss(1., -10.), lambda c: c(b.logits, b.target, phi)),
    ]


def step(criterion, call, b):
    def run():
        for t in b.leaves + list(criterion.parameters()):
            t.grad = None
        call(criterion).backward()
    return run


def measure(block, blocks, seconds):
    """block(call, seconds) gives the mean time of a call. Prints and returns one row a class and shape."""
    rows = []
    print("\nfrom Python, classes of ood.compat against pytorch-ood")
    for n, classes in SHAPES:
        b = Batch(n, classes)
        mine = []
        for (a, call_a), (c, call_c) in zip(cases(compat, b), cases(peer, b)):
            times = [(block(step(a, call_a, b), seconds), block(step(c, call_c, b), seconds)) for _ in range(blocks)]
            row = {"class": type(a).__name__, "rows": n, "classes": classes,
                   "ours_us": 1e6 * statistics.median(t[0] for t in times),
                   "peer_us": 1e6 * statistics.median(t[1] for t in times),
                   "ratio": statistics.median(t[1] / t[0] for t in times)}
            mine.append(row)
            print(f"{row['class']:34} {f'{n}x{classes}':>9} {row['ours_us']:11.1f} {row['peer_us']:11.1f} {row['ratio']:9.1f}",
                  flush=True)
        ratios = [r["ratio"] for r in mine]
        print(f"{'geometric mean, least':34} {'':33} {math.exp(statistics.fmean(map(math.log, ratios))):9.1f} {min(ratios):5.1f}")
        rows += mine
    return rows
