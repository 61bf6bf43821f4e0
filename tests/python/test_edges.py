"""Corners that an independent check of random cases found: each failed once."""
import math

import pytest
import torch
import torch.autograd.forward_ad as fwAD

import ood
import ood.compat.pytorch_ood.loss as peer
from conftest import CASES, FORMULAS, REGISTRY, defaults, objective_loss, ops, reductions

pytestmark = pytest.mark.filterwarnings("ignore")
NAN = float("nan")
T = torch.tensor


def fused(name, logits, target, weight=None, extras=None, reduction="mean"):
    return ops.loss(logits, target, name, defaults(name), extras, weight, reduction)


@pytest.mark.parametrize("shape", [(512, 2), (6, 19, 8, 8)])
@pytest.mark.parametrize("name,reduction", [(n, r) for n in FORMULAS for r in reductions(n) if r != "none"])
def test_half_gradients_under_a_loss_scale_are_those_of_float32_rounded_once(name, shape, reduction):
    g = torch.Generator().manual_seed(1)
    z = (torch.randn(shape, generator=g) * 6).half()
    y = torch.randint(-1, shape[1] - 1, (shape[0], *shape[2:]), generator=g)
    extras = torch.rand(len(REGISTRY[name]["extras"]), *y.shape, generator=g) if REGISTRY[name]["extras"] else None
    half, full = z.clone().requires_grad_(), z.float().requires_grad_()
    scale = 65536. if reduction == "mean" else 8.
    (fused(name, half, y, None, extras, reduction) * scale).backward()
    (fused(name, full, y, None, extras, reduction) * scale).backward()
    torch.testing.assert_close(half.grad, full.grad.half(), rtol=0, atol=0)


def test_the_smallest_case_of_a_lost_gradient():
    z = T([[10., 0.]] * 512).half().requires_grad_()
    (ood.nn.CrossEntropyLoss()(z, torch.zeros(512).long()) * 65536).backward()
    expected = (1 / (1 + math.exp(-10.)) - 1) / 512 * 65536
    torch.testing.assert_close(z.grad[:, 0].float(), torch.full((512,), expected), rtol=1e-3, atol=0)
    assert abs(expected + .0058) < 1e-4


@pytest.mark.parametrize("make", [lambda: ood.nn.CACLoss(2), lambda: ood.nn.CACLoss(2, squared=True),
                                  lambda: ood.nn.DeepSVDDLoss(2)])
@pytest.mark.parametrize("create_graph", [False, True])
def test_nan_of_an_outlier_does_not_reach_its_gradient(make, create_graph):
    x = T([[1., 2.], [NAN, NAN]], requires_grad=True)
    value = make()(x, T([0, -1]))
    g, = torch.autograd.grad(value, x, create_graph=create_graph)
    assert value.isfinite() and g[0].isfinite().all() and g[1].eq(0).all()


def test_nan_features_of_an_ignored_row_do_not_reach_their_gradient():
    f = T([[1., 2.], [NAN, 1.]], requires_grad=True)
    value = ood.nn.ObjectosphereLoss(ignore_index=7)(torch.randn(2, 3), f, T([0, 7]))
    g, = torch.autograd.grad(value, f)
    assert value.isfinite() and g[0].abs().sum() > 0 and g[1].eq(0).all()


def test_the_last_class_can_be_ignored_and_outliers_kept():
    z, y = torch.randn(6, 4, dtype=torch.double, requires_grad=True), T([0, 3, -1, 2, -1, 3])
    fused = ood.nn.functional.background_class(z, y, ignore_index=3)
    right = torch.nn.functional.cross_entropy(z[[0, 2, 3, 4]], T([0, 3, 2, 3]))
    torch.testing.assert_close(fused, right)
    first, = torch.autograd.grad(fused, z, create_graph=True)
    torch.testing.assert_close(first, torch.autograd.grad(right, z)[0])


def test_an_empty_batch_has_gradients_of_its_further_inputs():
    z, f = torch.zeros(0, 2, requires_grad=True), torch.zeros(0, 3, requires_grad=True)
    a, b = torch.autograd.grad(ood.nn.ObjectosphereLoss()(z, f, torch.zeros(0).long()), (z, f))
    assert a.shape == z.shape and b.shape == f.shape
    w = torch.zeros(0, requires_grad=True)
    value = ood.nn.OutlierExposureLoss()(z, torch.zeros(0).long(), w)
    assert torch.autograd.grad(value, w)[0].shape == (0,)


