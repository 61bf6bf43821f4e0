"""The drop-ins for pytorch_ood.detector: signatures and numbers of 0.4.0, but for the defects that are named."""
import inspect

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ood.compat.pytorch_ood.detector as ours

theirs = pytest.importorskip("pytorch_ood.detector")
CLASSES, WIDTH = 4, 10


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    encoder, head = nn.Sequential(nn.Linear(6, WIDTH), nn.ReLU()), nn.Linear(WIDTH, CLASSES)
    centers = 2 * torch.randn(CLASSES, 6)
    y = torch.arange(400) % CLASSES
    x = centers[y] + torch.randn(400, 6)
    with torch.no_grad():  # a head that is often right
        z = encoder(x)
        head.weight.copy_(torch.stack([z[y == c].mean(0) for c in range(CLASSES)]))
        head.bias.copy_(-head.weight.square().sum(1) / 2)
    return encoder, head, nn.Sequential(encoder, head), x, y, 2 * torch.randn(50, 6)


def arguments(name, task):
    encoder, head, model = task[:3]
    if name == "ViM":
        return (encoder, 4, head.weight, head.bias)
    if name in ("fDBD", "NCI", "SHE", "NNGuide", "ReAct"):
        return (encoder, head)
    if name in ("SCALE", "ASH"):
        return (lambda v: encoder(v)[:, :, None, None], lambda v: head(v.flatten(1)))
    return (encoder,) if name in ("KNN", "Mahalanobis", "RMD") else (model,)


@pytest.mark.parametrize("name", ours.__all__)
def test_names_and_order_of_arguments(name):
    a, b = (inspect.signature(getattr(m, name).__init__).parameters for m in (ours, theirs))
    assert list(a) == list(b)
    assert [p.default for p in a.values()] == [p.default for p in b.values()]


@pytest.mark.parametrize("name", ours.__all__)
def test_names_of_the_arguments_of_every_method(name):
    for method in ("fit", "predict", *(f"{verb}_{of}" for verb in ("fit", "predict") for of in ("features", "logits", "feature_maps"))):
        peer = getattr(getattr(theirs, name), method, None)
        if peer is not None:
            own = inspect.signature(getattr(getattr(ours, name), method))
            assert list(own.parameters) == list(inspect.signature(peer).parameters), method


@pytest.mark.parametrize("name, labels", [("fDBD", "labels"), ("NCI", "y"), ("KNN", "labels"), ("SHE", "y"), ("ViM", "labels")])
def test_labels_by_keyword_leave_outliers_out(name, labels, task):
    x, y, q = task[3:]
    z = task[0](torch.cat([x, 50 + torch.rand(40, 6)])).detach()
    make = lambda: getattr(ours, name)(*arguments(name, task))
    marked = {labels: torch.cat([y, torch.full((40,), -1)])}
    clean, got = make().fit_features(z[:400], **{labels: y}), make().fit_features(z, **marked)
    features = task[0](q).detach()
    assert got.predict_features(features).equal(clean.predict_features(features))


@pytest.mark.parametrize("name", ours.__all__)
def test_numbers_through_a_data_loader(name, task):
    x, y, q = task[3:]
    with_ood = torch.cat([y, torch.full((20,), -1)]) if name not in ("fDBD", "Mahalanobis", "RMD", "NCI") else y
    data = torch.cat([x, 9 * torch.randn(20, 6)])[:len(with_ood)]
    loader = DataLoader(TensorDataset(data, with_ood), batch_size=64)
    a, b = (getattr(m, name)(*arguments(name, task)) for m in (ours, theirs))
    a, b = a.fit(loader) or a, b.to("cpu").fit(loader) or b
    a, b = a.predict(q).detach(), b.predict(q).detach()
    assert a.dtype == torch.float and a.device == b.device
    if name in ("GEN", "TemperatureScaling"):  # see the defects below
        assert torch.corrcoef(torch.stack([a, b]))[0, 1] > .8
        return
    torch.testing.assert_close(a, b.float(), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("variant", ["ash-s", "ash-p", "ash-b"])
def test_ash(variant, task):
    maps = torch.rand(5, 8, 3, 3)
    head = nn.Sequential(nn.Flatten(), nn.Linear(72, 4))
    a, b = (m.ASH(None, head, variant, .8) for m in (ours, theirs))
    torch.testing.assert_close(a.predict_feature_maps(maps), b.predict_feature_maps(maps).detach())


def test_maps_of_logits():
    x = torch.randn(2, 5, 3, 4) / 4
    for name in ("MaxSoftmax", "MaxLogit", "EnergyBased", "Entropy", "GEN"):
        torch.testing.assert_close(getattr(ours, name).score(x), getattr(theirs, name).score(x))
    torch.testing.assert_close(ours.MaxSoftmax.score(x, 2.), theirs.MaxSoftmax.score(x, 2.))
    torch.testing.assert_close(ours.EnergyBased.score(x, 2.), theirs.EnergyBased.score(x, 2.))
    torch.testing.assert_close(ours.GEN.score(x, .5, 3), theirs.GEN.score(x, .5, 3))


@pytest.mark.parametrize("name", ["KNN", "Mahalanobis", "RMD", "ViM", "fDBD", "NCI", "SHE", "NNGuide"])
def test_before_fit_and_without_a_model(name, task):
    detector = getattr(ours, name)(None, *arguments(name, task)[1:])
    with pytest.raises(ours.RequiresFittingException):
        detector.predict_features(torch.rand(3, WIDTH))
    with pytest.raises(ours.ModelNotSetException):
        detector.predict(torch.rand(3, 6))
    with pytest.raises(ValueError, match="expected ID samples"):
        detector.fit_features(torch.rand(3, WIDTH), torch.full((3,), -1))


def test_a_head_that_is_not_linear_is_named(task):
    with pytest.raises(TypeError, match="SHE: expected a linear head"):
        ours.SHE(None, lambda z: z).fit_features(torch.rand(9, WIDTH), torch.arange(9) % 3)


def test_defect_mahalanobis_of_near_constant_features():
    """pytorch-ood inverts a float32 sum of squares: of features with a large mean its score is rounding."""
    torch.manual_seed(0)
    z, y = 1000 + torch.randn(200, 5) * .01, torch.arange(200) % 2
    exact = ours.Mahalanobis(None).fit_features(z.double().float(), y).predict_features(z)
    means = torch.stack([z.double()[y == c].mean(0) for c in (0, 1)])
    off = z.double() - means[y]
    precision = torch.linalg.inv(off.T @ off)
    want = torch.stack([.5 * ((z.double() - m) @ precision * (z.double() - m)).sum(1) for m in means]).amin(0)
    peer = theirs.Mahalanobis(None).fit_features(z, y).predict_features(z)
    error = lambda got: ((got.double() - want).abs() / want).median()
    assert error(exact) < 1e-3 < error(peer)
