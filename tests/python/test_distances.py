"""Distances, centers and the objectives on them: golden values, gradients, the peers and their defects."""
import warnings

import pytest
import torch

import ood

from conftest import loss, objective_loss, ops

peer = pytest.importorskip("pytorch_ood.loss")
pytestmark = pytest.mark.filterwarnings("ignore")
D = torch.float64
TOLERANCE = 1e-7


def t(values):
    return torch.tensor(values, dtype=D)


def near(a, b):
    torch.testing.assert_close(a.detach() if isinstance(a, torch.Tensor) else torch.tensor(a, dtype=D),
                               torch.as_tensor(b, dtype=D), atol=TOLERANCE, rtol=0)


def batch(seed, rows=9, width=5, classes=4):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=g, dtype=D).requires_grad_()
    c = torch.randn(classes, width, generator=g, dtype=D).requires_grad_()
    y = torch.randint(-1, classes, (rows,), generator=g)
    return x, c, y


@pytest.mark.parametrize("squared", [True, False])
def test_center_distances(squared):
    x, c, _ = batch(1)
    f = lambda x, c: ops.center_distances(x, c, squared)
    near(f(x, c), torch.cdist(x, c).pow(2 if squared else 1).detach())
    assert torch.autograd.gradcheck(f, (x, c)) and torch.autograd.gradgradcheck(f, (x, c))
    torch.library.opcheck(ops.center_distances, (x, c, squared))
    near(torch.func.grad(lambda x: f(x, c.detach()).sum())(x.detach()),
         torch.autograd.grad(f(x, c).sum(), x)[0])


@pytest.mark.parametrize("rows,width,classes", [(1, 1, 1), (3, 2, 5), (65, 33, 7), (40, 130, 9)])
def test_center_distances_at_odd_sizes_in_both_types(rows, width, classes):
    x, c, _ = batch(2, rows, width, classes)
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 2e-5)):
        a, b = x.detach().to(dtype).requires_grad_(), c.detach().to(dtype).requires_grad_()
        d = ops.center_distances(a, b, True)
        up = torch.randn(rows, classes, dtype=D, generator=torch.Generator().manual_seed(3))
        d.backward(up.to(dtype))
        exact = (x[:, None] - c[None]).pow(2).sum(2)
        gx, gc = torch.autograd.grad(exact, (x, c), up, retain_graph=True)
        for ours, theirs in ((d, exact), (a.grad, gx), (b.grad, gc)):
            assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp_min(1e-3)


def test_no_cancellation_near_a_center_where_the_peer_gives_0():
    x = torch.full((1, 64), 100.)
    c = x.clone()
    c[0, 0] += .01
    assert ops.center_distances(x, c, True).item() == pytest.approx(1e-4, rel=1e-3)
    centers = peer.CACLoss(n_classes=64).centers
    with torch.no_grad():
        centers.params.copy_(torch.cat([c, torch.zeros(63, 64)]))
    assert abs(centers(x)[0, 0].item() - 1e-4) > 5e-5


def test_the_distance_to_a_center_has_no_gradient_at_it():
    x = torch.zeros(1, 3, dtype=D, requires_grad=True)
    ops.center_distances(x, torch.zeros(1, 3, dtype=D), False).sum().backward()
    assert x.grad.abs().sum() == 0


def test_own_center_distances_and_sums_by_class():
    x, c, y = batch(4)
    f = lambda x, c: ops.own_center_distances(x, c, y)
    full = torch.cdist(x, c).pow(2).gather(1, y.clamp_min(0)[:, None])[:, 0]
    near(f(x, c), torch.where(y >= 0, full, 0.).detach())
    assert torch.autograd.gradcheck(f, (x, c)) and torch.autograd.gradgradcheck(f, (x, c))
    g = lambda x: ops.segment_sum(x, y, 4)
    assert torch.autograd.gradcheck(g, (x,)) and torch.autograd.gradgradcheck(g, (x,))
    torch.library.opcheck(ops.own_center_distances, (x, c, y))
    torch.library.opcheck(ops.segment_sum, (x, y, 4))
    with pytest.raises(IndexError, match="got 9 in row 0"):
        ops.own_center_distances(x[:1], c, torch.tensor([9]))


# Class anchors.

