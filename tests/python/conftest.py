"""Shared by the Python tests: the library's ops, its registry, the peers, the program.

The tests use libood.so, the package in python/ and the built program; OOD_BUILD names the build folder.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("OOD_BUILD", ROOT / "build" / "dev"))
SHARED = pathlib.Path(os.environ.get("OOD_SHARED", ROOT.parent / "shared"))

os.environ["OOD_BUILD"] = str(BUILD)
CACHE = tempfile.TemporaryDirectory()  # the program's index of pictures, not the user's
os.environ["XDG_CACHE_HOME"] = CACHE.name
sys.path.insert(0, str(ROOT / "python"))
import ood  # noqa: E402,F401  (the package of this tree, on the library of this build)

ops = torch.ops.ood
REGISTRY = {e["name"]: e for e in json.loads(ops.objectives_json())}
FORMULAS = sorted(n for n, e in REGISTRY.items() if e["formula_op"])
OUT_OF_TREE = str(BUILD / "lib" / "liblogit_sphere.so")
PLUGINS = ":".join(str(p) for p in sorted((BUILD / "lib").glob("lib*.so")) if not p.name.startswith("libood"))


def defaults(name):
    return [p["default"] for p in REGISTRY[name]["parameters"]]


def loss(name, logits, target, parameters=None, **options):
    """ops.ood.loss with parameters by name, registry defaults for the rest."""
    given = dict(parameters or {})
    values = [given.pop(p["name"], p["default"]) for p in REGISTRY[name]["parameters"]]
    assert not given, given
    return ops.loss(logits, target, name, values, **options)


def objective_loss(name, *inputs, reduction="mean", **given):
    """ops.ood.objective_loss of inputs, target and state, with registry defaults for what is not given."""
    values = [float(given.pop(p["name"], p["default"])) for p in REGISTRY[name]["parameters"]]
    assert not given, given
    return ops.objective_loss(name, values, [i for i in inputs if i is not None], reduction)[0]


def reductions(name):
    """What ops.ood.loss can reduce to; a function of the whole batch has no value per row."""
    return ["none", "mean", "sum"] if REGISTRY[name]["per_row"] else ["mean"]


def random_batch(seed, rows, classes, kind="mixed", dtype=torch.float64):
    """Logits whose logsumexp lies between -2 and 33, labels all-ID, all-OOD or mixed."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, classes, generator=g, dtype=torch.float64) * 2
    x = x - x.logsumexp(1, True) + torch.rand(rows, 1, generator=g, dtype=torch.float64) * 35 - 2
    y = torch.randint(0, classes, (rows,), generator=g)
    ood = torch.rand(rows, generator=g) < 0.5
    if kind == "mixed":
        y[ood] = -1
    elif kind == "ood":
        y[:] = -1
    return x.float().to(dtype), y


@pytest.fixture(scope="session")
def golden():
    path = SHARED / "spec" / "golden.json"
    if not path.exists():
        pytest.skip("golden values are not here")
    return json.loads(path.read_text())


@pytest.fixture(scope="session")
def program():
    """Runs the program: program("train", "--help") -> completed process."""

    def run(*arguments, **options):
        return subprocess.run([str(BUILD / "bin" / "ood"), *map(str, arguments)],
                              capture_output=True, text=True, timeout=300, **options)

    return run


class Case:
    """The class of an objective on a batch of embeddings x [N, 4], labels y and a last layer: of any that there is."""

    def __init__(self, objective):
        self.objective, self.name = objective, objective.class_name

    def make(self, **options):
        small = {p.python_name: min(p.default, 2) for p in self.objective.arguments if p.kind == "whole"}
        return getattr(ood.nn, self.name)(*[4] * len(self.objective.sizes), **{**small, **options})

    def labels(self, y):
        if self.objective.target == "semi_target":
            return y.clamp(max=0)
        # The last of the four columns is the background's.
        return torch.where(y == 3, 0, y) if REGISTRY[self.objective.name]["ood_is_last_class"] else y

    def inputs(self, x):
        wide = {"logits": x, "features": 2 * x, "embedding": x}
        return [wide[n] if n in wide else x[:, 0] for n in self.objective.inputs]

    def call(self, criterion, x, y, last):
        head = [last] if self.objective.draws == "outliers" else []
        return criterion(*self.inputs(x), self.labels(y), *head)


CASES = [Case(o) for o in ood.objectives().values()]
case_ids = [c.name for c in CASES]
