"""Trains a small network on six classes of Fashion-MNIST, with two more as outliers, and plots how far the
scores of two unseen classes lie from those of the known ones: examples/python/fashion_mnist.py [OUT.png]
"""
import gzip
import sys

import numpy as np
import torch

import ood

FOLDER = "/usr/share/datasets/fashion-mnist"  # Debian: apt-get install dataset-fashion-mnist
KNOWN, OUTLIERS, UNKNOWN = [0, 1, 2, 3, 4, 8], [5, 6], [7, 9]


def load(part: str, classes) -> tuple:
    """Pictures [N, 1, 28, 28] of some classes, labels 0..K-1."""
    def read(name: str, offset: int) -> np.ndarray:
        with gzip.open(f"{FOLDER}/{part}-{name}-ubyte.gz") as f:
            return np.frombuffer(f.read(), np.uint8, offset=offset)

    y = torch.from_numpy(read("labels-idx1", 8).astype(np.int64))
    x = torch.from_numpy(read("images-idx3", 16).reshape(-1, 1, 28, 28).astype(np.float32) / 255)
    rows = torch.isin(y, torch.tensor(classes))
    return x[rows], torch.tensor([classes.index(c) for c in y[rows].tolist()])


def main(out: str, steps: int = 300) -> float:
    torch.manual_seed(0)
    x, y = load("train", KNOWN)
    outliers, _ = load("train", OUTLIERS)
    network = ood.networks.make_network("small-cnn", 1, 28, 28, len(KNOWN))
    criterion = ood.nn.OutlierExposureLoss(alpha=0.5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        i, j = torch.randint(len(x), (128,)), torch.randint(len(outliers), (64,))
        logits, _ = ood.networks.forward(network, torch.cat([x[i], outliers[j]]))
        loss = criterion(logits, torch.cat([y[i], torch.full((64,), -1)]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    network.eval()
    with torch.no_grad():
        scores = [ood.scores.msp(ood.networks.forward(network, load("t10k", c)[0])[0]) for c in (KNOWN, UNKNOWN)]
    figures = ood.metrics.detection(*scores)
    print(f"AUROC {figures.auroc:.4f}, FPR95 {figures.fpr95:.4f}")
    if out:
        import matplotlib
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
        plt.hist([s.numpy() for s in scores], bins=40, density=True, label=["known", "unknown"])
        plt.xlabel("outlier score"), plt.legend(), plt.savefig(out)
    return figures.auroc


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