CAC_Z, CAC_Y = t([[1.5, .2, -.3], [.1, .4, .2], [-.2, 1, 1.2]]), torch.tensor([0, 1, 2])


@pytest.mark.parametrize("squared,key", [(False, "CAC.euclid(paper)"), (True, "CAC.squared(peer metric)")])
def test_cac_golden(golden, squared, key):
    z = CAC_Z.clone().requires_grad_()
    d = ops.center_distances(z, 2 * torch.eye(3, dtype=D), squared)
    near(d, golden[key + ".d"])
    x = -d
    x.retain_grad()
    value = loss("cac", x, CAC_Y, {"anchor_weight": .1})
    near(value, golden[key + ".total(lam=.1)"])
    value.backward()
    near(-x.grad, golden[key + ".grad_d"])
    near(z.grad, golden[key + ".grad_z"])
    gamma = d * (1 - (-d).softmax(1))
    near(gamma.amin(1), golden[key + ".score=min gamma"])


def test_defect_peer_cac_counts_the_own_class_as_a_negative(golden):
    d = t([[1, 4, 9], [2, .5, 3], [5, 6, 1]])
    rows = loss("cac", -d, CAC_Y, {"anchor_weight": 0}, reduction="none")
    near(rows, golden["CAC.tuplet per row, d=[1,4,9],[2,.5,3],[5,6,1], y=[0,1,2]: correct"])
    theirs = torch.stack([peer.CACLoss(n_classes=3, alpha=0)(d[i:i + 1].float(), CAC_Y[i:i + 1]) for i in range(3)])
    wrong = torch.tensor(golden["CAC.tuplet per row, same d: peer negatives"])
    torch.testing.assert_close(theirs, wrong, atol=1e-5, rtol=0)
    assert (wrong - rows.float()).abs().max() > .5


def test_defect_peer_cac_has_no_gradient_for_the_worst_samples():
    d = torch.tensor([[150., 1., 2.]], requires_grad=True)
    peer.CACLoss(n_classes=3, alpha=0)(d, torch.tensor([0])).backward()
    assert d.grad.abs().sum() == 0
    ours = d.detach().clone().requires_grad_()
    loss("cac", -ours, torch.tensor([0]), {"anchor_weight": 0}).backward()
    assert ours.grad.abs().sum() > 1


# Center loss.

CENTER_X, CENTER_Y = t([[1, 2], [0, 1], [3, -1]]), torch.tensor([0, 1, 0])
CENTERS = t([[.5, 1], [1, 1], [9, 9]])


@pytest.mark.parametrize("radius,key,value", [(0., "r=0", "Center.repo(sum/B)"), (1., "r=1", "Center.mean r=1 on d-r^2")])
def test_center_golden(golden, radius, key, value):
    x, c = CENTER_X.clone().requires_grad_(), CENTERS.clone().requires_grad_()
    l = objective_loss("center", x, CENTER_Y, c, radius=radius, weight=0)
    near(l, golden[value])
    l.backward()
    near(x.grad, golden[f"Center.grad_x {key} (mean_I)"])
    near(c.grad, golden[f"Center.grad_centers {key} (mean_I)"])


def test_wen_update(golden):
    c = CENTERS.clone()
    ops.center_update_(c, CENTER_X, CENTER_Y, .5)
    near(c, golden["Center.wen_update alpha=.5"])


def test_defect_peer_center_divides_by_the_classes_and_forgets_the_square():
    theirs = peer.CenterLoss(n_classes=3, n_dim=2)
    with torch.no_grad():
        theirs.centers.params.copy_(CENTERS)
    d = theirs.centers(CENTER_X.float())
    torch.testing.assert_close(theirs(d, CENTER_Y), torch.tensor(4.166667 / 3), atol=1e-5, rtol=0)
    wide = peer.CenterLoss(n_classes=3, n_dim=2, radius=2.)
    assert wide(torch.tensor([[3., 9., 9.]]), torch.tensor([0])) > 0  # inside of the radius: 3 < 2^2


# II loss.

II_X, II_Y = t([[0, 0], [2, 0], [10, 0], [10, 4], [3, 5]]), torch.tensor([0, 0, 1, 1, 2])


def ii(x, y, classes, **given):
    return objective_loss("ii", x, y, torch.zeros(classes), **given)


