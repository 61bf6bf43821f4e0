"""Objectives with state: golden values, gradients, updates, the sampler's distribution, the peer."""
import copy
import json
import math

import pytest
import torch

import ood
from conftest import CASES, SHARED, objective_loss, ops

pytestmark = pytest.mark.filterwarnings("ignore")
D = torch.float64


def golden():
    path = SHARED / "spec" / "golden.json"
    if not path.exists():
        pytest.skip("golden values are not here")
    return json.loads(path.read_text())


def near(a, b, atol=1e-7):
    a = a.detach() if isinstance(a, torch.Tensor) else torch.tensor(a)
    torch.testing.assert_close(a.to(D), torch.as_tensor(b, dtype=D).view_as(a), atol=atol, rtol=0)


def t(values):
    return torch.tensor(values, dtype=D, requires_grad=True)


Z = [[2, 0, -1], [.5, 1.5, 0], [1, -1, 0], [3, 0, 0], [0, 0, 1.]]
Y = torch.tensor([0, 1, -1, -1, -1])


# Confidence

@pytest.mark.parametrize("hint,suffix", [(None, ""), ([True, False, True], " with hint mask b=[1,0,1]")])
def test_confidence_golden(hint, suffix):
    g = golden()
    z, c, y = t(Z[:3]), torch.tensor([.9, .5, .2], dtype=D), torch.arange(3)
    u = torch.logit(c).requires_grad_()
    mask = None if hint is None else torch.tensor(hint)
    lam = torch.tensor(.1, dtype=D)
    value = objective_loss("confidence", z, u, y, lam, mask)
    near(value, g["Conf.mean" + ("(lam=.1)" if hint is None else suffix)])
    gz, gu = torch.autograd.grad(value, (z, u))
    near(gz, g["Conf.grad_logits" + suffix])
    near(gu, g["Conf.grad_confidence_logit" + ("(=grad_c*c*(1-c))" if hint is None else suffix)])
    nll = objective_loss("confidence", z, u, y, torch.zeros((), dtype=D), mask, reduction="none")
    near(nll, g["Conf.nll.none" + suffix])
    f = lambda z, u: objective_loss("confidence", z, u, y, lam, mask)
    assert torch.autograd.gradcheck(f, (z, u)) and torch.autograd.gradgradcheck(f, (z, u))


def test_confidence_budget_golden():
    lam, expected = torch.tensor(.1, dtype=D), golden()["Conf.step_budget lambda .1, budget .3: L_conf .25 then .3 then .35"]
    for mean, value in zip((.25, .3, .35), expected):
        u = torch.full((3,), -math.log(math.expm1(mean)), dtype=D)  # of which -log sigmoid is that mean
        ops.objective_update_("confidence", [.1, .3, .5], [t(Z[:3]).detach(), u, torch.arange(3)], [lam])
        near(lam, value)


def test_confidence_is_finite_for_every_confidence_and_takes_empty_batches():
    z = torch.randn(4, 3, dtype=D, requires_grad=True)
    u = torch.tensor([-1e4, -50., 50., 1e4], dtype=D, requires_grad=True)
    value = objective_loss("confidence", z, u, torch.arange(4) % 3, torch.tensor(.1, dtype=D))
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, (z, u))) and value.isfinite()
    value = objective_loss("confidence", z, u, torch.full((4,), -1), torch.tensor(.1, dtype=D))
    assert value == 0 and torch.autograd.grad(value, z)[0].eq(0).all()
    assert objective_loss("confidence", z[:0], u[:0], torch.zeros(0).long(), torch.tensor(.1)) == 0
    with pytest.raises(ValueError, match="confidence logit of the target's shape"):
        objective_loss("confidence", z, u.unsqueeze(1), torch.arange(4) % 3, torch.tensor(.1))


def test_defect_of_the_peer_a_confidence_vector_broadcasts_over_classes():
    peer = pytest.importorskip("pytorch_ood.loss").ConfidenceLoss(alpha=.1)
    z, c, y = torch.tensor(Z[:3]), torch.tensor([.9, .5, .2]), torch.tensor([1, 1, 1])
    right = peer(z, c.unsqueeze(1), y)
    near(right, objective_loss("confidence", z, torch.logit(c), y, torch.tensor(.1)), 1e-5)
    assert abs(peer(z, c, y) - right) > .1


