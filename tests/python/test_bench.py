"""The benchmark: every objective of the registry has a workload that runs, and README's chart is that of the results."""
import json
import pathlib
import sys

import pytest
import torch

from conftest import REGISTRY

pytest.importorskip("pytorch_ood")
BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))
import cells  # noqa: E402
import chart  # noqa: E402

w = cells.w


@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_objective_has_a_workload(name):
    o, b = w.ood.objectives()[name], w.Batch((64, 4))
    calls = w.rows(o, b, compiled=False)[0] if cells.kind(o) == "rows" else w.classes(o, b)
    for who, call in calls.items():
        call()
    assert "ours" in calls and w.read_by(o, b).grad is not None


def test_what_is_beyond_its_line_is_marked(capsys):
    quick, slow = (lambda: None), (lambda: torch.randn(1000).sort())
    cells.cell("rows", "cross_entropy", (128, 10), torch.float32, {"ours": slow, "pytorch-ood": quick}, {"sum": quick})
    assert json.loads(capsys.readouterr().out)["over"] == ["pytorch-ood below 1.5 times", "above 1.25 sum"]
    cells.cell("rows", "cross_entropy", (128, 10), torch.float32, {"ours": quick, "pytorch-ood": slow}, {"sum": slow})
    assert json.loads(capsys.readouterr().out)["over"] == []


def test_the_chart_is_made_of_the_results():
    results = json.loads((BENCH / "results.json").read_text())
    assert chart.svg(results) == (BENCH / "speed.svg").read_text()
