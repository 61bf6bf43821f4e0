"""Objectives without outliers: AUROC on the unknown classes of a training in Python (the peer's objective, or
a closed form where the peer is wrong) beside the program's, same network, recipe and seeds.

    bench/quality.py --ours DIR [--seeds 0,1,2] [--epochs 2]   DIR/SEED/results.json of `ood compare`
"""
import argparse
import gzip
import json
import math
import os
import pathlib
import sys
import warnings

import numpy as np
import torch

warnings.filterwarnings("ignore")
ROOT = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("OOD_BUILD", str(ROOT / "build" / "dev"))
sys.path.insert(0, str(ROOT / "python"))
import ood  # noqa: E402
import pytorch_ood.loss as peer  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

FOLDER = "/usr/share/datasets/fashion-mnist"
KNOWN, UNKNOWN = [0, 1, 2, 3, 4, 8], [7, 9]


def load(part, classes):
    def read(name, offset):
        with gzip.open(f"{FOLDER}/{part}-{name}-ubyte.gz") as f:
            return np.frombuffer(f.read(), np.uint8, offset=offset)
    y = torch.from_numpy(read("labels-idx1", 8).astype(np.int64))
    x = torch.from_numpy(read("images-idx3", 16).reshape(-1, 1, 28, 28).copy())
    rows = torch.isin(y, torch.tensor(classes))
    return x[rows], torch.tensor([classes.index(c) for c in y[rows].tolist()])


def network_of(name):
    one_class = name == "deep_svdd"
    net = ood.networks.make_network("small-cnn", 1, 28, 28, 32 if one_class else len(KNOWN), not one_class)
    for m in net.modules():
        if isinstance(m, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
    return net


def train(name, seed, epochs):
    torch.manual_seed(seed)
    x, y = load("train", KNOWN)
    keep = torch.randperm(len(x))[:int(.9 * len(x))]
    x, y = x[keep], y[keep]
    mean, deviation = (x / 255.).mean(), (x / 255.).std()
    inputs = lambda t: (t / 255. - mean) / deviation
    net, k = network_of(name), len(KNOWN)
    forward = lambda t: ood.networks.forward(net, inputs(t))

    def all_of(t, part=0):
        net.eval()
        with torch.no_grad():
            out = torch.cat([forward(b)[part] for b in t.split(500)])
        net.train()
        return out

    modules, lr, own = [], .1, None
    if name == "cross_entropy":
        criterion = peer.CrossEntropyLoss()
        loss = lambda z, f, y: criterion(z, y)
    elif name == "logit_norm":
        criterion = peer.LogitNorm(.04)
        loss = lambda z, f, y: criterion(z, y)
    elif name == "center":  # Wen et al.: cross-entropy + weight times the mean squared distance to the own center
        centers = torch.nn.Parameter(torch.randn(k, 64))
        modules = [centers]
        loss = lambda z, f, y: torch.nn.functional.cross_entropy(z, y) + .003 * (f - centers[y]).square().sum(1).mean()
    elif name == "cac":  # Miller et al., all true negatives
        anchors = [10. * torch.eye(k)]

        def loss(z, f, y):
            d = torch.cdist(z, anchors[0])
            return torch.nn.functional.cross_entropy(-d, y) + .1 * d.gather(1, y[:, None]).mean()

        def own(t):
            d = torch.cdist(all_of(t), anchors[0])
            return (d * (1 - (-d).softmax(1))).amin(1)
    elif name == "ii":
        lr = .01  # on the normalised features, the last layer beside it, as the authors' code does
        criterion, norm = peer.IILoss(k, 64), torch.nn.BatchNorm1d(64, affine=False)
        loss = lambda z, f, y: criterion(norm(f), y) + torch.nn.functional.cross_entropy(z, y)

        def own(t):
            norm.eval()
            a = norm(all_of(x, 1))
            means = torch.stack([a[y == c].mean(0) for c in range(k)])
            return torch.cdist(norm(all_of(t, 1)), means).square().amin(1)
    else:
        lr = .01
        start = all_of(x).mean(0)
        center = torch.where(start.abs() < .1, start.sign() * .1, start)
        criterion = peer.DeepSVDDLoss(32, center=center)
        loss = lambda z, f, y: criterion(z, y)
        own = lambda t: criterion.distance(all_of(t))

    optimizer = torch.optim.SGD([*net.parameters(), *modules], lr=lr, momentum=.9, nesterov=True, weight_decay=5e-4)
    per_epoch = len(x) // 128
    total = per_epoch * epochs
    rising = .05 * total
    for step in range(total):
        if step % per_epoch == 0:
            order = torch.randperm(len(x))
        rate = (step + 1) / rising if step + 1 <= rising else .5 * (1 + math.cos(math.pi * (step - rising) / max(total - rising, 1)))
        optimizer.param_groups[0]["lr"] = lr * rate
        rows = order[step % per_epoch * 128:][:128]
        z, f = forward(x[rows])
        value = loss(z, f, y[rows])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    if name == "cac":  # anchors from the class means of what is classified correctly
        z = all_of(x)
        right = torch.cdist(z, anchors[0]).argmin(1) == y
        anchors[0] = torch.stack([z[right & (y == c)].mean(0) for c in range(k)])
    score = own or (lambda t: ood.scores.msp(all_of(t).double()))
    a, b = score(load("t10k", KNOWN)[0]), score(load("t10k", UNKNOWN)[0])
    return roc_auc_score(np.r_[np.zeros(len(a)), np.ones(len(b))], torch.cat([a, b]).double().numpy())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--objectives", default="cross_entropy,logit_norm,center,cac,ii,deep_svdd")
    options = parser.parse_args()
    seeds = [int(s) for s in options.seeds.split(",")]
    print("| objective | program, mean of seeds | Python | difference, standard error |\n|---|---|---|---|")
    for name in options.objectives.split(","):
        ours = []
        for s in seeds:
            results = json.loads((options.ours / str(s) / "results.json").read_text())["objectives"]
            ours.append(next(o for o in results if o["objective"] == name)["ood"]["unknown"]["auroc"])
        theirs = [train(name, s, options.epochs) for s in seeds]
        a, b = sum(ours) / len(ours), sum(theirs) / len(theirs)
        show = lambda v: " ".join(f"{x:.3f}" for x in v)
        error = math.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / len(seeds)) if len(seeds) > 1 else math.nan
        print(f"| {name} | {a:.3f} ({show(ours)}) | {b:.3f} ({show(theirs)}) | {a - b:+.3f}, {error:.3f} |", flush=True)


if __name__ == "__main__":
    main()
