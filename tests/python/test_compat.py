"""The drop-ins beside the packages they replace: signatures, methods, state, numbers, and every defect."""
import inspect

import pytest
import torch

import ood.compat.incerto.training as our_incerto
import ood.compat.pytorch_ood.loss as ours

theirs = pytest.importorskip("pytorch_ood.loss")
pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = ["id", "ood", "mixed"]


def batches(kind, count=200, shape=None):
    """Random batches, 2 to 50 classes; logsumexp spread over what the hinges of the energies look at."""
    g = torch.Generator().manual_seed({"id": 1, "ood": 2, "mixed": 3}[kind])
    for _ in range(count):
        classes = int(torch.randint(2, 51, (), generator=g))
        rows = (int(torch.randint(1, 40, (), generator=g)),) + (shape or ())
        z = torch.randn(rows[0], classes, *rows[1:], generator=g) * 2
        z = z - z.logsumexp(1, True) + torch.rand(rows[0], 1, *rows[1:], generator=g) * 35 - 2
        y = torch.randint(0, classes, rows, generator=g)
        if kind == "ood":
            y.fill_(-1)
        elif kind == "mixed":
            y[torch.rand(rows, generator=g) < .5] = -1
        yield z, y


def compare(a, b, *inputs, rtol=2e-5, atol=1e-5):
    """Values, and gradients by all inputs."""
    va, vb = a(*inputs), b(*inputs)
    torch.testing.assert_close(va, vb.to(va.dtype), rtol=rtol, atol=atol)
    if not vb.requires_grad:
        return
    scale = torch.linspace(.5, 1.5, va.numel()).view_as(va)
    ga = torch.autograd.grad((va * scale).sum(), inputs, allow_unused=True)
    gb = torch.autograd.grad((vb * scale).sum(), inputs, allow_unused=True)
    for x, y in zip(ga, gb):
        if y is not None and x is not None:
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-5)


LOGIT_LOSSES = [("CrossEntropyLoss", {}), ("OutlierExposureLoss", {}), ("OutlierExposureLoss", dict(alpha=2.)),
                ("EntropicOpenSetLoss", {}), ("EnergyRegularizedLoss", {}), ("LogitNorm", {}), ("LogitNorm", dict(t=.04))]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", None])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name,options", LOGIT_LOSSES, ids=lambda v: str(v))
def test_losses_of_logits(name, options, kind, reduction):
    a = getattr(ours, name)(**options, reduction=reduction)
    # The peer's LogitNorm does not know None, which means "none" everywhere else.
    b = getattr(theirs, name)(**options, reduction=reduction or "none" if name == "LogitNorm" else reduction)
    active = total = 0
    for z, y in batches(kind, 200 if reduction == "mean" else 60):
        if name == "CrossEntropyLoss" and kind == "ood" and reduction == "mean":
            assert a(z, y) == 0  # as there
        compare(lambda z: a(z, y), lambda z: b(z, y), z.requires_grad_())
        e = -z.logsumexp(1)
        active += int(torch.where(y >= 0, e > -25, e < -7).sum())
        total += y.numel()
    if name == "EnergyRegularizedLoss" and kind == "mixed":
        assert .2 < active / total < .8, active / total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "OutlierExposureLoss", "EntropicOpenSetLoss", "EnergyRegularizedLoss"])
def test_losses_of_images(name, kind):
    a, b = getattr(ours, name)(), getattr(theirs, name)()
    for z, y in batches(kind, 30, (3, 5)):
        compare(lambda z: a(z, y), lambda z: b(z, y), z.requires_grad_())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_background_objectosphere_confidence(kind, reduction):
    for z, y in batches(kind, 200 if reduction == "mean" else 60):
        n = z.shape[1] - 1
        if n >= 2:
            t = torch.where(y >= n, torch.zeros_like(y), y)
            compare(lambda z: ours.BackgroundClassLoss(n, reduction)(z, t),
                    lambda z: theirs.BackgroundClassLoss(n, reduction)(z, t), z.requires_grad_())
        f = torch.randn(len(y), 6).requires_grad_()
        compare(lambda z, f: ours.ObjectosphereLoss(.5, 2., reduction)(z, f, y),
                lambda z, f: theirs.ObjectosphereLoss(.5, 2., reduction)(z, f, y), z.requires_grad_(), f)
        if kind == "id" and reduction == "mean":
            c = torch.rand(len(y), 1).clamp(.01, .99).requires_grad_()
            compare(lambda z, c: ours.ConfidenceLoss(.3)(z, c, y), lambda z, c: theirs.ConfidenceLoss(.3)(z, c, y),
                    z.requires_grad_(), c, rtol=1e-4)


