"""Losses with a gradient of their own (ood/ops/direct_loss.h): corners where it could leave the composite path."""
import pytest
import torch
import torch.autograd.forward_ad as fwAD

import ood
import ood.compat.pytorch_ood.loss as ours
from conftest import objective_loss, ops

pytestmark = pytest.mark.filterwarnings("ignore")
R, T = torch.randn, torch.tensor
NAN, INF = float("nan"), float("inf")


def losses(x, y):
    """Every such loss of x [N, 4] and y [N], by name."""
    to = dict(dtype=x.dtype)
    phi, b = T([.3, -.2], **to), T([.1, .4], **to)
    return {
        "confidence": lambda: objective_loss("confidence", x, x[:, 0], y, T(.1, **to)),
        "confidence_loss_of_probability": lambda: ops.confidence_loss_of_probability(x, x[:, 0].sigmoid(), y, T(.1, **to)),
        "vos_reg": lambda: objective_loss("vos_reg", x, y, torch.rand(4, generator=torch.Generator().manual_seed(0), **to), phi, b),
        "energy_margin_loss": lambda: ops.energy_margin_loss(x, y, phi[:1], b[:1], T([.1, 1, .2, 1, .3], **to)),
        "svdd_hinge_loss": lambda: ops.svdd_hinge_loss(x, torch.zeros(4, **to), y, T(.5, **to)),
        "deep_sad": lambda: objective_loss("deep_sad", x, y.clamp(max=0), torch.zeros(4, **to)),
        "center_loss_of_distances": lambda: ops.center_loss_of_distances(x.square(), y, .1),
        "mchad_loss": lambda: ops.mchad_loss(x.square(), y, [1., 1., 1., .1, .5]),
        "ii": lambda: objective_loss("ii", x, y, torch.zeros(4)),
    }


