"""A few seeded mutations of every kind of file, and a few signals; ./dev attack and ./dev kills run more."""
import sys

import pytest

from conftest import BUILD, ROOT

pytest.importorskip("PIL.Image")
sys.path.insert(0, str(ROOT / "tests"))
import kills  # noqa: E402
from attack import Arena, attack  # noqa: E402

KINDS = ["model", "scores", "config", "checkpoint", "metrics", "idx", "idx.gz", "labels", "cifar", "npy", "npz", "tar", "csv", "jsonl", "png", "jpg",
         "webp", "tif"]


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    a = Arena(BUILD / "bin" / "ood", tmp_path_factory.mktemp("arena"))
    assert list(a.kinds) == KINDS
    return a


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_or_changes_nothing(arena, kind):
    findings, counts = attack(arena, kind, 25, seed=1)
    assert not findings, findings
    assert sum(counts.values()) == 25


def test_signals_lose_nothing_and_change_nothing():
    done, _, _, _, findings = kills.run(str(BUILD / "bin" / "ood"), 20, seed=1)
    assert done == 20 and not findings, findings