# VOS

def vos_inputs():
    return t(Z), t([.5, 1, 2]), t([.3, -.2]), t([.1, -.1])


@pytest.mark.parametrize("balance", [False, True])
def test_vos_reg_golden(balance):
    g = golden()
    z, w, phi, b = vos_inputs()
    near(ops.vos_energy(z, w), g["VOS.weighted lse"])
    value = objective_loss("vos_reg", z, Y, w, phi, b, balance=balance)
    near(value, g["VOS.total balanced expectations (paper eq, reference sign)" if balance
                  else "VOS.total mean (reference sign, alpha .1)"])
    end = " balanced" if balance else ""
    for grad, key in zip(torch.autograd.grad(value, (z, w, phi, b)), ("logits", "w", "phiW", "phib")):
        near(grad, g[f"VOS.grad_{key}{end}"])
    near(objective_loss("vos_reg", z, Y, w, phi, b, balance=balance, reduction="none"), g["VOS.none (CE + alpha reg_i, reference sign)"])
    f = lambda *a: objective_loss("vos_reg", a[0], Y, *a[1:], balance=balance)
    assert torch.autograd.gradcheck(f, (z, w, phi, b)) and torch.autograd.gradgradcheck(f, (z, w, phi, b))


def test_vos_energy_where_the_reference_breaks():
    near(ops.vos_energy(t([[200., 0, 0]]), t([0., 1, 1])), [math.log(2)])
    value = ops.vos_energy(t([[1., 2, 3]]), t([-1., 0, -2]))
    near(value, [math.log(1e-30)])
    pictures = torch.randn(2, 3, 4, 5, dtype=D)
    w = torch.rand(3, dtype=D)
    near(ops.vos_energy(pictures, w), ops.vos_energy(pictures.movedim(1, -1).reshape(-1, 3), w).view(2, 4, 5))


def test_vos_synthesis_golden_through_the_last_layer():
    g, key = golden(), ("VOS.synth(v=[1,0],[0,1],[1,1]; fcW=[.5,-1],[.2,.3],[-.4,.8]; fcb=[.1,0,-.1]; "
                        "ID rows 0,1)")
    z, (w, phi, b) = t(Z[:2]), vos_inputs()[1:]
    fc, bias = t([[.5, -1], [.2, .3], [-.4, .8]]), t([.1, 0, -.1])
    v = torch.tensor([[1, 0], [0, 1], [1, 1.]], dtype=D)
    target = torch.tensor([0, 1, -1, -1, -1])
    value = objective_loss("vos_reg", torch.cat([z, v @ fc.t() + bias]), target, w, phi, b)
    near(value, g[key + ".total"])
    for grad, name in zip(torch.autograd.grad(value, (fc, bias, z, w)), ("fcW", "fcb", "logits_ID", "w")):
        near(grad, g[f"{key}.grad_{name}"])


def queues(classes, length, width, dtype=D):
    return [torch.zeros(classes, length, width, dtype=dtype), torch.zeros(classes, dtype=torch.long),
            torch.zeros(classes, width, dtype=D), torch.zeros(width, width, dtype=D)]


def test_vos_covariance_golden():
    state = queues(2, 2, 2)
    ops.vos_enqueue_(*state, torch.tensor([[0, 0], [2, 0], [1, 1], [1, 5.]], dtype=D), torch.tensor([0, 0, 1, 1]), 0)
    near(ops.vos_covariance(*state), golden()["VOS.cov queues [[0,0],[2,0]],[[1,1],[1,5]]"])


@pytest.mark.parametrize("n,d,e", [(10000, 128, [1.]), (10000, 512, [1, .5, 2]), (200, 8, [.3, .7])])
def test_vos_order_statistics_golden(n, d, e):
    key = f"VOS.order n={n} d={d} E=[{','.join(f'{v:g}' for v in e)}]"
    near(ops.vos_order_radii(torch.tensor(e, dtype=D), n, d), golden()[key + ": r2"], 1e-6)


