"""What `./dev bench` calls: every objective of the registry, the same of the peers, and the floors under them.

Half of the labels are OOD where the objective takes such, none where it leaves them out. Gradients are dropped before each
call. Ours and the peers' are called as users do, through a module.
"""
import functools
import importlib
import os
import pathlib
import sys

import torch

ROOT = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("OOD_BUILD", str(ROOT / "build" / "dev"))
sys.path.insert(0, str(ROOT / "python"))
import ood  # noqa: E402
import ood.compat.pytorch_ood.loss as compat  # noqa: E402
import pytorch_ood.loss as peer  # noqa: E402

SHAPES = [(128, 10), (65536, 10), (8192, 128), (512, 1000), (4096, 1000), (16384, 1000)]
DENSE = (2, 19, 512, 512)
FEATURES, QUEUE, DRAWN = 64, 20, 200
PRODUCTS = [(4096, 1000, 512), (512, 1000, 512)]
ops = torch.ops.ood


class Batch:
    """Inputs of any objective for logits [N, C] or [N, C, H, W]."""

    def __init__(self, shape, dtype=torch.float32):
        g = torch.Generator().manual_seed(0)
        leaf = lambda *size: torch.randn(*size, generator=g).to(dtype).requires_grad_()
        self.dtype, (self.rows, self.classes, *places) = dtype, shape
        self.logits, self.one_more = leaf(*shape), leaf(self.rows, self.classes + 1, *places)
        self.embedding, self.confidence = leaf(self.rows, FEATURES), leaf(self.rows, 1)
        self.known = torch.randint(0, self.classes, (self.rows, *places), generator=g)
        self.target = torch.where(torch.arange(self.known.numel()).reshape(self.known.shape) % 2 == 0, -1, self.known)
        self.leaves = [self.logits, self.one_more, self.embedding, self.confidence]


def step(call, leaves):
    def run():
        for t in leaves:
            t.grad = None
        call().backward()
    return run


# Objectives that are a formula of logits: parameters, balance, and the class of pytorch-ood that is the same function then.
FORMULAS = {
    "cross_entropy": ([0.], "default", lambda b: peer.CrossEntropyLoss()),
    "outlier_exposure": ([.5], "whole_batch", lambda b: peer.OutlierExposureLoss(alpha=.5)),
    "entropic_open_set": ([1.], "default", lambda b: peer.EntropicOpenSetLoss()),
    "energy_regularized": ([.1, -9., -3.], "default", lambda b: peer.EnergyRegularizedLoss(alpha=.1, margin_in=-9, margin_out=-3)),
    "logit_norm": ([.04], "default", lambda b: peer.LogitNorm(t=.04)),
    "background_class": ([], "default", lambda b: peer.BackgroundClassLoss(b.classes)),
}


def labels(o, b):
    return b.known if "left out" in o.ood_labels else b.target


def read_by(o, b):
    """What an objective reads first: its floors are that tensor's."""
    if o.name == "background_class":
        return b.one_more
    return b.logits if o.inputs[0] == "logits" or o.name == "cac" else b.embedding


def incerto(name):
    training = importlib.import_module("incerto.ood.training")
    return {"outlier_exposure": training.OutlierExposureLoss, "energy_gap": training.EnergyRegularizedLoss}.get(name)


def rows(o, b, compiled):
    """{who: call} of an objective that is a formula of logits."""
    x, target = read_by(o, b), labels(o, b)
    parameters, balance, theirs = FORMULAS.get(o.name, ([p.default for p in o.parameters], "default", None))
    named = {p.python_name: value for p, value in zip(o.parameters, parameters)}
    ours = getattr(ood.nn, o.class_name)(**named, balance=balance)
    calls = {"ours": step(lambda: ours(x, target), [x])}
    if theirs:
        criterion = theirs(b)
        calls["pytorch-ood"] = step(lambda: criterion(x, target), [x])
        if compiled:
            fast = torch.compile(theirs(b), dynamic=False)
            calls["compiled"] = step(lambda: fast(x, target), [x])
    if x.dim() == 2 and incerto(o.name):
        inside, made = x.detach()[1::2].clone().requires_grad_(), x.detach()[::2].clone().requires_grad_()
        two, y = incerto(o.name)(), b.target[1::2].contiguous()
        calls["incerto"] = step(lambda: two(inside, y, made), [inside, made])
    if o.name == "cross_entropy":
        calls["torch"] = step(lambda: torch.nn.functional.cross_entropy(x, b.known), [x])
    return calls, x


def layer(inputs, outputs, dtype):
    torch.manual_seed(0)
    made = torch.nn.Linear(inputs, outputs, dtype=dtype)
    torch.nn.init.uniform_(made.weight)
    return made


