"""Seeded mutations of every kind of file that the program reads, each put through the program: the answer must be the
one of the undamaged file, or status 2 or 3 with one line that says why. Whole: ./dev attack [N]; tests/python/test_attack.py
runs a few of each.

    python tests/attack.py PROGRAM [--each N] [--seed S] [--kinds LIST]
"""
import argparse
import functools
import gzip
import io
import json
import os
import pathlib
import random
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from multiprocessing.pool import ThreadPool

import numpy as np
from PIL import Image

MEMORY, SECONDS = 2 << 30, 10  # above LibTorch's own
PICTURES = ("png", "jpg", "webp", "tif")


def pictures(n, seed, side=32):
    g = np.random.default_rng(seed)
    y = np.arange(n) % 4
    x = g.integers(0, 60, (n, 3, side, side))
    for i, c in enumerate(y):
        x[i, c % 3, c * 4:c * 4 + 8] += 120
    return x.astype(np.uint8), y.astype(np.uint8)


def idx(a):
    return struct.pack(">BBBB", 0, 0, 8, a.ndim) + struct.pack(f">{a.ndim}I", *a.shape) + a.tobytes()


def mutated(data, r):
    """A bit, a byte, a stretch, a cut, an insertion, or a number at the front that is far too large."""
    data = bytearray(data)
    at = r.randrange(len(data)) if r.random() < .6 else r.randrange(min(len(data), 64))
    kind = r.randrange(7)
    if kind == 0:
        data[at] ^= 1 << r.randrange(8)
    elif kind == 1:
        data[at] = r.randrange(256)
    elif kind == 2:
        data[at:at + 8] = r.randbytes(8)
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        data[at:at] = r.randbytes(r.randrange(1, 40))
    elif kind == 5:
        del data[at:at + r.randrange(1, 40)]
    else:
        data[at:at + 4] = struct.pack(r.choice("<>") + "I", r.choice([0, 1 << 31, (1 << 32) - 1, 1 << 24]))
    return bytes(data)