def test_running_moments_are_those_of_the_queues():
    g = torch.Generator().manual_seed(1)
    state = queues(3, 20, 5, torch.float32)
    shadow = [[] for _ in range(3)]
    for step in range(120):
        x = torch.randn(13, 5, generator=g) + 3
        y = torch.randint(-1, 3, (13,), generator=g)
        full = all(len(q) >= 20 for q in shadow)
        for row, c in zip(x, y):  # the rule, one row after the other
            if c >= 0 and (full or len(shadow[c]) < 20):
                shadow[c] = shadow[c][-19:] + [row] if len(shadow[c]) >= 20 else shadow[c] + [row]
        ops.vos_enqueue_(*state, x, y, step)
    for c in range(3):
        assert {tuple(r.tolist()) for r in shadow[c]} == {tuple(r.tolist()) for r in state[0][c]}
    stacked = torch.stack([torch.stack(q) for q in shadow]).to(D)
    centred = (stacked - stacked.mean(1, keepdim=True)).flatten(0, 1)
    near(ops.vos_covariance(*state), centred.t() @ centred / 60 + 1e-4 * torch.eye(5, dtype=D), 1e-9)


# Fixed beforehand: these statistics, 3 seeds, level 1e-3 for the smallest of all p-values by Bonferroni.
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_sampler_has_the_distribution_of_the_naive_one(seed):
    stats = pytest.importorskip("scipy.stats")
    torch.manual_seed(seed)
    n, d, runs = 200, 4, 1500
    a = torch.randn(d, d, dtype=D)
    covariance, mean = a @ a.t() + .5 * torch.eye(d, dtype=D), torch.randn(1, d, dtype=D)
    ours = ops.vos_sample(mean.expand(runs, d).contiguous(), covariance, n, 1)
    gauss = torch.distributions.MultivariateNormal(mean[0], covariance)
    draws = gauss.sample((runs, n))
    naive = draws[torch.arange(runs), gauss.log_prob(draws).argmin(1)]
    chol = torch.linalg.cholesky(covariance)
    radius = lambda x: torch.linalg.solve_triangular(chol, (x - mean).t(), upper=False).norm(dim=0)
    p = [stats.ks_2samp(radius(ours), radius(naive)).pvalue]
    p += [stats.ks_2samp(ours[:, i], naive[:, i]).pvalue for i in range(d)]
    assert min(p) > 1e-3 / (3 * len(p)), p


def test_the_sampler_survives_a_singular_covariance_and_names_a_hopeless_one():
    singular = torch.zeros(3, 3, dtype=D)
    singular[0, 0] = 1
    assert ops.vos_sample(torch.zeros(2, 3), singular, 100, 4).isfinite().all()
    with pytest.raises(ValueError, match="not positive definite"):
        ops.vos_sample(torch.zeros(2, 3), torch.full((3, 3), math.nan, dtype=D), 100, 1)
    with pytest.raises(ValueError, match="select from 1 to sample_from"):
        ops.vos_sample(torch.zeros(2, 3), torch.eye(3, dtype=D), 2, 3)


# SCONE

def scone(eta, state, z=None, w=None, b=None):
    z, w, b = z if z is not None else t(Z), w if w is not None else t(-.5), b if b is not None else t(.7)
    return ops.energy_margin_loss(z, Y, w, b, torch.tensor([*state, .3], dtype=D), -eta), (z, w, b)


@pytest.mark.parametrize("eta,state,key", [
    (-10., [0, 1, 0, 1], "eta=-10.0 lam=lam2=0 beta=1"), (1., [0, 1, 0, 1], "eta=1.0 lam=lam2=0 beta=1"), (0., [0, 1, 0, 1], "eta=0.0 lam=lam2=0 beta=1"),
    (-10., [.3, 1.5, .4, 1], "eta=-10.0 lam=.3 lam2=.4 beta=1.5 beta2=1")])
def test_energy_margin_golden(eta, state, key):
    g = golden()
    value, inputs = scone(eta, state)
    inside, outside, c1, c2, total = g["SCONE.Lin,Lout,c1,c2,total " + key]
    near(value, total)
    got = ops.energy_margin_means(*[i.detach() for i in inputs[:1]], Y, *inputs[1:], -eta)
    near(got[0], inside), near(got[1], outside)
    if "SCONE.grad_logits " + key in g:
        for grad, name in zip(torch.autograd.grad(value, inputs), ("logits", "w", "b")):
            near(grad, g[f"SCONE.grad_{name} {key}"])
    f = lambda z, w, b: scone(eta, state, z, w, b)[0]
    assert torch.autograd.gradcheck(f, inputs) and torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.parametrize("shared", [False, True])
