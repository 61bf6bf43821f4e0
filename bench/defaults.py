"""Every objective with its defaults on six kinds of data: accuracy beside cross_entropy's, own score and the run's
score, means over seeds. Run by hand: .deps/peers/bin/python bench/defaults.py [--tasks mnist,drawn] [--objectives all]
[--seeds 3] [--program FILE] [--pictures FOLDER with mnist/ and omniglot/ in idx format]"""
import argparse
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from shapes import shapes  # noqa: E402

ONE_CLASS = ("deep_svdd", "deep_sad")


def idx(path, offset):
    with gzip.open(path) as f:
        return np.frombuffer(f.read(), np.uint8, offset=offset)


def arrays(folder, x, y):
    folder.mkdir(parents=True)
    np.save(folder / "train.npy", x)
    np.save(folder / "train_labels.npy", y.astype(np.int64))
    return folder


def omniglot(folder, pictures):
    x = idx(pictures / "omniglot/omniglot28-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    return arrays(folder, x, idx(pictures / "omniglot/omniglot28-alphabet-labels-idx1-ubyte.gz", 8))


def drawn(folder, _):
    return arrays(folder, *shapes(64))


def embeddings(classes, rows):
    def make(folder, _):
        random = np.random.default_rng(classes)
        centers = random.normal(size=(classes, 128))
        y = np.repeat(np.arange(classes), rows)
        x = centers[y] + 1.5 * random.normal(size=(len(y), 128))
        return arrays(folder, np.maximum(x, 0).astype(np.float32), y)  # as behind a ReLU
    return make


TASKS = {  # data, classes for each part, flags
    "fashion": (lambda *_: "fashion-mnist", "0,1,2,3,4,8", "5,6", "7,9", ["--epochs", 3]),
    "mnist": (lambda _, p: p / "mnist", "0-5", "6,7", "8,9", ["--epochs", 2, "--limit-train", 6000]),
    "omniglot": (omniglot, "0-3", "4,5", "6,7", ["--epochs", 10]),
    "drawn": (drawn, "0-2", "3", "4", ["--epochs", 10]),
    "embeddings10": (embeddings(10, 200), "0-5", "6,7", "8,9", ["--epochs", 10]),
    "embeddings100": (embeddings(100, 100), "0-79", "80-89", "90-99", ["--epochs", 10]),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--objectives", default="all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--program", default=str(ROOT / "build/dev/bin/ood"))
    parser.add_argument("--pictures", type=pathlib.Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--held-out", action="store_true", help="accuracy on held-out training data: what a default may "
                        "be chosen by")
    parser.add_argument("flags", nargs="*", help="further flags of `ood compare`, after --")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name in a.tasks.split(","):
            make, known, outliers, unknown, flags = TASKS[name]
            out = pathlib.Path(scratch) / f"{name}-runs"
            command = [a.program, "compare", "--data", make(pathlib.Path(scratch) / name, a.pictures), "--known", known,
                       "--outliers", outliers, "--unknown", unknown, "--objectives", a.objectives, "--seeds", a.seeds,
                       "--limit-test", 2000, "--out", out, *flags, *a.flags]
            r = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=os.environ)
            if r.returncode not in (0, 4):
                raise SystemExit(r.stderr)
            runs = {}
            folders = [out / f"seed-{s}" for s in range(a.seeds)] if a.seeds > 1 else [out]
            for folder in folders:
                for file in sorted(folder.glob("*/results.json")):
                    o = json.loads(file.read_text())["objectives"][0]
                    own = np.mean([s["auroc"] for s in o["scores"][o["own_score"]].values()])
                    joint = np.mean([s["auroc"] for s in o["ood"].values()])
                    runs.setdefault(o["objective"], []).append((o["validation_accuracy" if a.held_out else "accuracy"], own, joint, o["seconds"]))
            base = np.mean([r[0] for r in runs["cross_entropy"]]) if "cross_entropy" in runs else np.nan
            print(f"{name}: cross_entropy {base:.3f}", flush=True)
            for objective, of_seeds in sorted(runs.items()):
                one_class = objective in ONE_CLASS
                accuracy = np.nan if one_class else np.mean([r[0] for r in of_seeds])
                own, joint = (np.mean([r[i] for r in of_seeds]) for i in (1, 2))
                bad = len(of_seeds) < a.seeds or (own < .6 if one_class else accuracy < base - .05)
                print(f"  {objective:28} accuracy {accuracy:.3f} ({accuracy - base:+.3f})  own {own:.3f}  run's {joint:.3f}"
                      f"  runs {len(of_seeds)}  {np.mean([r[3] for r in of_seeds]):.1f} s {'<' if bad else ''}", flush=True)
            for line in r.stderr.splitlines():
                if "going on without it" in line:
                    print("  " + line, flush=True)


if __name__ == "__main__":
    main()