def test_the_gradient_of_euclidean_distances_under_create_graph_does_not_cancel():
    x, c = T([[1., 2., 3.]], requires_grad=True), T([[1.001, 2., 3.], [-1., 0., 1.]])
    g, = torch.autograd.grad(ops.center_distances(x, c, False)[0, 0], x, create_graph=True)
    torch.testing.assert_close(g, T([[-1., 0., 0.]]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
@pytest.mark.parametrize("score", [ood.scores.msp, ood.scores.max_logit, ood.scores.energy])
def test_scores_of_half_logits_are_float32(score, dtype):
    z = T([[4., 0., -1.], [4.125, 0., -1.]]).to(dtype)
    s = score(z)
    assert s.dtype == torch.float32 and s[0] != s[1]
    torch.testing.assert_close(s, score(z.float()))


def test_the_balance_of_the_background_class_is_heard():
    rows = T([1.3133, 2.1269, .6931])
    z = T([[1., 0.], [2., 0.], [0., 0.]])  # rows of these losses with labels 0, -1, -1
    y = T([0, -1, -1])
    one = ood.nn.BackgroundClassLoss(reduction="none")(z, y)
    value = ood.nn.BackgroundClassLoss(balance="per_population")(z, y)
    torch.testing.assert_close(value, one[0] + one[1:].mean())
    assert abs(float(rows[0] + rows[1:].mean()) - 2.7233) < 1e-3
    ignored = ood.nn.BackgroundClassLoss(balance="per_population", ignore_index=-7)
    torch.testing.assert_close(ignored(torch.cat([z, z]), T([0, -1, -1, -7, -7, -7])), value)
    g = z.clone().requires_grad_()
    f = lambda z: ood.nn.BackgroundClassLoss(balance="per_population")(z.double(), y)
    assert torch.autograd.gradcheck(f, g.double().detach().requires_grad_())


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_drop_ins_do_not_round_their_numbers_to_half(dtype):
    z, y = torch.randn(5, 3).to(dtype), T([0, 1, 2, 0, 1])
    c = torch.full((5, 1), .5).to(dtype)
    a = peer.ConfidenceLoss(alpha=.1)(z, c, y)
    torch.testing.assert_close(a, peer.ConfidenceLoss(alpha=.1)(z.float(), c.float(), y), rtol=1e-6, atol=1e-6)
    criterion = peer.DeepSVDDLoss(3, reduction="none", radius=.1, center=torch.zeros(3))
    x = torch.full((2, 3), .25).to(dtype)
    torch.testing.assert_close(criterion(x).float(), torch.full((2,), 3 * .0625 - .01), rtol=1e-6, atol=1e-6)


def test_the_log_sum_of_vos_has_no_floor_beside_positive_weights():
    z = T([[-80., -90.]], dtype=torch.double, requires_grad=True)
    one, y = torch.ones(2, dtype=torch.double), T([0])
    exact = z.logsumexp(1)
    torch.testing.assert_close(ops.vos_energy(z, one), exact)
    phi, b = T([0., 1.], dtype=torch.double), torch.zeros(2, dtype=torch.double)
    value = objective_loss("vos_reg", z, y, one, phi, b, alpha=1)
    torch.testing.assert_close(value, torch.nn.functional.cross_entropy(z, y) + torch.nn.functional.softplus(-exact).sum())
    f = lambda z: objective_loss("vos_reg", z, y, one, phi, b, alpha=1)
    assert torch.autograd.gradcheck(f, z)


def test_an_older_name_of_deep_sad():
    torch.manual_seed(3)
    old = peer.SSDeepSVDDLoss(n_features=3)
    torch.manual_seed(3)
    new = peer.DeepSADLoss(3)
    x, y = torch.randn(4, 3), T([0, -1, 1, -1])
    assert old(x, y) == new(x, y)


# Objectives and scores: what they refuse and take

SOME = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = T([0, 1, 2, 0, -1, -1])


NO_WEIGHTS = ("EnergyMarginLoss", "IILoss", "VirtualOutlierSynthesizingRegLoss")  # as they say


@pytest.mark.parametrize("case", [c for c in CASES if c.name not in NO_WEIGHTS], ids=lambda c: c.name)
def test_a_weight_has_the_shape_of_the_target(case):
    """Of a column it would be that of every pair of rows."""
    criterion, inputs = case.make(), [*case.inputs(SOME), case.labels(LABELS)]
    with pytest.raises(ValueError, match="expected weight of the target's shape"):
        criterion(*inputs, weight=torch.ones(6, 1))
    assert criterion(*inputs, weight=torch.ones(6, dtype=torch.double)).dtype == torch.float32


@pytest.mark.parametrize("case", [c for c in CASES if not REGISTRY[c.objective.name]["per_row"]], ids=lambda c: c.name)
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_function_of_the_batch_has_a_mean_alone(case, reduction):
    with pytest.raises(ValueError, match="is a function of the whole batch; expected reduction mean"):
        case.call(case.make(reduction=reduction), SOME, LABELS, torch.nn.Linear(4, 4))


def test_a_balance_that_has_no_meaning_is_refused():
    with pytest.raises(ValueError, match="has one mean over all rows; expected balance default or whole_batch"):
        ood.nn.DeepSADLoss(4, balance="per_population")(SOME, LABELS.clamp(max=0))
    with pytest.raises(ValueError, match="expected reduction mean and balance default or per_population"):
        ood.nn.EnergyGapLoss(balance="whole_batch")(SOME, LABELS)


def test_means_of_a_module_are_read_out():
    ii = ood.nn.IILoss(3, 4)
    ii(SOME, LABELS)
    _, _, score = ops.objective_readout("ii", [1., 0., 64.], torch.randn(6, 3), SOME, ii._state())
    torch.testing.assert_close(score, ii.distance(SOME).amin(1))
    assert ii.distance(SOME.double()).dtype == torch.float64


def test_forward_derivatives_by_any_input():
    center, weight, tangent = torch.randn(3, 4), torch.rand(6), torch.randn(6)
    losses = [(lambda c: objective_loss("center", SOME, LABELS, c), center),
              (lambda w: ood.nn.functional.cross_entropy(SOME, LABELS, weight=w), weight),
              (lambda w: ood.nn.functional.cross_entropy(SOME, LABELS, weight=w, reduction="none").sum(), weight)]
    for f, at in losses:
        direction = torch.randn_like(at)
        with fwAD.dual_level():
            forward = fwAD.unpack_dual(f(fwAD.make_dual(at, direction))).tangent
        at = at.clone().requires_grad_()
        backward, = torch.autograd.grad(f(at), at)
        torch.testing.assert_close(forward, (backward * direction).sum())


@pytest.mark.filterwarnings("error:There is a performance drop")
def test_many_batches_at_once_need_no_loop():
    many = torch.randn(5, 6, 4)
    for criterion in (ood.nn.CenterLoss(3, 4), ood.nn.IILoss(3, 4).eval()):
        each = torch.stack([criterion(x, LABELS) for x in many])
        torch.testing.assert_close(torch.vmap(lambda x: criterion(x, LABELS))(many), each)


def test_the_gradient_of_a_center_is_summed_in_double_precision():
    x = torch.randn(200_000, 3) + 3
    center = torch.zeros(3)
    exact = -2 * x.double().mean(0)
    for name, c, y in (("deep_sad", center, torch.zeros(len(x)).long()), ("center", center[None], torch.zeros(len(x)).long())):
        c = c.clone().requires_grad_()
        g, = torch.autograd.grad(objective_loss(name, x, y, c), c)
        torch.testing.assert_close(g.flatten().double(), exact, rtol=1e-6, atol=1e-6)


def test_a_drop_in_of_deep_sad_needs_no_eps():
    x = torch.randn(4, 3)
    y, d = T([0, 0, -1, -1]), x.square().sum(1)
    expected = torch.where(y < 0, 1 / d, d).mean()
    torch.testing.assert_close(peer.DeepSADLoss(3, eps=0., center=torch.zeros(3))(x, y), expected)


def test_distances_and_readouts_of_one_row_at_a_time():
    for criterion in (ood.nn.MCHADLoss(3, 4), ood.nn.CACLoss(4)):
        torch.testing.assert_close(torch.vmap(lambda r: criterion.distance(r[None])[0])(SOME), criterion.distance(SOME))
        torch.testing.assert_close(torch.vmap(lambda r: criterion.predict(r[None])[0])(SOME), criterion.predict(SOME))


def test_distances_are_not_rounded_under_autocast():
    c = torch.randn(3, 4)
    with torch.autocast("cpu", torch.bfloat16), fwAD.dual_level():
        rows = fwAD.unpack_dual(ops.center_distances(fwAD.make_dual(SOME, SOME), c, True)).primal
    torch.testing.assert_close(rows, ops.center_distances(SOME, c, True), rtol=1e-5, atol=1e-6)


def test_arguments_of_classes():
    with pytest.raises(ValueError, match="expected sample_number of type int, got 10.7"):
        ood.nn.VirtualOutlierSynthesizingRegLoss(2, 2, sample_number=10.7)
    with pytest.raises(ValueError, match="expected squared of type bool, got 0.5"):
        ood.nn.CACLoss(3, squared=.5)
    for bad in (None, "no", 2):
        with pytest.raises(ValueError, match=f"CACLoss: expected squared of type bool, got {bad}"):
            ood.nn.CACLoss(3, squared=bad)
    for bad in (float("inf"), NAN, "ten"):
        with pytest.raises(ValueError, match="expected sample_number of type int"):
            ood.nn.VirtualOutlierSynthesizingRegLoss(2, 2, sample_number=bad)
    assert ood.nn.VirtualOutlierSynthesizingRegLoss(2, 2, sample_number=10.).sample_number == 10
    svdd, weight = ood.nn.DeepSVDDLoss(4), torch.rand(6)
    assert svdd(SOME, LABELS, weight) == svdd(SOME, LABELS, weight=weight)
    with pytest.raises(ValueError, match="no classes to predict"):
        svdd.predict(SOME)
    with pytest.raises(ValueError, match=r"init_center: expected labels \[6\], got \[3\]"):
        svdd.update_state("begin", [SOME, LABELS[:3]])
    svdd.update_state("begin", [SOME, LABELS])
    torch.testing.assert_close(svdd.center[svdd.center.abs() > .1], SOME[:4].mean(0)[SOME[:4].mean(0).abs() > .1])
    for name, classes in (("CACLoss", 3), ("MCHADLoss", (3, 4))):
        criterion = getattr(ood.nn, name)(*([classes] if name == "CACLoss" else classes), reduction="sum")
        x = SOME[:, :3] if name == "CACLoss" else SOME
        torch.testing.assert_close(criterion.loss_of(criterion.distance(x), LABELS), criterion(x, LABELS))
    cac = ood.nn.CACLoss(3, balance="whole_batch", ignore_index=2)
    torch.testing.assert_close(cac.loss_of(cac.distance(SOME[:, :3]), LABELS), cac(SOME[:, :3], LABELS))
    with pytest.raises(IndexError, match="mchad: expected labels below .* 3, got 9|cross_entropy: expected labels below .* 3, got 9"):
        objective_loss("mchad", SOME, T([0, 1, 2, 9, -1, -1]), torch.randn(3, 4), reduction="none")


def test_a_class_that_is_masked_out_is_no_nan():
    """With a logit of -infinity; what is left decides."""
    z, masked = torch.randn(40, 4), torch.randn(40, 5)
    masked[:, :4], masked[:, 4] = z, -torch.inf
    score = ood.scores.NormMaxLogit()
    torch.testing.assert_close(score(logits=masked), score(logits=z))
    assert score(logits=torch.full((1, 3), -torch.inf)).isnan()
    klm = ood.scores.KLM().fit(logits=torch.randn(99, 5))
    almost = masked.clone()
    almost[:, 4] = -700.  # of which the probability is 0 beside the others
    torch.testing.assert_close(klm(logits=masked), klm(logits=almost))


def test_labels_of_a_calibration_are_whole_numbers():
    with pytest.raises(TypeError, match="calibration: expected target of an integer type"):
        ood.metrics.calibration(torch.randn(3, 3), T([.9, 1.9, .2]))
    with pytest.raises(ValueError, match=r"from 1 to 2\^31 - 1 bins"):
        ood.metrics.calibration(torch.randn(3, 3), T([0, 1, 2]), bins=2 ** 32 + 3)


def test_margins_measured_of_half_logits_are_those_of_single_precision():
    bias = {}
    for dtype in (torch.float32, torch.bfloat16):
        criterion = ood.nn.EnergyMarginLoss(margin=.3)
        x = (SOME * 4).bfloat16().to(dtype)
        criterion.measure(lambda z: z, [(x, LABELS)])
        bias[dtype] = criterion.phi.bias.detach().clone()
    torch.testing.assert_close(*bias.values(), rtol=1e-5, atol=1e-5)