def test_energy_margin_updates_golden(shared):
    rows = golden()["SCONE.updates (c1,c2)=(.2,.5),(-.1,.1),(-.3,-.9): rows lam,lam2,beta,beta2,lam_shared(reference alias)"]
    state = torch.tensor([0, 1, 0, 1, .3], dtype=D)
    for (c1, c2), (l, l2, b, b2, both) in zip([(.2, .5), (-.1, .1), (-.3, -.9)], rows):
        ops.energy_margin_update_(state, c1, c2, shared_multiplier=shared)
        near(state[:4], [both, b, both, b2] if shared else [l, b, l2, b2], 1e-6)


def test_energy_margin_takes_one_sided_batches():
    state = torch.tensor([.3, 1.5, .4, 1, .3], dtype=D)
    for labels in (torch.full((5,), -1), torch.zeros(5).long(), torch.zeros(0).long()):
        z = torch.randn(len(labels), 3, dtype=D, requires_grad=True)
        value = ops.energy_margin_loss(z, labels, t(-.5), t(.7), state)
        grad, = torch.autograd.grad(value, z)
        assert value.isfinite() and grad.isfinite().all()
    import ood
    with pytest.raises(ValueError, match="margin at least 0"):
        ood.nn.EnergyMarginLoss(.3, margin=-1.)


# The peer in the same process

