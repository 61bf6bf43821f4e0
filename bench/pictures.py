"""Training on pictures that stay files: pictures a second of decoding alone, of stepping alone, and of both together.

    .deps/peers/bin/python bench/pictures.py [--repeat N] [--only small-cnn|resnet-18|decoding]

Decoding alone stands beside torch's DataLoader of two workers, with torchvision's decoder and with Pillow.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("OOD_BUILD", ROOT / "build" / "dev"))
# Name of the network, size that is trained with, size of the files, how many, batch.
WORK = [("small-cnn", 32, (32, 32), 12000, 128), ("resnet-18", 224, (224, 224), 320, 64), ("decoding alone", 224, (500, 375), 300, 64)]


def write(folder, size, n):
    """Textured pictures, all different, of about the bytes of a photo of that size."""
    g = np.random.default_rng(0)
    base = []
    for _ in range(20):
        small = Image.fromarray(g.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize(size, Image.BICUBIC)
        base.append(np.clip(np.asarray(small).astype(float) + g.normal(0, 12, (size[1], size[0], 3)), 0, 255).astype(np.uint8))
    for part, count in (("train", n), ("test", 20)):
        for i in range(count):
            where = folder / part / f"class{i % 4}"
            where.mkdir(parents=True, exist_ok=True)
            picture = base[i % 20].copy()
            picture[0, :8] = (i % 251, i // 251 % 251, 0)
            Image.fromarray(picture).save(where / f"{i}.jpg", quality=85)


class Files(torch.utils.data.Dataset):
    def __init__(self, paths, side, decoder):
        self.paths, self.side, self.decoder = paths, side, decoder

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        import torchvision
        if self.decoder == "torchvision":
            x = torchvision.io.read_image(self.paths[i], torchvision.io.ImageReadMode.RGB)
            if x.shape[1:] != (self.side, self.side):
                x = torchvision.transforms.functional.resize(x, self.side, antialias=True)
                x = torchvision.transforms.functional.center_crop(x, self.side)
            return x
        x = Image.open(self.paths[i]).convert("RGB")
        if x.size != (self.side, self.side):
            scale = self.side / min(x.size)
            x = x.resize((round(x.size[0] * scale), round(x.size[1] * scale)), Image.BILINEAR)
            left, top = (x.size[0] - self.side) // 2, (x.size[1] - self.side) // 2
            x = x.crop((left, top, left + self.side, top + self.side))
        return torch.from_numpy(np.asarray(x).transpose(2, 0, 1).copy())


def loader(paths, side, decoder, seconds):
    def endless():
        while True:
            yield from torch.utils.data.DataLoader(Files(paths * (1 + 20000 // len(paths)), side, decoder), batch_size=64, num_workers=2)
    batches = endless()
    for _ in range(3):
        next(batches)
    started, n = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        n += len(next(batches))
    return n / (time.perf_counter() - started)


def decoding(folder, side, seconds):
    return float(subprocess.run([BUILD / "bin" / "decode_bench", folder, str(side), "2", str(seconds)], check=True, capture_output=True,
                                text=True).stdout)


def training(folder, network, side, n, batch, cache):
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([BUILD / "bin" / "ood", "train", "--data", folder, "--known", "class0,class1,class2,class3", "--model", network,
                        "--image-size", str(side), "--epochs", "2", "--batch-size", str(batch), "--validation", "0", "--cache", str(cache),
                        "--out", out + "/run"], check=True, capture_output=True)
        lines = [json.loads(l) for l in open(out + "/run/metrics.jsonl")]
    first, second = (l["seconds"] for l in lines if "seconds" in l)  # what starts up is in the first epoch
    return n // batch * batch / (second - first)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    repeat = given.repeat
    with tempfile.TemporaryDirectory() as where:
        os.environ["XDG_CACHE_HOME"] = where
        for network, side, size, n, batch in (w for w in WORK if w[0].startswith(given.only)):
            folder = pathlib.Path(where) / f"{network}{size}"
            write(folder, size, n)
            paths = [str(p) for p in sorted((folder / "train").rglob("*.jpg"))]
            trains = network != "decoding alone"
            seen = {}
            for _ in range(repeat):
                seen.setdefault("decoding", []).append(decoding(folder / "train", side, 3))
                for decoder in ("torchvision", "Pillow"):
                    seen.setdefault(decoder, []).append(loader(paths, side, decoder, 3))
                if trains:
                    seen.setdefault("stepping", []).append(training(folder, network, side, n, batch, 100000))
                    seen.setdefault("both", []).append(training(folder, network, side, n, batch, 0))
            middle = {k: statistics.median(v) for k, v in seen.items()}
            spread = {k: f"{min(v):.0f} to {max(v):.0f}" for k, v in seen.items()}
            print(f"{network}, {size[0]}x{size[1]} to {side}: " + ", ".join(f"{k} {middle[k]:.0f} ({spread[k]})" for k in seen))
            print(f"  decoding {middle['decoding'] / middle['torchvision']:.2f} times torchvision, "
                  f"{middle['decoding'] / middle['Pillow']:.2f} times Pillow" +
                  (f"; both {middle['both'] / min(middle['decoding'], middle['stepping']):.2f} of the slower alone" if trains else ""), flush=True)


if __name__ == "__main__":
    main()