class Arena:
    """Runs of the program on undamaged files, and what a mutated one is put through."""

    def __init__(self, program, folder):
        self.program, self.at = str(program), pathlib.Path(folder)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # of all that it starts
        x, y = pictures(80, 0)
        tx, ty = pictures(40, 1)
        for name, pack in (("idx", bytes), ("idx.gz", lambda b: gzip.compress(b, mtime=0))):
            d = self.at / name
            d.mkdir()
            for part, a, b in (("train", x, y), ("t10k", tx, ty)):
                (d / f"{part}-images-idx4-ubyte").write_bytes(pack(idx(a)))
                (d / f"{part}-labels-idx1-ubyte").write_bytes(pack(idx(b)))
        (self.at / "cifar").mkdir()
        for name, a, b in (("data_batch_1.bin", x, y), ("test_batch.bin", tx, ty)):
            (self.at / "cifar" / name).write_bytes(b"".join(bytes([c]) + p.tobytes() for p, c in zip(a, b)))
        (self.at / "npy").mkdir()
        for part, a, b in (("train", x, y), ("test", tx, ty)):
            np.save(self.at / "npy" / f"{part}.npy", a)
            np.save(self.at / "npy" / f"{part}_labels.npy", b.astype(np.int64))
        for end in PICTURES:
            (self.at / end).mkdir()
            for i, p in enumerate(tx[:4]):
                Image.fromarray(p.transpose(1, 2, 0)).save(self.at / end / f"{i}.{end}")
        (self.at / "npz").mkdir()
        np.savez_compressed(self.at / "npz" / "data.npz", train=x, train_labels=y, test=tx, test_labels=ty)
        (self.at / "tar").mkdir()
        with tarfile.open(self.at / "tar" / "data.tar", "w") as tar:
            for i, p in enumerate(x):
                b = io.BytesIO()
                Image.fromarray(p.transpose(1, 2, 0)).save(b, "png")
                entry = tarfile.TarInfo(f"{'test' if i // 4 % 4 == 3 else 'train'}/{y[i]}/{i}.png")
                entry.size = b.tell()
                tar.addfile(entry, io.BytesIO(b.getvalue()))
        (self.at / "lists").mkdir()
        for i, p in enumerate(x):
            Image.fromarray(p.transpose(1, 2, 0)).save(self.at / "lists" / f"{i}.png")
        rows = [{"path": f"{i}.png", "label": str(c), "split": "test" if i // 4 % 4 == 3 else "train"} for i, c in enumerate(y)]
        (self.at / "lists" / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        (self.at / "lists" / "data.csv").write_text("path,label,split\n" + "".join(",".join(r.values()) + "\n" for r in rows))
        self.task = ["--known", "0,1", "--unknown", "3", "--epochs", "2", "--batch-size", "16", "--threads", "1"]
        self.run = self.at / "run"
        self.must("train", "--data", self.at / "idx", *self.task, "--out", self.run)
        self.paused = self.at / "paused"
        self.killed(self.paused)
        #: of each kind: the file, and the command whose answer must not change
        resume = ["train", "--resume", "{folder}"]
        newest = sorted((self.paused / "checkpoints").iterdir())[-1]
        fresh = ["train", "--data", "{folder}", *self.task, "--out", "{scratch}/out"]

        def listed(name):
            return [a if a != "{folder}" else "{folder}/" + name for a in fresh]
        self.kinds = {
            "model": (self.run / "model.safetensors", ["score", "{folder}", self.at / "png", "--threads", "1"]),
            "scores": (self.run / "scores.safetensors", ["eval", "{folder}", "--threads", "1"]),
            "config": (self.run / "config.toml", ["eval", "{folder}", "--threads", "1"]),
            "checkpoint": (newest, resume),
            "metrics": (self.paused / "metrics.jsonl", resume),
            "idx": (self.at / "idx" / "train-images-idx4-ubyte", fresh),
            "idx.gz": (self.at / "idx.gz" / "train-images-idx4-ubyte", fresh),
            "labels": (self.at / "idx" / "train-labels-idx1-ubyte", fresh),
            "cifar": (self.at / "cifar" / "data_batch_1.bin", fresh),
            "npy": (self.at / "npy" / "train.npy", fresh),
            "npz": (self.at / "npz" / "data.npz", listed("data.npz")),
            "tar": (self.at / "tar" / "data.tar", listed("data.tar")),
            "csv": (self.at / "lists" / "data.csv", listed("data.csv")),
            "jsonl": (self.at / "lists" / "data.jsonl", listed("data.jsonl")),
            **{end: (self.at / end / f"0.{end}", ["score", self.run, "{folder}", "--threads", "1"]) for end in PICTURES},
        }

    def killed(self, run):
        """A run that was killed after two checkpoints."""
        p = subprocess.Popen([self.program, "train", "--data", str(self.at / "idx"), *self.task[:4], "--epochs", "100",
                              "--batch-size", "16", "--threads", "1", "--checkpoint", "40", "--out", str(run)],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list(run.glob("checkpoints/step-*.safetensors"))) < 2:
            time.sleep(.01)
        p.kill()
        p.wait()

    def call(self, arguments):
        start = time.time()
        p = subprocess.Popen([self.program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = p.communicate(timeout=6 * SECONDS)
        except subprocess.TimeoutExpired:
            p.kill()
            out, err = p.communicate()
        return p.returncode, out.decode(errors="replace"), err.decode(errors="replace"), time.time() - start

    def must(self, *arguments):
        status, _, err, _ = self.call(arguments)
        assert status == 0, err

    def answer(self, kind, file):
        """Status, what counts as the answer, stderr and seconds, of the file in place of the undamaged one."""
        original, command = self.kinds[kind]
        folder = original.parent.parent if kind == "checkpoint" else original.parent
        with tempfile.TemporaryDirectory(dir=self.at) as scratch:
            copy = pathlib.Path(scratch) / folder.name
            shutil.copytree(folder, copy)
            if file is not None:
                (copy / original.relative_to(folder)).write_bytes(file)
            status, out, err, seconds = self.call([str(a).format(folder=copy, scratch=scratch) for a in command])
            if command[0] == "train" and status == 0:
                made = copy if command[1] == "--resume" else pathlib.Path(scratch) / "out"
                out = (made / "model.safetensors").read_bytes().hex()
            elif status == 0:
                out = out.replace(str(copy), "RUN")
            return status, out, err, seconds


# Their content carries no redundancy: another pixel, label or weight is another result and not damage.
FREE = ("idx", "labels", "cifar", "npy", "npz", "tar", "csv", "jsonl", *PICTURES)


def attack(arena, kind, n, seed):
    """Findings, and how often each status came."""
    r = random.Random(f"{kind} {seed}")
    original = arena.kinds[kind][0].read_bytes()
    status, expected, err, _ = arena.answer(kind, None)
    assert status == 0, err
    counts, findings = {}, []
    files = [mutated(original, r) for _ in range(n)]
    with ThreadPool(min(4, len(os.sched_getaffinity(0)))) as pool:
        answers = pool.map(functools.partial(arena.answer, kind), files)
    for i, (file, (status, got, err, seconds)) in enumerate(zip(files, answers)):
        counts[status] = counts.get(status, 0) + 1
        last = err.strip().splitlines()[-1] if err.strip() else ""
        bad = None
        if status == 0:
            if got != expected and kind not in FREE:
                bad = "another result"
        elif status not in (2, 3):
            bad = f"status {status}"
        elif not last.startswith("ood "):
            bad = "no line that says why"
        if seconds > SECONDS:
            bad = f"{seconds:.0f} s"
        if bad:
            findings.append(f"{kind} mutation {i}: {bad}: {last[:200]}")
    return findings, counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--each", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", help="some of the kinds, separated by commas")
    a = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        arena = Arena(a.program, folder)
        for kind in a.kinds.split(",") if a.kinds else arena.kinds:
            findings, counts = attack(arena, kind, a.each, a.seed)
            by = ", ".join(f"status {s}: {n}" for s, n in sorted(counts.items()))
            print(f"{kind:12} {by}; findings {len(findings)}", flush=True)
            for line in findings:
                print("  " + line, flush=True)
            found += findings
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2 ** 20
    print(f"largest memory of a call: {peak:.2f} GB")
    sys.exit(bool(found) or peak > MEMORY / 2 ** 30)


if __name__ == "__main__":
    main()