NAMES = sorted(losses(R(2, 4), T([0, 1])))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", [[0, 1, 2, -1, -1, 3], [0, 1, 2, 3, 0, 1], [-1] * 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_those_of_the_composite_path(name, labels, dtype):
    x, y = R(6, 4, dtype=dtype, generator=torch.Generator().manual_seed(1)), T(labels)
    direct = x.clone().requires_grad_()
    value = losses(direct, y)[name]()
    g, = torch.autograd.grad(value, direct)
    # Functions with forward derivatives take the other path.
    tangent = R(6, 4, dtype=dtype, generator=torch.Generator().manual_seed(2))
    with fwAD.dual_level():
        dual = fwAD.unpack_dual(losses(fwAD.make_dual(x, tangent), y)[name]())
    torch.testing.assert_close(value, dual.primal, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((g * tangent).sum(), dual.tangent, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_nan_of_a_row_that_counts_is_seen(name):
    x = R(4, 4)
    x[0] = NAN
    assert losses(x, T([0, 1, -1, 2]))[name]().isnan()


def test_nan_of_outliers_is_seen_where_they_count():
    x = R(4, 4)
    x[2, 1] = NAN
    for name in ("vos_reg", "energy_margin_loss", "mchad_loss", "deep_sad"):
        assert losses(x, T([0, 1, -1, 2]))[name]().isnan(), name


@pytest.mark.parametrize("bad", [NAN, INF])
def test_rows_that_take_no_part_are_never_read(bad):
    z = R(4, 3)
    z[2] = bad
    z.requires_grad_()
    value = objective_loss("confidence", z, torch.zeros(4), T([0, 1, -1, 2]), T(.1))
    g, = torch.autograd.grad(value, z)
    assert value.isfinite() and g[2].eq(0).all() and g.isfinite().all()
    for rows, k in ((5, 4), (256, 128)):  # by differences, and by the short way for anchors
        x = R(rows, k)
        x[1] = NAN
        x.requires_grad_()
        y = torch.arange(rows) % k
        y[1] = -1
        criterion = ours.CACLoss(k)
        g, = torch.autograd.grad(criterion(criterion.distance(x), y), x)
        assert g[1].eq(0).all() and g.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_a_floating_type_are_refused(name):
    with pytest.raises(TypeError, match="expected target of an integer type, got"):
        losses(R(4, 4), T([0., 1.7, -.5, 2.]))[name]()
    assert losses(R(4, 4), T([0, 1, -1, 2], dtype=torch.int8))[name]().isfinite()


@pytest.mark.parametrize("call,says", [
    (lambda: objective_loss("ii", R(2, 3), T([-1, -1]), torch.zeros(0)), "expected at least 1 class, got 0"),
    (lambda: objective_loss("ii", R(3), T([0, 1, 0]), torch.zeros(2)), r"expected embedding \[N, D\]"),
    (lambda: ops.svdd_hinge_loss(R(2, 3), R(3), T([0, 1]), torch.empty(0)), "expected radius of one number"),
    (lambda: objective_loss("confidence", R(2, 3), R(2), T([0, 1]), torch.empty(0)), "expected lambda_ of one number"),
    (lambda: ops.closest_pair(R(3000, 1), torch.zeros(0).long()), r"counts \[K\]"),
    (lambda: ops.vos_sample(R(2, 3), torch.eye(3).double(), 10, 0), "select from 1 to sample_from"),
    (lambda: ops.vos_enqueue_(R(2, 4, 3), torch.zeros(1).long(), torch.zeros(2, 3).double(), torch.zeros(3, 3).double(),
                              R(2, 3), T([0, 1]), 0), r"expected counts \[2\]"),
    (lambda: ops.vos_enqueue_(R(2, 4, 3), torch.zeros(2).long(), torch.zeros(1, 3).double(), torch.zeros(3, 3).double(),
                              R(2, 3), T([0, 1]), 0), r"sums \[2, 3\]"),
    (lambda: ops._direct_loss("deep_sad", [R(2, 3)], [1., 1e-6, 0.], False, 1), "at least 3 inputs"),
    (lambda: ops._direct_loss("nothing", [R(2, 3)], [], False, 1), "no loss of the name nothing"),
    (lambda: objective_loss("confidence", R(2, 3), R(2), T([0, 7]), T(.1)), "confidence: expected labels below .* 3, got 7"),
    (lambda: ops.energy_margin_loss(R(2, 3), T([0, 7]), R(1), R(1), T([0., 1, 0, 1, 1])), "energy_margin: expected labels"),
])
def test_bad_arguments_get_a_line(call, says):
    with pytest.raises((ValueError, IndexError), match=says):
        call()


def test_rows_without_numbers():
    assert ops.svdd_hinge_loss(R(2, 0), R(0), T([0, 1]), T(.5)) == 0
    assert objective_loss("ii", R(2, 0), T([0, 1]), torch.zeros(2)) == 0
    assert ops.center_distances(R(2, 0), R(3, 0), True).eq(0).all()


def test_arguments_of_another_type_or_shape():
    assert ours.DeepSVDDLoss(3, radius=1)(R(2, 3), T([0, 1])).isfinite()
    lam = T([.1], requires_grad=True)
    assert torch.autograd.grad(objective_loss("confidence", R(2, 3), R(2), T([0, 1]), lam), lam)[0].shape == (1,)
    big = torch.full((4096, 3), 20.).half()
    assert ops.center_loss_of_distances(big, torch.zeros(4096).long(), 0.) == 20
    phi = torch.nn.Linear(1, 2, bias=False)
    weights = torch.nn.Linear(3, 1)
    torch.nn.init.uniform_(weights.weight)
    z, y = R(4, 3), T([0, 1, -1, -1])
    theirs = pytest.importorskip("pytorch_ood.loss")
    torch.testing.assert_close(ours.VOSRegLoss(phi, weights)(z, y), theirs.VOSRegLoss(phi, weights)(z, y))


def test_queues_of_a_half_type():
    weights, drawn = torch.nn.Linear(2, 1), []
    torch.nn.init.uniform_(weights.weight)
    last = torch.nn.Linear(3, 2)
    last.register_forward_hook(lambda layer, given, out: drawn.append(given[0]))
    criterion = ours.VirtualOutlierSynthesizingRegLoss(torch.nn.Linear(1, 2), weights, last, sample_number=2,
                                                       sample_from=10).to(torch.bfloat16)
    for _ in range(3):
        assert criterion(R(4, 2).bfloat16(), R(4, 3).bfloat16(), T([0, 0, 1, 1])).isfinite()
    assert drawn[-1].shape == (2, 3) and drawn[-1].isfinite().all()
    queues = criterion.queues
    torch.testing.assert_close(queues.sums, queues.queue.double().sum(1))


@pytest.mark.parametrize("c", [1., .999, .5, 1e-3])
def test_confidence_at_its_limits_is_the_peers(c):
    theirs = pytest.importorskip("pytorch_ood.loss").ConfidenceLoss()
    z, y = R(5, 3), T([0, 1, 2, -1, 0])
    a, b = torch.full((5, 1), c, requires_grad=True), torch.full((5, 1), c, requires_grad=True)
    u, v = ours.ConfidenceLoss()(z, a, y), theirs(z, b, y)
    torch.testing.assert_close(u, v, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(u, a)[0], torch.autograd.grad(v, b)[0], rtol=1e-4, atol=1e-5)


def test_a_logistic_layer_of_its_own_kind_is_called():
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    z, y = R(6, 3), T([0, 1, 2, -1, -1, 0])
    layer = Doubled(1, 1)
    theirs = pytest.importorskip("pytorch_ood.loss")
    torch.testing.assert_close(ours.EnergyMarginLoss(1., -10.)(z, y, layer), theirs.EnergyMarginLoss(1., -10.)(z, y, layer))
    plain, seen = torch.nn.Linear(1, 1), []
    plain.register_forward_hook(lambda *a: seen.append(1))
    ours.EnergyMarginLoss(1., -10.)(z, y, plain)
    assert seen


@pytest.mark.parametrize("call,says", [
    (lambda: objective_loss("confidence", R(16, 3), R(16).sigmoid(), torch.arange(16) % 3, T(.1)), "before it: leave the sigmoid out"),
    (lambda: objective_loss("vos_reg", R(2, 3), T([0, -1]), -torch.ones(3), R(2), R(2)), "all energy weights are at or below 0"),
    (lambda: ops.energy_margin_loss(R(2, 3), T([0, 1]), R(1), R(1), T([0., 1, 0, 1, 1])), "no OOD rows"),
    (lambda: ops.energy_margin_loss(R(2, 3), T([-1, -1]), R(1), R(1), T([0., 1, 0, 1, 1])), "no ID rows"),
])
def test_what_is_probably_a_mistake_gets_a_line(call, says, capfd):
    torch.set_warn_always(True)
    try:
        assert call().isfinite()
    finally:
        torch.set_warn_always(False)
    assert says in capfd.readouterr().err


def test_sound_arguments_get_none(capfd):
    torch.set_warn_always(True)
    try:
        y = T([0, 1] * 8)
        objective_loss("confidence", R(16, 3), .1 + .05 * torch.rand(16), y, T(.1))
        objective_loss("confidence", R(16, 3), torch.linspace(-1, 1, 16), y, T(.1))
        objective_loss("vos_reg", R(2, 3), T([0, -1]), T([-1., 0, 1]), R(2), R(2))
        ops.energy_margin_loss(R(2, 3), T([0, -1]), R(1), R(1), T([0., 1, 0, 1, 1]))
    finally:
        torch.set_warn_always(False)
    assert "Warning" not in capfd.readouterr().err