def test_ii_golden(golden):
    x = II_X.clone().requires_grad_()
    value = ii(x, II_Y, 3)
    near(value, golden["II.paper"])
    value.backward()
    near(x.grad, golden["II.grad_x"])
    near(ii(II_X, II_Y, 3, normalize_by_dim=1), golden["II.reference_repo(intra/D)"])
    assert torch.autograd.gradcheck(lambda x: ii(x, II_Y, 3), (x,))
    assert torch.autograd.gradgradcheck(lambda x: ii(x, II_Y, 3), (x,))


def test_defect_peer_ii_of_one_class_is_minus_1e24():
    x, y = II_X.float(), torch.zeros(5, dtype=torch.long)
    assert peer.IILoss(n_classes=3, n_embedding=2)(x, y) < -1e23
    assert 0 < ii(x, y, 3).item() < 100
    assert ii(x, torch.full((5,), -1), 3).item() == 0


def test_ii_matches_the_peer_on_random_batches():
    for seed in range(100):
        x, _, _ = batch(seed, 30, 6, 5)
        y = torch.randint(0, 5, (30,), generator=torch.Generator().manual_seed(seed))
        x = x.detach().float()
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        theirs = peer.IILoss(n_classes=5, n_embedding=6)(b, y)
        ours = ii(a, y, 5)
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)
        ours.backward()
        theirs.backward()
        assert (a.grad - b.grad).abs().max() <= 2e-5 * b.grad.abs().max()


