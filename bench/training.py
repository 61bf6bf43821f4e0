"""Pictures a second of `ood train` beside an ordinary Python loop: the same network, batch, optimizer and objective, the
latter from pytorch-ood, on Fashion-MNIST, six classes known, two as outliers.

    .deps/peers/bin/python bench/training.py [--networks small-cnn,resnet-18] [--rounds N] [--precision bf16] [--device cuda]
                                   [--quality]

Both in turn, each a process of its own; the figure is the median of the rounds, between the least and the most. With
--quality three seeds of three epochs each, and the accuracy and AUROC (msp) of both.
"""
import argparse
import functools
import gzip
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("OOD_BUILD", ROOT / "build" / "dev"))
DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
KNOWN, OUTLIERS, UNKNOWN = (0, 1, 2, 3, 4, 8), (5, 6), (7, 9)
BATCH, STEPS = 128, {"small-cnn": 150, "resnet-18": 12}


def names(classes):
    return ",".join(map(str, classes))


def program(network, precision, device, seed, epochs, train, test):
    """Pictures a second, accuracy, AUROC."""
    with tempfile.TemporaryDirectory() as out:
        command = [BUILD / "bin" / "ood", "train", "--objective", "outlier_exposure", "--known", names(KNOWN), "--outliers",
                   names(OUTLIERS), "--unknown", names(UNKNOWN), "--model", network, "--precision", precision,
                   "--device", device, "--seed", seed,
                   "--epochs", epochs, "--limit-train", train, "--limit-test", test, "--batch-size", BATCH, "--lr", .05,
                   "--validation", 0, "--out", pathlib.Path(out) / "run"]
        r = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if r.returncode:
            raise SystemExit(r.stderr)
        lines = [json.loads(x) for x in (pathlib.Path(out) / "run" / "metrics.jsonl").read_text().splitlines()]
        seconds = [x["seconds"] for x in lines if "seconds" in x][-1]  # since the start
        steps = sum("step" in x for x in lines)
        result = json.loads((pathlib.Path(out) / "run" / "results.json").read_text())["objectives"][0]
        return steps * (BATCH + BATCH // 2) / seconds, result["accuracy"], result["scores"]["msp"]["unknown"]["auroc"]


def loop(network, precision, device, seed, epochs, train, test):
    """The Python side, as one writes it: tensors in a DataLoader, forward, loss, backward, step."""
    import numpy as np
    import torch
    import pytorch_ood.loss as peer
    sys.path.insert(0, str(ROOT / "python"))
    os.environ.setdefault("OOD_BUILD", str(BUILD))
    from ood import networks

    torch.manual_seed(seed)

    def read(part):
        with gzip.open(DATA / f"{part}-images-idx3-ubyte.gz") as f:
            x = torch.from_numpy(np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28).copy())
        with gzip.open(DATA / f"{part}-labels-idx1-ubyte.gz") as f:
            return x, torch.from_numpy(np.frombuffer(f.read(), np.uint8, offset=8).astype(np.int64))

    def of(data, classes, limit):
        x, y = data
        taken = torch.isin(y, torch.tensor(classes)).nonzero()[:, 0][:limit or None]
        place = {c: i for i, c in enumerate(classes)}
        return x[taken], torch.tensor([place[int(v)] for v in y[taken]])

    data = read("train")
    (x, y), (o, _) = of(data, KNOWN, train), of(data, OUTLIERS, train)
    mean, deviation = x.float().mean() / 255, x.float().std() / 255
    normalised = lambda v: (v.to(device).float() / 255 - mean) / deviation
    loader = lambda *t, size: torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*t), size, shuffle=True, drop_last=True)
    inside, outside = loader(x, y, size=BATCH), loader(o, size=BATCH // 2)
    model = networks.make_network(network, 1, 28, 28, len(KNOWN)).train().to(device)
    criterion = peer.OutlierExposureLoss(alpha=.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=.05, momentum=.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, .05, total_steps=epochs * len(inside) + 1, pct_start=.05)
    steps, start = 0, time.perf_counter()
    for _ in range(epochs):
        outliers = iter(outside)
        for pictures, labels in inside:
            try:
                made, = next(outliers)
            except StopIteration:
                outliers = iter(outside)
                made, = next(outliers)
            batch = normalised(torch.cat([pictures, made]))
            target = torch.cat([labels, torch.full((len(made),), -1)]).to(device)
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(batch)
            loss = criterion(logits.float(), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            steps += 1
    if device != "cpu":
        torch.cuda.synchronize(device)
    speed = steps * (BATCH + BATCH // 2) / (time.perf_counter() - start)
    model.eval()
    tests = read("t10k")
    with torch.no_grad():
        (x, y), (u, _) = of(tests, KNOWN, test), of(tests, UNKNOWN, test)
        inside, outside = [torch.cat([model(normalised(b)) for b in v.split(500)]).cpu() for v in (x, u)]
    from ood import metrics
    auroc = metrics.detection(*[-v.softmax(1).amax(1) for v in (inside, outside)]).auroc
    return speed, (inside.argmax(1) == y).float().mean().item(), float(auroc)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="small-cnn,resnet-18")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--json", action="store_true", help="the table in JSON on stdout, the lines on stderr")
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.loop:
        return print(json.dumps(loop(*json.loads(a.loop))))
    rows, say = [], functools.partial(print, flush=True, file=sys.stderr if a.json else sys.stdout)
    for network in a.networks.split(","):
        sizes = (3, 0, 0) if a.quality or a.device != "cpu" else (1, STEPS[network] * BATCH, 1)
        pairs = []
        for seed in range(3 if a.quality else a.rounds):
            arguments = (network, a.precision, a.device, seed, *sizes)
            theirs = subprocess.run([sys.executable, __file__, "--loop", json.dumps(arguments)], capture_output=True, text=True)
            if theirs.returncode:
                raise SystemExit(theirs.stderr)
            pairs.append((program(*arguments), json.loads(theirs.stdout.splitlines()[-1])))
        ours, loops, ratios = ([f(p) for p in pairs] for f in (lambda p: p[0][0], lambda p: p[1][0], lambda p: p[0][0] / p[1][0]))
        middle = lambda v: f"{statistics.median(v):.0f} ({min(v):.0f} to {max(v):.0f})"
        row = {"network": network, "precision": a.precision, "device": a.device, "ours": ours, "loop": loops, "ratio": statistics.median(ratios)}
        say(f"{network} {a.precision} {a.device}: ood train {middle(ours)} pictures a second, loop {middle(loops)}, ratio {row['ratio']:.2f}"
            f" ({min(ratios):.2f} to {max(ratios):.2f})")
        if a.quality:
            for i, what in ((1, "accuracy"), (2, "AUROC")):
                say(f"  {what}: ood train {', '.join(f'{p[0][i]:.4f}' for p in pairs)}; loop {', '.join(f'{p[1][i]:.4f}' for p in pairs)}")
        rows.append(row)
    if a.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