def copied(a, b):
    """The peer's state in ours, strictly: the keys are the same."""
    a.load_state_dict(b.state_dict(), strict=True)
    return a


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_svdd_and_sad(kind, reduction):
    for z, y in batches(kind, 200 if reduction == "mean" else 60):
        d = z.shape[1]
        b = theirs.DeepSVDDLoss(d, reduction, radius=1.)
        a = copied(ours.DeepSVDDLoss(d, reduction, 1.), b)
        compare(lambda z: a(z, y), lambda z: b(z, y), z.requires_grad_(), rtol=1e-4)
        torch.testing.assert_close(a.distance(z), b.distance(z), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(a.svdd_loss(z, a.center, 1., y), b.svdd_loss(z, b.center, 1., y), rtol=1e-4, atol=1e-3)
        b = theirs.DeepSADLoss(d, eta=2., reduction=reduction)
        a = copied(ours.DeepSADLoss(d, 2., reduction=reduction), b)
        compare(lambda z: a(z, y), lambda z: b(z, y), z.requires_grad_(), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_ii_where_two_classes_are_present(kind):
    compared = 0
    for z, y in batches(kind, 200):
        classes = int(y.max()) + 1 if kind != "ood" else 3
        b, a = theirs.IILoss(max(classes, 2), z.shape[1], alpha=.7), ours.IILoss(max(classes, 2), z.shape[1], .7)
        if len(torch.unique(y[y >= 0])) < 2:
            assert a(z, y).isfinite()
            continue
        compared += 1
        compare(lambda z: a(z, y), lambda z: b(z, y), z.requires_grad_(), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(a.predict(z).sum(1), torch.ones(len(z)))
    assert compared > 100 or kind == "ood"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eta", [1., -10.])
def test_energy_margin(kind, eta):
    b, a = theirs.EnergyMarginLoss(.3, eta), ours.EnergyMarginLoss(.3, eta)
    for m in (a, b):
        m.lam.fill_(.3), m.lam2.fill_(.4)
    copied(a, b)
    phi = torch.nn.Linear(1, 1)
    for z, y in batches(kind, 200):
        if kind != "mixed" or not ((y >= 0).any() and (y < 0).any()):
            assert a(z, y, phi).isfinite()  # the peer raises
            continue
        compare(lambda z: a(z, y, phi), lambda z: b(z, y, phi), z.requires_grad_(), rtol=1e-4)


def test_energy_margin_update_and_the_models_mode():
    torch.manual_seed(0)
    model, phi = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)), torch.nn.Linear(1, 1)
    loader = [(torch.randn(5, 4), torch.arange(5) % 3) for _ in range(4)]
    b, a = theirs.EnergyMarginLoss(.3, -10.), ours.EnergyMarginLoss(.3, -10.)
    for _ in range(3):
        model.train()
        a.update_hyperparameters(model, loader, phi)
        assert model.training  # the peer leaves it in evaluation mode
        b.update_hyperparameters(model, loader, phi)
        for key, value in b.state_dict().items():
            torch.testing.assert_close(a.state_dict()[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_vos_reg(kind):
    for z, y in batches(kind, 200):
        phi, w = torch.nn.Linear(1, 2), torch.nn.Linear(z.shape[1], 1)
        torch.nn.init.uniform_(w.weight, .1)
        a, b = ours.VOSRegLoss(phi, w), theirs.VOSRegLoss(phi, w)
        assert set(a.state_dict()) == set(b.state_dict())
        compare(lambda z: a(z, y), lambda z: b(z, y), z.requires_grad_(), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_incerto(kind):
    peer = pytest.importorskip("incerto.ood.training")
    for z, y in batches(kind, 200):
        known = y >= 0
        z_in, y_in, z_out = z[known], y[known], z[~known]
        if len(z_in) == 0:
            continue
        for name in ("OutlierExposureLoss", "EnergyRegularizedLoss"):
            a, b = getattr(our_incerto, name)(), getattr(peer, name)()
            torch.testing.assert_close(a(z_in, y_in), b(z_in, y_in), rtol=1e-5, atol=1e-5)
            if len(z_out):
                compare(lambda i, o: a(i, y_in, o), lambda i, o: b(i, y_in, o), z_in.detach().requires_grad_(),
                        z_out.detach().requires_grad_())
            else:  # the peer gives NaN for an empty batch of outliers
                torch.testing.assert_close(a(z_in, y_in, z_out), b(z_in, y_in))
    x, y = torch.randn(4, 3, 8, 8), torch.arange(4)
    assert len(our_incerto.mixup_data(x, y)) == len(peer.mixup_data(x, y)) == 4
    assert our_incerto.mixup_data(torch.arange(4.), y)[0].shape == (4,)  # the peer fails on one dimension
    assert len(our_incerto.CutMix(alpha=1.)(x, y)) == 4


# Signatures, as documented and as installed

@pytest.mark.parametrize("name", ours.__all__)
def test_names_order_and_defaults_are_those_of_the_peer(name):
    a, b = (inspect.signature(getattr(m, name).__init__).parameters for m in (ours, theirs))
    for p in b.values():
        if p.name == "self":
            continue
        assert p.name in a or any(q.kind == q.VAR_POSITIONAL for q in a.values()), p.name
        if p.name in a and p.default is not p.empty:
            assert a[p.name].default == p.default, p.name
    fa, fb = (list(inspect.signature(getattr(m, name).forward).parameters) for m in (ours, theirs))
    assert fa == fb
    for method in ("distance", "score", "predict", "svdd_loss", "update_hyperparameters"):
        if hasattr(getattr(theirs, name), method):
            pa, pb = (list(inspect.signature(getattr(getattr(m, name), method)).parameters) for m in (ours, theirs))
            assert pa[:len(pb)] == pb, method
    for attribute in ("center", "centers"):
        assert hasattr(getattr(ours, name), attribute) or not hasattr(getattr(theirs, name), attribute)


def test_arguments_of_older_versions():
    phi, w, fc = torch.nn.Linear(1, 2), torch.nn.Linear(3, 1), torch.nn.Linear(5, 3)
    assert ours.VOSRegLoss(phi, w, .2, "cpu", "sum").reduction == "sum"
    assert ours.VOSRegLoss(phi, w, .2, "sum").reduction == "sum"
    old = ours.VirtualOutlierSynthesizingRegLoss(phi, w, "cpu", 3, 5, fc, .2, "mean", 7, 2, 50)
    new = ours.VirtualOutlierSynthesizingRegLoss(phi, w, fc, .2, "mean", 7, 2, 50)
    for c in (old, new):
        assert (c.num_classes, c.num_input_last_layer, c.alpha, c.sample_number, c.select, c.sample_from) == (3, 5, .2, 7, 2, 50)
    by_name = ours.VirtualOutlierSynthesizingRegLoss(logistic_regression=phi, weights_energy=w, device="cpu", num_classes=3,
                                                     num_input_last_layer=5, fc=fc)
    assert by_name.sample_number == 1000
    f = torch.randn(12, 5)
    c = ours.VirtualOutlierSynthesizingRegLoss(phi, w, fc, sample_number=2, sample_from=20)
    y = torch.arange(12) % 4 - 1
    values = [c(fc(f), f, y) for _ in range(3)]
    assert values[2] != values[0] and values[2].isfinite()


@pytest.mark.parametrize("make", [
    lambda m: m.CACLoss(4, 2.), lambda m: m.CenterLoss(4, 5), lambda m: m.MCHADLoss(4, 5, radius=.5, margin=1.)])
def test_state_of_center_losses_loads_strictly(make):
    a, b = make(ours), make(theirs)
    copied(a, b)
    z = torch.randn(6, a.centers.n_features)
    torch.testing.assert_close(a.distance(z), b.distance(z), rtol=1e-4, atol=1e-4)
    b.load_state_dict(a.state_dict(), strict=True)


def test_state_of_ii_loads_from_the_peer():
    b = theirs.IILoss(3, 5)
    b(torch.randn(9, 5), torch.arange(9) % 3)
    a = ours.IILoss(3, 5)
    a.load_state_dict(b.state_dict())
    torch.testing.assert_close(a.centers.centers, b.centers.centers)


# The defects of docs/migrating.md, each beside the peer

def test_defect_cac_negatives():
    d = torch.tensor([[1., 4, 9], [2, .5, 3], [5, 6, 1]])
    y = torch.arange(3)
    a = ours.CACLoss(3)(d, y) - d.gather(1, y[:, None]).mean()
    right = torch.stack([torch.log1p(sum(torch.exp(d[i, i] - d[i, j]) for j in range(3) if j != i)) for i in range(3)]).mean()
    torch.testing.assert_close(a, right)
    assert abs(theirs.CACLoss(3)(d, y) - ours.CACLoss(3)(d, y)) > 1e-2


def test_defect_cac_score():
    d = torch.tensor([[.1, 5, 5], [4, 4, 4.]])  # near an anchor; between them
    assert ours.CACLoss.score(d)[1] > ours.CACLoss.score(d)[0]
    assert theirs.CACLoss.score(d)[1] != ours.CACLoss.score(d)[1]


def test_defect_center_mean_and_radius():
    d, y = torch.tensor([[4., 9], [1, 16]]), torch.tensor([0, 1])
    torch.testing.assert_close(ours.CenterLoss(2, 2, radius=2.)(d, y), torch.tensor(((4 - 4) + (16 - 4)) / 2))
    torch.testing.assert_close(theirs.CenterLoss(2, 2, radius=2.)(d, y), torch.tensor(((4 - 2) + (16 - 2)) / 4.))
    plain = ours.CenterLoss(2, 2)(d, y)
    torch.testing.assert_close(plain, 2 * theirs.CenterLoss(2, 2)(d, y))


def test_defect_center_magnitude_is_applied():
    assert ours.CenterLoss(2, 2, magnitude=3.).centers.params.diag().tolist() == [3, 3]
    assert theirs.CenterLoss(2, 2, magnitude=3.).centers.params.diag().tolist() == [1, 1]


def test_defect_ii_with_one_class():
    x, y = torch.randn(4, 3), torch.zeros(4).long()
    assert ours.IILoss(2, 3)(x, y).abs() < 1e3 < theirs.IILoss(2, 3)(x, y).abs()


def test_defect_ii_float64():
    x = torch.randn(4, 3, dtype=torch.float64)
    assert ours.IILoss(2, 3)(x, torch.arange(4) % 2).dtype == torch.float64


def test_defect_running_centers_of_classes_seen_late():
    x = torch.tensor([[0.], [0], [0]]), torch.tensor([[4.], [6]])
    y = torch.tensor([0, 0, 0]), torch.tensor([0, 1])
    a, b = ours.RunningCenters(2, 1), theirs.IILoss(2, 1).centers
    for c in (a, b):
        for i in range(2):
            c.update(x[i], y[i])
    assert a.centers.flatten().tolist() == [1, 6] and b.centers.flatten().tolist() == [2, 3]


def test_defect_mchad_formula():
    d, y = torch.tensor([[1., 4], [2, .25], [1, 2]]), torch.tensor([0, 1, -1])
    a = ours.MCHADLoss(2, 2, radius=.5, margin=1.)(d, y)
    center = torch.tensor([1 - .25, 0.]).mean()
    nll = torch.nn.functional.cross_entropy(-d[:2], y[:2])
    torch.testing.assert_close(a, center + nll + torch.tensor((1.5 ** 2 - 1) + (1.5 ** 2 - 2)))
    assert abs(theirs.MCHADLoss(2, 2, radius=.5, margin=1.)(d, y) - a) > .1


def test_defect_objectosphere_score_of_logits():
    z, f = torch.randn(4, 3), torch.randn(4, 5)
    torch.testing.assert_close(ours.ObjectosphereLoss.score(z), theirs.ObjectosphereLoss.score(z))
    torch.testing.assert_close(ours.ObjectosphereLoss.score(z, f), -z.softmax(1).amax(1) * f.norm(dim=1))


def test_defect_confidence_vector_broadcast():
    z, c, y = torch.randn(3, 3), torch.rand(3), torch.tensor([1, 1, 1])
    torch.testing.assert_close(ours.ConfidenceLoss()(z, c, y), ours.ConfidenceLoss()(z, c[:, None], y))
    assert abs(theirs.ConfidenceLoss()(z, c, y) - theirs.ConfidenceLoss()(z, c[:, None], y)) > 1e-4


def test_defect_vos_none_adds_a_mean_to_rows():
    z, y = torch.randn(4, 3), torch.tensor([0, 1, -1, -1])
    phi, w = torch.nn.Linear(1, 2), torch.nn.Linear(3, 1)
    torch.nn.init.uniform_(w.weight, .1)
    a, b = ours.VOSRegLoss(phi, w, reduction="none")(z, y), theirs.VOSRegLoss(phi, w, reduction="none")(z, y)
    torch.testing.assert_close(a[2:].mean() * 0 + a.sum(), ours.VOSRegLoss(phi, w, reduction="sum")(z, y))
    assert (b[2] - b[3]).abs() < 1e-6 < (a[2] - a[3]).abs()  # the peer gives both outliers the same number


def test_defect_energy_weights_at_or_below_zero():
    z, y = torch.randn(4, 3), torch.tensor([0, 1, -1, -1])
    phi, w = torch.nn.Linear(1, 2), torch.nn.Linear(3, 1)
    w.weight.data.fill_(-1)
    assert ours.VOSRegLoss(phi, w)(z, y).isfinite() and not theirs.VOSRegLoss(phi, w)(z, y).isfinite()


def test_defect_queues_are_lost_with_a_checkpoint():
    phi, w, fc = torch.nn.Linear(1, 2), torch.nn.Linear(3, 1), torch.nn.Linear(5, 3)
    assert any("queue" in k for k in ours.VirtualOutlierSynthesizingRegLoss(phi, w, fc).state_dict())
    assert not any("data_dict" in k for k in theirs.VirtualOutlierSynthesizingRegLoss(phi, w, fc).state_dict())


def test_defect_energy_margin_on_one_sided_batches():
    z, phi = torch.randn(4, 3), torch.nn.Linear(1, 1)
    assert ours.EnergyMarginLoss(.3, -10.)(z, torch.zeros(4).long(), phi).isfinite()
    with pytest.raises(ValueError):
        theirs.EnergyMarginLoss(.3, -10.)(z, torch.zeros(4).long(), phi)


@pytest.mark.parametrize("call,kind,message", [
    (lambda: ours.CACLoss(3)(torch.randn(2, 4), torch.tensor([0, 1])), ValueError, "expected distances .N, 3.*4"),
    (lambda: ours.BackgroundClassLoss(3)(torch.randn(2, 3), torch.tensor([0, 1])), ValueError, "4 columns"),
    (lambda: ours.DeepSVDDLoss(3, center=torch.zeros(2)), ValueError, r"center \[3\]"),
    (lambda: ours.ConfidenceLoss()(torch.randn(2, 3), torch.rand(2, 2), torch.tensor([0, 1])), ValueError, "confidence"),
    (lambda: ours.OutlierExposureLoss()(torch.randn(2, 3), torch.tensor([0, 7])), IndexError, "got 7"),
    (lambda: our_incerto.OutlierExposureLoss()(torch.randn(2, 3), torch.tensor([0, 1]), torch.randn(2, 4)), ValueError,
     "logits_out"),
])
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_defect_vos_sum_leaves_the_regularizer_a_mean():
    z, y = torch.randn(4, 3), torch.tensor([0, 1, -1, -1])
    phi, w = torch.nn.Linear(1, 2), torch.nn.Linear(3, 1)
    torch.nn.init.uniform_(w.weight, .1)
    a, b = (m.VOSRegLoss(phi, w, reduction="sum")(z, y) for m in (ours, theirs))
    ce = torch.nn.functional.cross_entropy(z[:2], y[:2], reduction="sum")
    torch.testing.assert_close(b, ce + (a - ce) / 4)


def test_labels_below_0_of_incertos_id_batch():
    their_incerto = pytest.importorskip("incerto.ood.training")
    z, out = torch.randn(5, 3), torch.randn(4, 3)
    y = torch.tensor([0, 1, -100, 2, 0])
    for name in ("OutlierExposureLoss", "EnergyRegularizedLoss"):
        a, b = getattr(our_incerto, name)(), getattr(their_incerto, name)()
        torch.testing.assert_close(a(z, y), b(z, y))
    torch.testing.assert_close(our_incerto.OutlierExposureLoss()(z, y, out), their_incerto.OutlierExposureLoss()(z, y, out))
    y[2] = -1
    assert our_incerto.OutlierExposureLoss()(z, y, out).isfinite()
    with pytest.raises(IndexError):
        their_incerto.OutlierExposureLoss()(z, y, out)


def test_checkpoints_of_the_peer():
    x, y = torch.randn(30, 2) + 5, torch.arange(30) % 3
    b = theirs.IILoss(3, 2)
    a = ours.IILoss(3, 2)
    a.load_state_dict(b.state_dict())  # fresh: nothing seen yet
    a(x, y), b(x, y)
    torch.testing.assert_close(a.centers.centers, b.centers.centers)
    for _ in range(9):
        b(x, y)
    a = ours.IILoss(3, 2)
    a.load_state_dict(b.state_dict())
    a(x + 1, y), b(x + 1, y)  # ten batches and one more, of the same size
    torch.testing.assert_close(a.centers.centers, b.centers.centers, rtol=1e-4, atol=1e-4)
    layers = lambda: (torch.nn.Linear(1, 2), torch.nn.Linear(3, 1), torch.nn.Linear(5, 3))
    a = ours.VirtualOutlierSynthesizingRegLoss(*layers())
    a.load_state_dict(theirs.VirtualOutlierSynthesizingRegLoss(*layers()).state_dict())
    assert a.queues.counts.eq(0).all()


def test_the_documented_path_of_vos():
    from ood.compat.pytorch_ood.loss.vos import VirtualOutlierSynthesizingRegLoss
    assert VirtualOutlierSynthesizingRegLoss is ours.VirtualOutlierSynthesizingRegLoss


def test_embeddings_in_place_of_distances_are_refused():
    for c in (ours.CenterLoss(4, 5), ours.MCHADLoss(4, 5), ours.CACLoss(4)):
        with pytest.raises(ValueError, match=r"expected distances \[N, 4\] as its distance\(\) gives them"):
            c(torch.randn(6, 5), torch.tensor([0, 1, 2, 3, -1, 0]))


def test_small_integer_labels_and_maps_without_reduction():
    y = torch.tensor([0, 1, 2, -1], dtype=torch.int32)
    assert ours.IILoss(3, 5)(torch.randn(4, 5), y).isfinite()
    z, labels = torch.randn(2, 3, 4, 5), torch.randint(-1, 3, (2, 4, 5))
    rows = ours.LogitNorm(.5, reduction="none")(z, labels)
    assert rows.shape == (int((labels >= 0).sum()),)
    torch.testing.assert_close(rows.mean(), ours.LogitNorm(.5)(z, labels))