@pytest.mark.parametrize("rows", [1, 2, 3, 63, 64, 65, 130, 200])
def test_the_closest_pair_is_the_lowest_of_equal_ones_among_the_classes_present(rows):
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        x = torch.randint(-2, 3, (rows, 5), generator=g).double()  # many equal distances, all exact
        counts = torch.randint(0, 3, (rows,), generator=g)
        if seed == 4:
            x[:] = torch.arange(rows)[:, None] ** 2.  # closest in one block, the last pairs far
        if seed == 3:
            x[rows // 2] = float("nan")
        pairs = [(float((x[i] - x[j]).square().sum()), i, j) for i in range(rows) for j in range(i + 1, rows)
                 if counts[i] > 0 and counts[j] > 0]
        expected = min((p for p in pairs if p[0] == p[0]), default=(0, 0, 0))[1:]
        for dtype in (torch.float32, torch.float64):
            assert tuple(ops.closest_pair(x.to(dtype), counts).tolist()) == expected, seed


# Deep SVDD and Deep SAD.

SVDD_X, SVDD_Y, SVDD_C = t([[1, 2], [0, 1], [3, -1], [.5, .5]]), torch.tensor([0, 0, 0, -1]), t([[.5, .5]])


def test_svdd_golden(golden):
    for nu, radius, value, grad in ((0., 0., "SVDD.oneclass mean(ID)", "SVDD.oneclass.grad_x (4 rows, row 3 OOD)"),
                                    (.1, 1., "SVDD.soft(R=1,nu=.1)", "SVDD.soft.grad_x(R=1,nu=.1) (4 rows, row 3 OOD)")):
        x = SVDD_X.clone().requires_grad_()
        d = ops.center_distances(x, SVDD_C, True).squeeze(1)
        near(d, golden["SVDD.d"])
        l = objective_loss("deep_svdd", x, SVDD_Y, SVDD_C[0], t(radius), nu=nu)
        near(l, golden[value])
        l.backward()
        near(x.grad, golden[grad])
    near(ops.svdd_radius(t(golden["SVDD.d"][:3]), .1), golden["SVDD.radius quantile(.9) linear"])
    criterion = ood.nn.DeepSVDDLoss(5)
    criterion.init_center(torch.tensor([[.05, -.03, 0, .5, -.1]]))
    assert criterion.center.tolist() == torch.tensor([.1, -.1, 0, .5, -.1]).tolist()
    assert objective_loss("deep_svdd", t([[1.], [2.]]), torch.tensor([-1, -1]), t([0.]), t(1.), nu=.1).item() == 0


def test_defect_peer_svdd_drops_radius_and_nu(golden):
    theirs = peer.DeepSVDDLoss(n_dim=2, radius=1., center=SVDD_C[0].float())
    near(theirs(SVDD_X[:3].float()).double(), golden["SVDD.peer mean(radius=1)"])


@pytest.mark.parametrize("semi,eta,value,grad", [
    ([0, 0, 0, -1], 1., "SAD.mean", "SAD.grad_x (semi-targets 0,0,0,-1, eta=1)"),
    ([0, 1, 0, -1], 2., "SAD.mean eta=2 semi-targets 0,+1,0,-1", "SAD.grad_x eta=2 semi-targets 0,+1,0,-1"),
])
def test_sad_golden(golden, semi, eta, value, grad):
    x = SVDD_X.clone()
    x[3] = t([.7, .9])
    x.requires_grad_()
    l = objective_loss("deep_sad", x, torch.tensor(semi), SVDD_C[0], eta=eta)
    near(l, golden[value])
    l.backward()
    near(x.grad, golden[grad])


# MCHAD.

MCHAD_D, MCHAD_Y = t([[1, 4, 9], [2, .25, 3], [1, 2, 5]]), torch.tensor([0, 1, -1])


def test_mchad_golden(golden):
    d = MCHAD_D.clone().requires_grad_()
    hinge = (4. - d).relu().sum(1)[None]
    value = loss("mchad", -d, MCHAD_Y, {"radius": .5, "margin": 1.5}, extras=hinge)
    near(value, golden["MCHAD.formula total(1,1,1)"])
    value.backward()
    near(d.grad, golden["MCHAD.formula.grad_d total(1,1,1)"])
    for weights, key in (((1, 0, 0), 0), ((0, 1, 0), 1), ((0, 0, 1), 2)):
        part = loss("mchad", -MCHAD_D, MCHAD_Y, dict(zip(("weight_center", "weight_nll", "weight_oe"), weights),
                                                     radius=.5, margin=1.5), extras=hinge.detach())
        near(part, golden["MCHAD.formula center,nll,oe"][key])


# Objectosphere, background class, energy gap.

Z, Y = t([[2, 0, -1], [.5, 1.5, 0], [1, -1, 0], [3, 0, 0], [0, 0, 1]]), torch.tensor([0, 1, -1, -1, -1])
F = t([[3, 4], [.3, .4], [1, -2], [0, 0], [.6, .8]])


def test_objectosphere_golden(golden):
    z, f = Z.clone().requires_grad_(), F.clone().requires_grad_()
    options = dict(parameters={"xi": 2., "alpha": .5})
    value = loss("objectosphere", z, Y, extras=f.square().sum(1)[None], **options)
    near(value, golden["Obj.mean"])
    value.backward()
    near(f.grad, golden["Obj.grad_features"])
    near(z.grad, golden["Obj.grad_logits"])
    near(loss("objectosphere", Z, Y, extras=F.square().sum(1)[None], reduction="none", **options),
         golden["Obj.none(xi=2,alpha=.5)"])


def test_objectosphere_matches_the_peer():
    for seed in range(100):
        x, c, y = batch(seed, 20, 6, 6)
        z, f = x.detach().float(), 3 * c.detach().float().repeat(4, 1)[:20]
        a, b = [v.clone().requires_grad_() for v in (z, f)], [v.clone().requires_grad_() for v in (z, f)]
        ours = loss("objectosphere", a[0], y, {"alpha": .3, "xi": 6.}, extras=a[1].square().sum(1)[None])
        theirs = peer.ObjectosphereLoss(alpha=.3, xi=6.)(b[0], b[1], y)
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-6)
        ours.backward()
        theirs.backward()
        for p, q in zip(a, b):
            assert (p.grad - q.grad).abs().max() <= 2e-5 * q.grad.abs().max()


def test_background_class_golden(golden):
    z, target = Z.clone().requires_grad_(), Y.clone()
    value = loss("background_class", z, target)
    near(value, golden["BG.mean"])
    assert target.equal(Y), "the caller's targets were changed"
    value.backward()
    near(z.grad, golden["BG.grad_mean"])
    near(loss("background_class", Z, Y, reduction="none"), golden["BG.none"])
    theirs = peer.BackgroundClassLoss(n_classes=2)(Z, Y)
    near(theirs, golden["BG.mean"])