def train(loss, parameters, steps=200, seed=3, with_features=False):
    """A curve of losses: a small network on fixed data, SGD."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(512, 10, generator=g), torch.randint(-1, 4, (512,), generator=g)
    x[y >= 0, :4] += 2 * torch.nn.functional.one_hot(y[y >= 0], 4)
    torch.manual_seed(seed)
    body, last = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU()), torch.nn.Linear(16, 4)
    optimizer = torch.optim.SGD([*body.parameters(), *last.parameters(), *parameters], lr=.05, momentum=.9)
    curve = []
    for step in range(steps):
        rows = torch.randint(0, 512, (64,), generator=g)
        f = body(x[rows])
        value = loss(last(f), f, y[rows], last)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        curve.append(value.item())
    return torch.tensor(curve)


def linear(outputs, seed=5):
    torch.manual_seed(seed)
    return torch.nn.Linear(1, outputs)


def test_energy_margin_trains_as_the_peer_with_separate_multipliers():
    peer = pytest.importorskip("pytorch_ood.loss")
    theirs, phi = peer.EnergyMarginLoss(full_train_loss=.2, eta=-10.), linear(1)
    theirs.lam.fill_(.3), theirs.lam2.fill_(.4)
    a = train(lambda z, f, y, last: theirs(z, y, phi), phi.parameters())
    phi, state = linear(1), torch.tensor([.3, 1, .4, 1, .2])
    b = train(lambda z, f, y, last: ops.energy_margin_loss(z, y, phi.weight, phi.bias, state, 10.), phi.parameters())
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_vos_reg_trains_as_the_peer_up_to_the_sign_of_its_logistic_layer():
    peer = pytest.importorskip("pytorch_ood.loss")
    weights = torch.nn.Linear(4, 1)
    weights.weight.data = torch.rand(1, 4, generator=torch.Generator().manual_seed(1))
    theirs = peer.VOSRegLoss(linear(2), weights)
    own = torch.nn.Parameter(weights.weight.data[0].clone())
    a = train(lambda z, f, y, last: theirs(z, y), theirs.parameters())
    phi = linear(2)
    phi.weight.data.neg_()  # the peer's energy is minus ours
    b = train(lambda z, f, y, last: objective_loss("vos_reg", z, y, own, phi.weight, phi.bias), [own, *phi.parameters()])
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_synthesis_trains_as_the_peer_with_its_draws(monkeypatch):
    """The naive sampler of the peer, its outliers handed to ours: queues, covariance and loss agree."""
    peer = pytest.importorskip("pytorch_ood.loss")
    weights = torch.nn.Linear(4, 1)
    weights.weight.data = torch.rand(1, 4, generator=torch.Generator().manual_seed(1))
    drawn = []

    def build(last):
        return peer.VirtualOutlierSynthesizingRegLoss(linear(2), weights, last, sample_number=20, sample_from=50)

    theirs = []
    start = weights.weight.data.clone()

    def peers(z, f, y, last):
        if not theirs:
            theirs.append(build(last))
            sample = theirs[0]._sample_virtual_outliers

            def remember():
                torch.manual_seed(100 + len(drawn))
                drawn.append((sample().detach(), theirs[0].data_dict.mean(1).clone()))
                return drawn[-1][0]

            theirs[0]._sample_virtual_outliers = remember
        return theirs[0](z, f, y)

    a = train(peers, weights.parameters())
    weights.weight.data = start
    own, phi = torch.nn.Parameter(start[0].clone()), linear(2)
    phi.weight.data.neg_()
    phi.weight.requires_grad_(False), phi.bias.requires_grad_(False)  # as above: not among the parameters
    state, used = queues(4, 20, 16, torch.float32), [0]

    def ours(z, f, y, last):
        full = bool((state[1] >= 20).all())
        ops.vos_enqueue_(*state, f, y, used[0])
        id_rows = z[y >= 0]
        if not full:
            return torch.nn.functional.cross_entropy(id_rows, y[y >= 0])
        v, means = drawn[used[0]]
        used[0] += 1
        near(state[2] / 20, means, 1e-4)
        target = torch.cat([y[y >= 0], torch.full((len(v),), -1)])
        return objective_loss("vos_reg", torch.cat([id_rows, last(v)]), target, own, phi.weight, phi.bias)

    b = train(ours, [own])
    assert used[0] == len(drawn) > 100
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_opcheck_of_every_op_of_the_library():
    """Each op of the namespace has its inputs here, or is one that test_ops.py checks for every objective."""
    x, y = torch.randn(6, 4, dtype=D, requires_grad=True), torch.tensor([0, 1, 2, 0, -1, -1])
    c, one = torch.randn(3, 4, dtype=D, requires_grad=True), torch.ones((), dtype=D)
    state = queues(3, 2, 4)
    scone_state = torch.tensor([0, 1, 0, 1, .3], dtype=D)
    w, b = torch.randn(2, dtype=D, requires_grad=True), torch.randn(2, dtype=D, requires_grad=True)
    inputs = {
        "center_distances": (x, c, True), "own_center_distances": (x, c, y), "segment_sum": (x, y, 3),
        "closest_pair": (c.detach(), torch.tensor([1, 0, 2])),
        "center_update_": (c.detach().clone(), x.detach(), y, .5),
        "svdd_radius": (x.detach().square().sum(1), .1),
        "vos_energy": (x, torch.rand(4, dtype=D)), "vos_enqueue_": (*state, x.detach(), y, 0),
        "vos_covariance": tuple(state), "vos_order_radii": (torch.ones(2, dtype=D), 10, 3),
        "energy_margin_loss": (x, y, w[:1], b[:1], scone_state), "energy_margin_means": (x, y, w[:1], b[:1]),
        "energy_margin_update_": (scone_state.clone(), .1, .2),
        "msp_score": (x,), "max_logit_score": (x,), "energy_score": (x,), "entropy_score": (x,), "margin_score": (x,),
        "score_compute": ("gen", [.1, 100.], x.detach(), None, []),
        "augmented_lagrangian": (x[:, 0], one, one * 2),
        "running_means_update_": (c.detach().clone(), torch.tensor([1, 0, 2]), x.detach(), y),
        "confidence_loss_of_probability": (x, torch.rand(6, dtype=D), y, one), "svdd_hinge_loss": (x, c[0], y, one),
        "mchad_loss": (torch.rand(6, 3, dtype=D, requires_grad=True), y, [1., 1., 1., .1, .5]),
        "objective_loss": ("mchad", [1., 1., 1., .1, .5, 0.], [x, y, c]),
        "objective_update_": ("ii", [1., 0., 0.], [x.detach(), y], [torch.tensor([1, 0, 2]), c.detach().clone()]),
        "objective_distances": ("mchad", [1., 1., 1., .1, .5, 0.], x, [c]),
        "objective_readout": ("confidence", [.1, .3, .5], x, x, [one]),
        "center_loss_of_distances": (torch.rand(6, 3, dtype=D, requires_grad=True), y, .5),
    }
    # Of numbers, not of tensors; or random, so that two calls may not be compared; or checked through another op.
    without = {"objectives_json", "scores_json", "detection", "auroc_interval", "threshold_at", "threshold_for", "auroc_difference", "open_set", "calibration"} | {
        "score_fit", "p_values", "joint_score"} | {
        "vos_sample", "mixup_data", "cutmix", "objective_draw", "objective_start"} | {"row_terms", "loss", "_loss_parts", "_direct_loss"}
    names = {n.split("::")[1].split(".")[0] for n in torch._C._dispatch_get_all_op_names() if n.startswith("ood::")}
    names = {n for n in names if not n.endswith(("_forward", "_backward"))}
    assert names == set(inputs) | without, names ^ (set(inputs) | without)
    for name, arguments in inputs.items():
        torch.library.opcheck(getattr(ops, name), arguments)


@pytest.mark.parametrize("case", [c for c in CASES if c.objective.draws != "outliers"], ids=lambda c: c.name)
def test_opcheck_of_the_loss_of_every_objective(case):
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    criterion = case.make()
    inputs = [i.detach().clone().requires_grad_() for i in case.inputs(x)]
    labels = case.labels(torch.tensor([0, 1, 2, 0, -1, -1]))
    torch.library.opcheck(ops.objective_loss, (case.objective.name, criterion.parameter_list(), [*inputs, labels, *criterion._state_of_loss()]))


def test_features_that_are_not_finite_do_not_stay():
    """A step whose numbers overflowed is skipped by a GradScaler; sums and means would keep it for good."""
    torch.manual_seed(0)
    y, head = torch.arange(9) % 3, torch.nn.Linear(4, 3)
    vos = ood.nn.VirtualOutlierSynthesizingRegLoss(3, 4, sample_number=6, sample_from=50)
    ii = ood.nn.IILoss(3, 4)
    twins = copy.deepcopy(vos), copy.deepcopy(ii)
    for i in range(8):
        z = torch.randn(9, 4)
        if i == 5:
            bad = z.clone()
            bad[0, 0] = float("inf")
            vos(torch.randn(9, 3), bad, y, head)
            ii(bad, y)
            twins[0](torch.randn(8, 3), z[1:], y[1:], head)
            twins[1](z[y != 0], y[y != 0])
        else:
            assert vos(torch.randn(9, 3), z, y, head).isfinite() and ii(z, y).isfinite()
            twins[0](torch.randn(9, 3), z, y, head)
            twins[1](z, y)
    for got, want in zip((vos, ii), twins):
        for (name, a), b in zip(got.named_buffers(), want.buffers()):
            assert a.isfinite().all(), name
            near(a.double(), b.double(), 1e-5)


def test_a_center_is_not_made_of_what_is_no_number():
    with pytest.raises(ValueError, match="init_center: expected finite embeddings, got NaN or infinity"):
        ood.nn.DeepSVDDLoss(4).init_center(torch.tensor([[1., 2, 3, float("nan")]]))


def test_a_broken_outlier_of_the_start_has_no_gradient():
    """Until its cross-entropy is measured, the loss reads ID rows alone."""
    x = torch.randn(4, 3)
    x[3, 0] = float("nan")
    x.requires_grad_()
    loss = ood.nn.EnergyMarginLoss()(x, torch.tensor([0, 1, 2, -1]))
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all() and not x.grad[3].any()


def test_centers_take_embeddings_of_a_wider_type():
    for make in (ood.nn.MCHADLoss, ood.nn.CACLoss, ood.nn.CenterLoss):
        criterion = make(3) if make is ood.nn.CACLoss else make(3, 4)
        x = torch.randn(5, 3 if make is ood.nn.CACLoss else 4, dtype=torch.double, requires_grad=True)
        criterion(x, torch.tensor([0, 1, 2, 0, 1])).backward()
        assert x.grad.dtype == torch.double and x.grad.isfinite().all()
