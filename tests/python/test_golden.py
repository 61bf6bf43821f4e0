"""Golden values: formulas evaluated in float64 elsewhere, nine decimals."""
import pytest
import torch

from conftest import loss

Z = [[2, 0, -1], [.5, 1.5, 0], [1, -1, 0], [3, 0, 0], [0, 0, 1]]
Y = [0, 1, -1, -1, -1]
TOLERANCE = 1e-7

# key of the value, key of its gradient or None, objective, parameters, options
CASES = [
    ("CE.mean", "CE.grad_mean", "cross_entropy", {}, {}),
    ("CE.sum", None, "cross_entropy", {}, {"reduction": "sum"}),
    ("CE.none", None, "cross_entropy", {}, {"reduction": "none"}),
    ("OE.mean_paper", "OE.grad_paper", "outlier_exposure", {}, {}),
    ("OE.mean_batch(peer)", "OE.grad_batch(peer)", "outlier_exposure", {}, {"balance": "whole_batch"}),
    ("OE.sum", None, "outlier_exposure", {}, {"reduction": "sum"}),
    ("OE.none", None, "outlier_exposure", {}, {"reduction": "none"}),
    ("EOS.mean", "EOS.grad_mean", "entropic_open_set", {}, {}),
    ("EOS.none", None, "entropic_open_set", {}, {"reduction": "none"}),
    ("EOS.mean_w=0.5(vast unk_weight)", "EOS.grad_mean_w=0.5", "entropic_open_set",
     {"unknown_weight": .5}, {}),
    ("EOS.none_w=0.5", None, "entropic_open_set", {"unknown_weight": .5}, {"reduction": "none"}),
    ("Energy.mean(0.1,-25.0,-7.0)", None, "energy_regularized", {}, {}),
    ("Energy.none(0.1,-25.0,-7.0)", None, "energy_regularized", {}, {"reduction": "none"}),
    ("Energy.old_snapshot_mean(0.1,-25.0,-7.0)", None, "energy_regularized", {}, {"balance": "whole_batch"}),
    ("Energy.mean(0.1,-2.0,-1.2)", "Energy.grad(0.1,-2,-1.2)", "energy_regularized",
     {"margin_in": -2, "margin_out": -1.2}, {}),
    ("Energy.none(0.1,-2.0,-1.2)", None, "energy_regularized", {"margin_in": -2, "margin_out": -1.2},
     {"reduction": "none"}),
]


def check(golden, logits, target, key, grad_key, name, parameters, options):
    x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    value = loss(name, x, torch.tensor(target), parameters, **options)
    torch.testing.assert_close(value.detach(), torch.tensor(golden[key], dtype=torch.float64),
                               atol=TOLERANCE, rtol=0)
    if grad_key:
        value.backward()
        torch.testing.assert_close(x.grad, torch.tensor(golden[grad_key], dtype=torch.float64),
                                   atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
def test_golden(golden, case):
    check(golden, Z, Y, *case)


@pytest.mark.parametrize("tau,key,grad", [(.04, "0.04", ".04"), (.5, "0.5", ".5"), (1., "1.0", None)])
def test_logit_norm(golden, tau, key, grad):
    y = [0, 1, 2]
    check(golden, Z[:3], y, f"LogitNorm.mean(tau={key},eps=1e-7)",
          grad and f"LogitNorm.grad(tau={grad})", "logit_norm", {"tau": tau}, {})
    check(golden, Z[:3], y, f"LogitNorm.none(tau={key},eps=1e-7)", None, "logit_norm", {"tau": tau},
          {"reduction": "none"})


def test_the_logit_norm_of_a_zero_row_has_no_gradient():
    x = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    value = loss("logit_norm", x, torch.tensor([0]))
    assert value.item() == pytest.approx(torch.tensor(3.).log().item())
    value.backward()
    assert x.grad.abs().sum() == 0


@pytest.mark.parametrize("classes,tau", [(10, 1.), (10, .04), (3, .5), (100, 1.)])
def test_logit_norm_attains_its_lower_bound(classes, tau):
    best = torch.full((1, classes), -1 / (classes - 1), dtype=torch.float64)
    best[0, 0] = 1
    c = torch.tensor(float(classes), dtype=torch.float64)
    bound = torch.log1p((c - 1) * torch.exp(-torch.sqrt(c / (c - 1)) / tau))
    value = loss("logit_norm", best * 7, torch.tensor([0]), {"tau": tau})
    assert value.item() == pytest.approx(bound.item(), rel=1e-5, abs=1e-12)
    for seed in range(20):
        x = torch.randn(1, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        assert loss("logit_norm", x, torch.tensor([0]), {"tau": tau}).item() >= bound.item() - 1e-12
