"""Pickles and state_dicts from before the classes were made from the registry (recorded at 8e9441c) still load."""
import base64
import json
import pathlib
import pickle

import pytest
import torch

import conftest  # noqa: F401  (puts the package on the path)

RECORDED = json.loads((pathlib.Path(__file__).parent / "recorded" / "classes_of_8e9441c.json").read_text())
CLASSES = RECORDED["classes"]


def names():
    x, y = torch.tensor(RECORDED["x"]), torch.tensor(RECORDED["y"])
    last, phi = torch.nn.Linear(4, 4), torch.nn.Linear(1, 1)
    last.load_state_dict({k: torch.tensor(v) for k, v in RECORDED["last"].items()})
    phi.weight.data.fill_(-.5), phi.bias.data.fill_(.7)
    return dict(x=x, y=y, last=last, phi=phi)


@pytest.mark.parametrize("e", CLASSES, ids=[f"{e['module']}.{e['name']}" for e in CLASSES])
def test_pickles_and_keys_stay(e):
    criterion = pickle.loads(base64.b64decode(e["pickle"]))
    assert type(criterion).__name__ == e["name"]
    assert {k: list(v.shape) for k, v in criterion.state_dict().items()} == e["keys"]
    criterion.eval()
    torch.manual_seed(9)
    value = eval(f"c({e['call']})", dict(names(), c=criterion)).detach().sum()
    torch.testing.assert_close(value, torch.tensor(e["value"]), rtol=1e-6, atol=1e-6)
    if hasattr(criterion, "loss_of"):
        classes = len(next(iter(criterion.state_dict().values())))
        assert criterion.loss_of(torch.rand(3, classes), torch.tensor([0, 1, -1])).isfinite()


OLD = {e["name"]: e for e in CLASSES if e["module"] == "ood.nn"}
CASES = [c for c in conftest.CASES if c.name in OLD]


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_keys_of_a_fresh_module_are_the_recorded_ones(case):
    recorded = OLD[case.name]
    assert {k: list(v.shape) for k, v in case.make().state_dict().items()} == recorded["keys"]
    # And as it was trained on: the old tensors in a new module.
    fresh = case.make()
    fresh.load_state_dict(pickle.loads(base64.b64decode(recorded["pickle"])).state_dict(), strict=True)