def test_energy_gap_golden(golden):
    incerto = pytest.importorskip("incerto.ood.training")
    for margin, key in ((10., "margin 10)"), (0., "margin 0, inactive)")):
        z = Z.clone().requires_grad_()
        value = loss("energy_gap", z, Y, {"margin": margin})
        near(value, golden[f"EnergyGap.mean E_in,mean E_out,hinge,total (lam .1, {key}"][3])
        near(value, incerto.EnergyRegularizedLoss(.1, margin)(Z[:2], Y[:2], Z[2:]))
        value.backward()
        near(z.grad, golden[f"EnergyGap.grad(lam .1, {key}"])
    one_sided = loss("energy_gap", Z[:2], Y[:2])
    near(one_sided, golden["CE.mean"])
    with pytest.raises(ValueError, match="function of the whole batch"):
        loss("energy_gap", Z, Y, reduction="none")


@pytest.mark.parametrize("rows, classes", [(40, 6), (4096, 50)])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("margin", [10., 1., 0., -1., -10.])
def test_the_hinge_of_energy_gap_is_what_the_batch_says(margin, ignored, rows, classes):
    """Whichever side of the hinge a pass over the batch begins on."""
    for gap in 3, -3:
        g = torch.Generator().manual_seed(1)
        x = torch.randn(rows, classes, generator=g, dtype=torch.float64)
        y = torch.randint(0, classes, (rows,), generator=g)
        y[rows // 3:] = -1
        x[y < 0] += gap
        if ignored:
            y[::5] = 3
            x[::5] = torch.nan
        taken = y.ne(3) if ignored else torch.ones_like(y, dtype=torch.bool)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        energy, known = -b.logsumexp(1), taken & (y >= 0)
        hinge = (energy[known].mean() - energy[taken & (y < 0)].mean() + margin).relu()
        expected = torch.nn.functional.cross_entropy(b[known], y[known]) + .25 * hinge
        value = loss("energy_gap", a, y, {"margin": margin, "lambda": .25}, **({"ignore_index": 3} if ignored else {}))
        (3 * value).backward()
        (3 * expected).backward()
        assert value.item() == pytest.approx(expected.item(), rel=1e-12)
        assert (a.grad[taken] - b.grad[taken]).abs().max() < 1e-12 and not a.grad[~taken].any()
        with torch.no_grad():
            assert loss("energy_gap", a, y, {"margin": margin, "lambda": .25}, **({"ignore_index": 3} if ignored else {})).item() == value.item()


@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 3e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("spoilt", [False, True])
def test_anchors_on_the_axes_take_a_shorter_way_to_the_same_numbers(dtype, tolerance, spoilt):
    g = torch.Generator().manual_seed(0)
    n, k, m = 120, 160, 3.
    x = torch.randn(n, k, generator=g).to(dtype)
    x[:40] = x[:40] * 1e-3 + m * torch.eye(k, dtype=dtype)[:40]  # near an anchor, where a product would lose digits
    c = m * torch.eye(k, dtype=dtype)
    if spoilt:  # no longer such anchors, by one number
        c[77, 3] = .5
    w = torch.randn(n, k, generator=g).to(dtype)
    a = x.clone().requires_grad_()
    (w * ops.center_distances(a, c, True)).sum().backward()
    b = x.double().requires_grad_()
    right = (b.unsqueeze(1) - c.double()).square().sum(2)
    (w.double() * right).sum().backward()
    torch.testing.assert_close(ops.center_distances(x, c, True).double(), right, rtol=5 * tolerance, atol=0)
    torch.testing.assert_close(a.grad.double(), b.grad, rtol=20 * tolerance, atol=100 * tolerance)


@pytest.mark.parametrize("offset", [0., 30.])
@pytest.mark.parametrize("near", [0., 1e-3, .25, .6])
def test_distances_of_many_centers_keep_their_digits_near_one(near, offset):
    """At a size where they are matrix products; `near`: how far rows are from a center, in its standard deviations."""
    g = torch.Generator().manual_seed(0)
    c = torch.randn(200, 96, generator=g) + offset
    x = c[torch.arange(300) % 200] + near * torch.randn(300, 96, generator=g)
    right = (x.double()[:, None] - c.double()[None]).square().sum(2)
    torch.testing.assert_close(ops.center_distances(x, c, True).double(), right, rtol=4e-6, atol=0)


@pytest.mark.parametrize("n,k,d", [(4000, 10, 64), (40000, 10, 16), (700, 200, 96), (64, 900, 128)])
def test_products_are_the_same_bits_for_every_number_of_threads_and_without_modes(n, k, d):
    g = torch.Generator().manual_seed(0)
    x, c = torch.randn(n, d, generator=g).requires_grad_(), torch.randn(k, d, generator=g).requires_grad_()
    w = torch.randn(n, k, generator=g).requires_grad_()  # an upstream gradient may have a graph of its own
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            distances = ops.center_distances(x, c, True)
            results.append([distances.detach(), *torch.autograd.grad(distances, (x, c), w)])
            with torch.inference_mode():
                assert torch.equal(ops.center_distances(x.clone(), c, True), distances)
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("centers", [2, 6, 40])
def test_a_loss_of_the_own_center_keeps_its_digits_with_few_centers(centers):
    g = torch.Generator().manual_seed(0)
    c, y = torch.randn(centers, 64, generator=g) * 10, torch.randint(0, centers, (4000,), generator=g)
    x = (c[y] + 1e-3 * torch.randn(4000, 64, generator=g)).requires_grad_()
    ops.center_distances(x, c, True).gather(1, y[:, None]).sum().backward()
    right = 2 * (x.detach().double() - c[y].double())
    torch.testing.assert_close(x.grad.double(), right, rtol=1e-6, atol=0)


def test_forward_mode_sees_the_centers():
    x, c, v = torch.randn(5, 3, dtype=D), torch.randn(4, 3, dtype=D), torch.randn(4, 3, dtype=D)
    _, tangent = torch.func.jvp(lambda c: ops.center_distances(x, c, True), (c,), (v,))
    near(tangent, -2 * ((x[:, None] - c) * v).sum(2))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(c, v)
        out = torch.autograd.forward_ad.unpack_dual(ops.center_distances(x.requires_grad_(), dual, True))
        near(out.tangent, tangent)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("unused", ["nothing", "a third of the rows", "a third of the centers", "most"])
def test_gradients_of_many_centers(squared, unused):
    """At a size where they are matrix products. What takes no part may hold NaN."""
    g = torch.Generator().manual_seed(0)
    x, c, w = torch.randn(300, 96, generator=g), torch.randn(200, 96, generator=g), torch.randn(300, 200, generator=g)
    spoilt_x, spoilt_c = x.clone(), c.clone()
    if unused == "a third of the rows":
        w[::3], spoilt_x[::3] = 0, float("nan")
    if unused == "a third of the centers":
        w[:, ::3], spoilt_c[::3] = 0, float("nan")
    if unused == "most":
        w[torch.rand(w.shape, generator=g) > .02] = 0
        w[5, 7] = 1e-41  # no more than 0, and slow in a product
    gradients = []
    for a, b, up in ((spoilt_x, spoilt_c, w), (x.double(), c.double(), w.double())):
        a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
        d = ops.center_distances(a, b, squared) if a.dtype == torch.float else (a[:, None] - b[None]).square().sum(2)
        gradients.append(torch.autograd.grad(d if squared or a.dtype == torch.float else d.sqrt(), (a, b), up))
    for ours, right in zip(*gradients):
        torch.testing.assert_close(ours.double(), right, rtol=0, atol=4e-6 * right.abs().max().item())


@pytest.mark.parametrize("squared", [True, False])
def test_a_loss_that_looks_at_one_center_a_row_has_the_gradient_of_all(squared):
    g = torch.Generator().manual_seed(0)
    x, c = torch.randn(512, 8, generator=g), torch.randn(300, 8, generator=g)
    y = torch.randint(0, 300, (512,), generator=g)
    gradients = []
    for dtype, distances in ((torch.float32, ops.center_distances),
                             (torch.float64, lambda a, b, s: torch.cdist(a, b).square() if s else torch.cdist(a, b))):
        a, b = x.to(dtype).requires_grad_(), c.to(dtype).requires_grad_()
        d = distances(a, b, squared)
        gradients.append(torch.autograd.grad(d[torch.arange(512), y].mean(), (a, b)))
    for ours, right in zip(*gradients):
        torch.testing.assert_close(ours.double(), right, rtol=1e-5, atol=1e-7)