def synthesis(library, b):
    """With full queues, the state in which it draws outliers."""
    c = library.VirtualOutlierSynthesizingRegLoss(layer(1, 2, b.dtype), layer(b.classes, 1, b.dtype),
                                                  layer(FEATURES, b.classes, b.dtype),
                                                  sample_number=QUEUE, sample_from=DRAWN)
    g = torch.Generator().manual_seed(1)
    if library is peer:
        c.data_dict = torch.randn(b.classes, QUEUE, FEATURES, generator=g)
        c.number_dict = {k: QUEUE for k in range(b.classes)}
    else:
        for step in range(QUEUE):
            queues = [q for name, q in c.queues.named_buffers() if name != "steps"]
            torch.ops.ood.vos_enqueue_(*queues, torch.randn(b.classes, FEATURES, generator=g), torch.arange(b.classes), step)
            c.queues.steps += 1
    return c


def by_distance(of):
    return lambda c, b: c(c.distance(getattr(b, of)), b.target)


# Objectives with inputs or state of their own: how a library makes the class, and how it is called.
CLASSES = {
    "objectosphere": (lambda m, b: m.ObjectosphereLoss(), lambda c, b: c(b.logits, b.embedding, b.target)),
    "confidence": (lambda m, b: m.ConfidenceLoss(), lambda c, b: c(b.logits, b.confidence.sigmoid(), b.target)),
    "cac": (lambda m, b: m.CACLoss(b.classes), by_distance("logits")),
    "center": (lambda m, b: m.CenterLoss(b.classes, FEATURES), by_distance("embedding")),
    "mchad": (lambda m, b: m.MCHADLoss(b.classes, FEATURES, margin=1.), by_distance("embedding")),
    "ii": (lambda m, b: m.IILoss(b.classes, FEATURES), lambda c, b: c(b.embedding, b.target)),
    "deep_svdd": (lambda m, b: m.DeepSVDDLoss(FEATURES, center=torch.zeros(FEATURES)), lambda c, b: c(b.embedding, b.target)),
    "deep_sad": (lambda m, b: m.DeepSADLoss(FEATURES, center=torch.zeros(FEATURES)), lambda c, b: c(b.embedding, b.target)),
    "vos_reg": (lambda m, b: m.VOSRegLoss(layer(1, 2, b.dtype), layer(b.classes, 1, b.dtype)), lambda c, b: c(b.logits, b.target)),
    "virtual_outlier_synthesis": (synthesis, lambda c, b: c(b.logits, b.embedding, b.target)),
    "energy_margin": (lambda m, b: m.EnergyMarginLoss(1., -10.), lambda c, b: c(b.logits, b.target, b.last)),
}


def classes(o, b):
    """{who: call} of any other objective."""
    b.last = layer(1, 1, b.dtype)
    calls = {}
    if o.name in CLASSES:
        make, call = CLASSES[o.name]
        for who, library in (("ours", compat), ("pytorch-ood", peer)):
            c = make(library, b)
            calls[who] = step(functools.partial(call, c, b), [*b.leaves, *c.parameters()])
        return calls
    sizes = {"classes": b.classes, "dimension": FEATURES}
    c = getattr(ood.nn, o.class_name)(**{s: sizes[s] for s in o.sizes}).train()
    inputs = [{"logits": b.logits, "confidence_logit": b.confidence[:, 0]}.get(name, b.embedding) for name in o.inputs]
    target = b.target.clamp(max=0) if o.target == "semi_target" else b.target
    return {"ours": step(lambda: c(*inputs, target), [*b.leaves, *c.parameters()])}


def floors(x):
    """What no loss of x can be faster than, nearly."""
    sink = torch.empty_like(x)
    plain = x.detach()
    return {"copy": lambda: sink.copy_(plain), "exp": lambda: torch.exp(plain), "sum": step(lambda: x.sum(), [x])}


def wide_mchad(rows, centers, features):
    """MCHAD of more features than the other cells have, as the last layer of a large network."""
    b = Batch((rows, centers))
    b.embedding = torch.randn(rows, features, generator=torch.Generator().manual_seed(0)).requires_grad_()
    made = [library.MCHADLoss(centers, features, margin=1.) for library in (compat, peer)]
    return {who: step(functools.partial(lambda c: c(c.distance(b.embedding), b.target), c), [b.embedding, *c.parameters()])
            for who, c in zip(("ours", "pytorch-ood"), made)}


def products(rows, centers, features):
    """Full distances with both gradients, and the three matrix products of those shapes."""
    g = torch.Generator().manual_seed(0)
    x, c = (torch.randn(n, features, generator=g).requires_grad_() for n in (rows, centers))
    w, plain_x, plain_c = torch.randn(rows, centers, generator=g), x.detach(), c.detach()

    def ours():
        x.grad = c.grad = None
        ops.center_distances(x, c, True).backward(w)

    return {"ours": ours, "products": lambda: (plain_x @ plain_c.t(), w @ plain_c, w.t() @ plain_x)}
