"""Against pytorch-ood 0.4.0 and incerto 0.1.1 in one process, where they are right; where they are
wrong a test names the defect."""
import math
import warnings

import pytest
import torch

from conftest import loss, random_batch

peer = pytest.importorskip("pytorch_ood.loss")
incerto = pytest.importorskip("incerto.ood.training")

pytestmark = pytest.mark.filterwarnings("ignore")
BATCHES = 100
KINDS = ["mixed", "id", "ood"]

# name, the peer's criterion, our parameters, our options, whether the peer takes float64
PAIRS = [
    ("cross_entropy", lambda: peer.CrossEntropyLoss(), {}, {}, True),
    ("outlier_exposure", lambda: peer.OutlierExposureLoss(alpha=.5), {}, {"balance": "whole_batch"}, False),
    ("entropic_open_set", lambda: peer.EntropicOpenSetLoss(), {}, {}, False),
    ("energy_regularized", lambda: peer.EnergyRegularizedLoss(alpha=.1, margin_in=-25, margin_out=-7), {}, {}, True),
    ("logit_norm", lambda: peer.LogitNorm(t=.5), {"tau": .5}, {}, True),
]


def away_from_kinks(x):
    """Rows whose energy is within 1e-3 of a margin are moved."""
    energy = -x.logsumexp(1, True)
    near = ((energy + 25).abs() < 1e-3) | ((energy + 7).abs() < 1e-3)
    return torch.where(near, x + .01, x)


def assert_close(ours, theirs, double):
    most = theirs.abs().max().item() if theirs.numel() else 0.
    tolerance = 1e-9 * max(1., most) if double else 2e-5 * max(1e-3, most)
    assert (ours - theirs).abs().max().item() <= tolerance


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name,make,parameters,options,double", PAIRS, ids=[p[0] for p in PAIRS])
def test_values_and_gradients(name, make, parameters, options, double, reduction):
    criterion = make()
    criterion.reduction = reduction
    dtype = torch.float64 if double else torch.float32
    for seed in range(BATCHES):
        kind = KINDS[seed % 3]
        x, y = random_batch(seed, 3 + seed % 40, 2 + seed % 48, kind, dtype)
        x = away_from_kinks(x)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        ours = loss(name, a, y, parameters, reduction=reduction,
                    **(options if reduction == "mean" else {}))
        theirs = criterion(b, y)
        if name == "logit_norm" and reduction == "none":
            # The peer returns the ID rows only.
            assert_close(ours[y >= 0], theirs, double) if theirs.numel() else None
        else:
            assert_close(ours, theirs.to(ours.dtype), double)
        ours.sum().backward()
        if theirs.requires_grad:
            theirs.sum().backward()
            assert_close(a.grad, b.grad, double)
        else:
            assert kind == "ood" and a.grad.abs().sum() == 0


def test_incerto_outlier_exposure_is_ours_on_two_batches():
    for seed in range(BATCHES):
        inside, y = random_batch(seed, 5 + seed % 20, 2 + seed % 20, "id")
        outside, _ = random_batch(1000 + seed, 3 + seed % 11, 2 + seed % 20, "ood")
        theirs = incerto.OutlierExposureLoss(lambda_oe=.5)(inside, y, outside)
        ours = loss("outlier_exposure", torch.cat([inside, outside]),
                    torch.cat([y, torch.full((len(outside),), -1)]))
        assert_close(ours, theirs, True)


# Defects of the peers.


@pytest.mark.parametrize("criterion", [peer.OutlierExposureLoss(), peer.EntropicOpenSetLoss()])
def test_defect_peer_refuses_float64_and_half_types(criterion):
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        x, y = random_batch(1, 8, 3, dtype=dtype)
        with pytest.raises(RuntimeError, match="dtype"):
            criterion(x, y)
        assert loss("outlier_exposure", x, y).isfinite()


def test_defect_peer_weighs_outlier_exposure_by_the_batch():
    """0.4.0 divides both terms by the whole batch, so that the weights depend on its composition."""
    x, y = random_batch(2, 384, 10, "id", torch.float32)
    y[128:] = -1
    theirs = peer.OutlierExposureLoss(alpha=.5)(x, y)
    id_term = loss("outlier_exposure", x[:128], y[:128])
    ood_term = loss("outlier_exposure", x[128:], y[128:])
    torch.testing.assert_close(theirs, id_term / 3 + 2 * ood_term / 3)
    torch.testing.assert_close(loss("outlier_exposure", x, y), id_term + ood_term)


@pytest.mark.parametrize("name,criterion", [("outlier_exposure", peer.OutlierExposureLoss()),
                                            ("entropic_open_set", peer.EntropicOpenSetLoss())])
def test_defect_peer_gives_nan_for_an_empty_batch(name, criterion):
    x, y = torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    assert math.isnan(criterion(x, y).item())
    assert loss(name, x, y).item() == 0


def test_defect_peer_logit_norm_explodes_at_zero():
    x = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    peer.LogitNorm(t=.04)(x, torch.tensor([0])).backward()
    assert x.grad.abs().max() > 1e8
    ours = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    loss("logit_norm", ours, torch.tensor([0])).backward()
    assert ours.grad.abs().max() == 0


def test_defect_peer_logit_norm_default_temperature_has_a_floor():
    best = torch.full((1, 10), -1e3)
    best[0, 0] = 9e3
    assert peer.LogitNorm()(best, torch.tensor([0])).item() > 1.4
    assert loss("logit_norm", best, torch.tensor([0])).item() < 1e-6


def test_defect_peer_logit_norm_takes_no_pictures():
    x, y = torch.randn(2, 5, 4, 4), torch.randint(0, 5, (2, 4, 4))
    with pytest.raises(Exception):
        peer.LogitNorm()(x, y)
    assert loss("logit_norm", x, y).isfinite()


def test_defect_peer_has_no_label_for_void_pixels():
    x, y = torch.randn(2, 5, 4, 4), torch.randint(0, 5, (2, 4, 4))
    y[0, 0] = 255
    with pytest.raises(Exception):
        peer.CrossEntropyLoss()(x, y)
    assert loss("cross_entropy", x, y, ignore_index=255).isfinite()


def test_defect_incerto_gives_nan_without_outliers():
    x, y = random_batch(3, 4, 3, "id")
    assert incerto.OutlierExposureLoss()(x, y, torch.zeros(0, 3, dtype=x.dtype)).isnan()
    assert loss("outlier_exposure", x, y).isfinite()


def test_defect_incerto_energy_is_not_liu_et_al():
    """A hinge on the means of the energies: blind to the spread within a population."""
    inside, y = random_batch(4, 6, 3, "id")
    outside, _ = random_batch(5, 6, 3, "ood")
    moved = outside + torch.tensor([[5.], [-5.], [3.], [-3.], [1.], [-1.]], dtype=outside.dtype)
    criterion = incerto.EnergyRegularizedLoss()
    torch.testing.assert_close(criterion(inside, y, outside), criterion(inside, y, moved))
    both = lambda o: loss("energy_regularized", torch.cat([inside, o]),
                          torch.cat([y, torch.full((6,), -1)]))
    assert (both(outside) - both(moved)).abs() > 1e-3
