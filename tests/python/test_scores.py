"""Every score against NumPy and scikit-learn computations written from the papers, and degenerate cases."""
import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import binom
from sklearn.neighbors import NearestNeighbors

import ood

CLASSES, WIDTH, ROWS = 5, 12, 600


class Data:
    """ID training data, a last layer, held-out logits and queries; features of a ReLU."""

    def __init__(self, seed=0, rows=ROWS, dtype=torch.double):
        g = torch.Generator().manual_seed(seed)
        def randn(*shape): return torch.randn(*shape, generator=g, dtype=torch.double)
        self.labels = torch.arange(rows) % CLASSES
        centers = 2 * randn(CLASSES, WIDTH)
        mix = torch.eye(WIDTH, dtype=torch.double) + 0.3 * randn(WIDTH, WIDTH)
        self.features = (centers[self.labels] + randn(rows, WIDTH) @ mix).relu().to(dtype)
        self.weight, self.bias = centers + 0.1 * randn(CLASSES, WIDTH), randn(CLASSES)
        self.logits = self.features.double() @ self.weight.T + self.bias
        self.held_out_labels = torch.arange(200) % CLASSES
        held_out = (centers[self.held_out_labels] + randn(200, WIDTH) @ mix).relu()
        self.held_out_logits = held_out @ self.weight.T + self.bias
        self.queries = (3 * randn(40, WIDTH)).relu().to(dtype)
        self.query_logits = self.queries.double() @ self.weight.T + self.bias

    def fitted(self, name, **parameters):
        return ood.scores.scores()[name](**parameters).fit(
            logits=self.logits, features=self.features, labels=self.labels, weight=self.weight, bias=self.bias,
            held_out_logits=self.held_out_logits, held_out_labels=self.held_out_labels)

    def score(self, name, **parameters):
        return self.fitted(name, **parameters)(logits=self.query_logits, features=self.queries)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def mahalanobis(x, means, covariance, ridge=1e-6):
    covariance = covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    precision = np.linalg.inv(covariance)
    return np.stack([np.einsum("ij,jk,ik->i", x - m, precision, x - m) for m in means], 1)


def class_statistics(z, y):
    means = np.stack([z[y == c].mean(0) for c in range(CLASSES)])
    within = sum((z[y == c] - means[c]).T @ (z[y == c] - means[c]) for c in range(CLASSES)) / len(z)
    return means, within, np.cov(z.T, bias=True)


def temperature(f, y):
    from scipy.optimize import minimize_scalar
    nll = lambda log_t: -log_softmax(f / np.exp(log_t), 1)[np.arange(len(y)), y].mean()
    return np.exp(minimize_scalar(nll, bounds=(-4, 4), method="bounded", options={"xatol": 1e-12}).x)


def expected(name, d):
    z, y, f = d.features.numpy(), d.labels.numpy(), d.logits.numpy()
    w, b, q, fq = d.weight.numpy(), d.bias.numpy(), d.queries.numpy(), d.query_logits.numpy()
    p, m = softmax(fq, 1), fq.argmax(1)
    rows = np.arange(len(q))
    mu = z.mean(0)
    if name == "msp": return -p.max(1)
    if name == "max_logit": return -fq.max(1)
    if name == "energy": return -logsumexp(fq, 1)
    if name == "entropy": return -(p * log_softmax(fq, 1)).sum(1)
    if name == "margin": return np.sort(p, 1)[:, -2] - np.sort(p, 1)[:, -1]
    if name == "gen":
        rest = np.stack([np.delete(p, c, 1).sum(1) for c in range(CLASSES)], 1)
        return ((p * rest) ** 0.1).sum(1)
    if name == "temperature":
        return -softmax(fq / temperature(d.held_out_logits.numpy(), d.held_out_labels.numpy()), 1).max(1)
    if name == "norm_max_logit":
        c = fq - fq.mean(1, keepdims=True)
        return -c.max(1) / np.linalg.norm(c, 5, axis=1)
    if name == "knn":
        return NearestNeighbors(n_neighbors=50, algorithm="brute").fit(unit(z)).kneighbors(unit(q))[0][:, -1]
    if name in ("mds", "mds_pp", "rmds"):
        zz, qq = (z, q) if name == "mds" else (unit(z), unit(q))
        means, within, total = class_statistics(zz, y)
        near = mahalanobis(qq, means, within).min(1)
        return near - mahalanobis(qq, [zz.mean(0)], total)[:, 0] if name == "rmds" else near
    if name == "vim":
        o = -np.linalg.pinv(w) @ b
        values, vectors = np.linalg.eigh((z - o).T @ (z - o) / len(z))
        space = vectors[:, :WIDTH - WIDTH // 2]
        alpha = f.max(1).sum() / np.linalg.norm((z - o) @ space, axis=1).sum()
        return alpha * np.linalg.norm((q - o) @ space, axis=1) - logsumexp(fq, 1)
    if name == "fdbd":
        out = np.zeros(len(q))
        for i in rows:
            out[i] = -np.mean([(fq[i, m[i]] - fq[i, j]) / np.linalg.norm(w[m[i]] - w[j])
                               for j in range(CLASSES) if j != m[i]]) / np.linalg.norm(q[i] - mu)
        return out
    if name == "nci":
        return -((w[m] * (q - mu)).sum(1) / np.linalg.norm(q - mu, axis=1)) - 1e-4 * np.abs(q).sum(1)
    if name == "ctm":
        return -(unit(q) @ unit(class_statistics(z, y)[0]).T).max(1)
    if name == "klm":
        pt = softmax(f, 1)
        templates = [pt[f.argmax(1) == c].mean(0) for c in range(CLASSES) if (f.argmax(1) == c).any()]
        return np.min([(p * (log_softmax(fq, 1) - np.log(t))).sum(1) for t in templates], 0)
    if name == "she":
        right = f.argmax(1) == y
        patterns = np.stack([z[right & (y == c)].mean(0) for c in range(CLASSES)])
        return -(q * patterns[m]).sum(1)
    if name == "nnguide":
        bank = unit(z) * logsumexp(f, 1)[:, None]
        return -np.sort(unit(q) @ bank.T, 1)[:, -100:].mean(1) * logsumexp(fq, 1)
    if name == "react":
        return -logsumexp(np.minimum(q, np.percentile(z, 90)) @ w.T + b, 1)
    if name in ("scale", "ash"):
        share = 0.85 if name == "scale" else 0.65
        keep = WIDTH - int(np.round(WIDTH * share))
        order = np.argsort(-q, 1)[:, :keep]
        top = np.take_along_axis(q, order, 1)
        r = np.exp(q.sum(1) / top.sum(1))[:, None]
        kept = q if name == "scale" else np.zeros_like(q)
        if name == "ash": np.put_along_axis(kept, order, top, 1)
        return -logsumexp((kept * r) @ w.T + b, 1)
    raise KeyError(name)


@pytest.mark.parametrize("name", sorted(ood.scores.scores()))
def test_score_against_numpy(name):
    d = Data()
    torch.testing.assert_close(d.score(name), torch.tensor(expected(name, d)), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", sorted(ood.scores.scores()))
def test_float32_features_give_the_scores_of_float64(name):
    d, wide = Data(dtype=torch.float), Data()
    got, want = d.score(name), wide.score(name)
    assert got.dtype == torch.double
    torch.testing.assert_close(got, want, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", sorted(ood.scores.scores()))
def test_same_in_any_batch_and_number_of_threads(name):
    d = Data()
    score = d.fitted(name)
    whole = score(logits=d.query_logits, features=d.queries)
    parts = torch.cat([score(logits=d.query_logits[i:i + 7], features=d.queries[i:i + 7]) for i in range(0, 40, 7)])
    torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(n for n, s in ood.scores.scores().items() if s.needs))
def test_a_call_before_fit_is_refused(name):
    d = Data()
    with pytest.raises(RuntimeError, match="expected fit"):
        ood.scores.scores()[name]()(logits=d.query_logits, features=d.queries)


@pytest.mark.parametrize("name", sorted(n for n, s in ood.scores.scores().items() if s.needs))
def test_missing_and_broken_training_data_are_named(name):
    cls = ood.scores.scores()[name]
    with pytest.raises(ValueError, match=name):
        cls().fit()
    d = Data()
    d.features[7, 3] = d.logits[7, 3] = d.held_out_logits[7, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinity in row 7"):
        d.fitted(name)


@pytest.mark.parametrize("name", ["mds", "mds_pp", "rmds", "ctm", "she"])
def test_a_class_without_rows_is_named(name):
    d = Data()
    d.labels = torch.where(d.labels == 3, 2, d.labels)
    with pytest.raises(ValueError, match="class 3 has no training rows"):
        d.fitted(name)


@pytest.mark.parametrize("name", ["mds", "mds_pp", "rmds"])
def test_degenerate_covariances(name):
    d = Data(rows=WIDTH + CLASSES - 1)
    with pytest.raises(ValueError, match="expected at least 17 training rows for 12 features and 5 classes, got 16"):
        d.fitted(name)
    assert d.score(name, ridge=1e-2).isfinite().all()
    d = Data()
    d.features = torch.ones(ROWS, WIDTH, dtype=torch.double)
    with pytest.raises(ValueError, match="constant"):
        d.fitted(name)
    d = Data()
    d.features[:, 5] = d.features[:, 4]  # singular: the ridge makes it regular
    assert d.score(name).isfinite().all()


def test_one_class():
    d = Data()
    d.labels.zero_()
    d.weight, d.bias = d.weight[:1], d.bias[:1]
    with pytest.raises(ValueError, match="rmds: expected at least 2 classes, got 1"):
        d.fitted("rmds")
    with pytest.raises(ValueError, match="fdbd: expected at least 2 classes, got 1"):
        d.fitted("fdbd")
    assert d.score("mds_pp").isfinite().all()


@pytest.mark.parametrize("name, parameter", [("knn", "k"), ("nnguide", "k")])
def test_a_bank_smaller_than_k_is_named(name, parameter):
    with pytest.raises(ValueError, match="expected at least k = 700 training rows, got 600"):
        Data().fitted(name, **{parameter: 700})


@pytest.mark.parametrize("name", ["scale", "ash"])
def test_negative_features_are_refused(name):
    d = Data()
    d.features[2, 2] = -0.5
    with pytest.raises(ValueError, match="expected features of at least 0, as a ReLU gives them, got -0.5"):
        d.fitted(name)


def test_scale_and_ash_of_a_row_of_zeros():
    d = Data()
    d.queries = torch.zeros(1, WIDTH, dtype=torch.double)
    for name in ("scale", "ash"):
        torch.testing.assert_close(d.score(name), -d.bias.logsumexp(0, keepdim=True))


def test_gen_of_sure_inputs_is_no_rounding():
    """1 - fl(p) is 0 where p rounds to 1."""
    f = torch.tensor([[50., 0., 0.], [60., 0., 0.]], dtype=torch.double)
    a, b = ood.scores.GEN(gamma=1)(logits=f)
    assert a > b > 0
    torch.testing.assert_close(a / b, torch.tensor(10.).double().exp(), rtol=1e-6, atol=0)
    assert ood.scores.GEN(top=2)(logits=f).isfinite().all() and ood.scores.GEN()(logits=f[:, :1]).eq(0).all()


def test_zero_norms():
    d = Data()
    d.queries = torch.stack([d.features.mean(0), torch.zeros(WIDTH, dtype=torch.double)])
    for name in ("nci", "ctm", "knn", "mds_pp", "rmds", "nnguide", "fdbd"):
        assert d.score(name).isfinite().all(), name
    same = torch.ones(2, 4, dtype=torch.double)
    assert ood.scores.NormMaxLogit()(logits=same).eq(0).all()


def test_fdbd_of_equal_class_weights():
    d = Data()
    d.weight[1] = d.weight[0]
    assert d.score("fdbd").isfinite().all()


def test_klm_without_a_class_that_is_predicted():
    d = Data()
    d.logits[:, 2] = -1000
    assert len(d.fitted("klm").state["log_templates"]) == CLASSES - 1
    assert d.score("klm").isfinite().all()


def test_she_of_a_class_that_is_never_right():
    d = Data()
    d.bias[2] = -1e6
    patterns = d.fitted("she").state["patterns"]
    torch.testing.assert_close(patterns[2], d.features[d.labels == 2].mean(0))


def test_temperature_without_an_optimum():
    """All right: the likelihood grows without end."""
    d = Data()
    d.held_out_logits = 10. * torch.nn.functional.one_hot(d.held_out_labels, CLASSES).double()
    assert d.fitted("temperature").state["temperature"].item() == 1
    d.held_out_logits = torch.zeros_like(d.held_out_logits)
    assert d.fitted("temperature").state["temperature"].item() == 1


def test_temperature_of_logits_in_other_units():
    d = Data()
    one = d.fitted("temperature").state["temperature"]
    d.held_out_logits = 1e6 * d.held_out_logits
    torch.testing.assert_close(d.fitted("temperature").state["temperature"], 1e6 * one)


@pytest.mark.parametrize("name", ["ash", "react", "scale", "fdbd", "nci", "nnguide", "vim", "she"])
def test_a_fitted_score_is_not_changed_by_a_network_that_learns_on(name):
    d = Data()
    score = d.fitted(name)
    before = score(logits=d.query_logits, features=d.queries)
    d.weight *= -3
    d.bias += torch.arange(CLASSES)
    assert score(logits=d.query_logits, features=d.queries).equal(before)
    d.bias[0] = float("nan")
    with pytest.raises(ValueError, match="expected finite weights of the last layer"):
        d.fitted(name)


@pytest.mark.parametrize("spread", [1e-3, 1e-6])
def test_mahalanobis_of_tight_classes(spread):
    """The covariance of all less that of the means is then rounding alone."""
    torch.manual_seed(1)
    y = torch.arange(400) % 4
    z = (1e3 * torch.randn(4, 8).double())[y] + spread * torch.randn(400, 8).double()
    means = torch.stack([z[y == c].mean(0) for c in range(4)])
    off = z - means[y]
    within = off.T @ off / len(z)
    within += 1e-6 * within.diagonal().mean() * torch.eye(8).double()
    got = ood.scores.MDS().fit(features=z, labels=y)(features=z)
    each = torch.stack([((z - m) @ torch.linalg.inv(within) * (z - m)).sum(1) for m in means], 1)
    torch.testing.assert_close(got, each.amin(1), rtol=1e-4, atol=1e-4)


def test_mahalanobis_of_constant_classes():
    y = torch.arange(60) % 3
    for values in ([.1, .2, .7], [.3, .6, 1.1], [1000.1, .7, 5.3]):
        z = torch.tensor(values, dtype=torch.double)[y].unsqueeze(1)
        with pytest.raises(ValueError, match="expected features that vary within a class"):
            ood.scores.MDS().fit(features=z, labels=y)


@pytest.mark.parametrize("name", ["KNN", "MDSPlusPlus", "RMDS"])
@pytest.mark.parametrize("scale", [1e20, 1e-24])
def test_scores_of_normalised_features_do_not_depend_on_their_size(name, scale):
    d = Data(dtype=torch.float)
    cls = next(c for c in ood.scores.scores().values() if c.__name__ == name)
    score = cls().fit(features=d.features, labels=d.labels)
    torch.testing.assert_close(score(features=d.queries * scale), score(features=d.queries), rtol=1e-3, atol=1e-5)


def test_the_gradient_of_entropy_passes_a_masked_class():
    x = torch.tensor([[1., -float("inf"), 2.]], requires_grad=True)
    ood.scores.entropy(x).sum().backward()
    kept = torch.tensor([[1., 2.]], requires_grad=True)
    ood.scores.entropy(kept).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[kept.grad[0, 0], 0, kept.grad[0, 1]]]))


def test_knn_tells_near_neighbours_apart():
    """By the rounding of inner products their distances would be 0 or 3e-4, and another neighbour the k-th."""
    torch.manual_seed(0)
    base = torch.nn.functional.normalize(torch.randn(1, 64), dim=1)
    bank = torch.nn.functional.normalize(base + 1e-5 * torch.randn(200, 64), dim=1)
    got = ood.scores.KNN(k=3).fit(features=bank)(features=bank[:20])
    want = torch.cdist(bank[:20].double(), bank.double(), compute_mode="donot_use_mm_for_euclid_dist").sort(1).values[:, 2]
    assert (got / want).sub(1).abs().max() < .01
    for scale in (3e-2, 3e-3, 3e-4):
        bank, near, far = [(torch.randn(n, 16, dtype=torch.double) * k + 1).float()
                           for n, k in ((500, scale), (200, scale), (200, 1.5 * scale))]
        knn = ood.scores.KNN(k=10).fit(features=bank)
        unit = [torch.nn.functional.normalize(t.double(), dim=1) for t in (bank, near, far)]
        exact = [torch.cdist(u, unit[0], compute_mode="donot_use_mm_for_euclid_dist").sort(1).values[:, 9] for u in unit[1:]]
        got, want = (ood.metrics.detection(*pair).auroc for pair in ((knn(features=near), knn(features=far)), exact))
        assert abs(got - want) < 2e-3, scale


@pytest.mark.parametrize("name", sorted(ood.scores.scores()))
def test_what_is_no_number_has_no_score(name):
    """A broken sensor must not look familiar, and takes nothing of the other rows with it."""
    d = Data()
    clean = d.score(name)
    broken = Data()
    for t in (broken.queries, broken.query_logits):
        t[1] = float("nan")
    got = d.fitted(name)(logits=broken.query_logits, features=broken.queries)
    assert got[1].isnan()
    keep = torch.arange(len(got)) != 1
    torch.testing.assert_close(got[keep], clean[keep])


def test_vim_needs_a_residual():
    for z in (torch.randn(5, 40), torch.full((60, 40), 2.5)):
        with pytest.raises(ValueError, match="vim: expected features outside a space of 20 dimensions, got none to speak of"):
            ood.scores.ViM().fit(features=z, weight=torch.randn(3, 40))


def test_a_fitted_joint_score_keeps_what_it_was_fitted_to():
    held_out = torch.rand(100)
    joint = ood.scores.Joint().fit([held_out])
    before = joint([torch.tensor([.9])])
    held_out.mul_(100)
    assert joint([torch.tensor([.9])]).equal(before)


def test_large_banks_are_searched_in_blocks():
    g = torch.Generator().manual_seed(1)
    bank, q = torch.randn(9001, 24, generator=g), torch.randn(2100, 24, generator=g)
    got = ood.scores.KNN(k=7).fit(features=bank)(features=q)
    want = NearestNeighbors(n_neighbors=7, algorithm="brute").fit(unit(bank.double().numpy())).kneighbors(unit(q.double().numpy()))[0][:, -1]
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("q", [0., 0.1, 0.5, 0.9, 0.999, 1.])
@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_percentile_of_react_is_numpys(q, dtype):
    d = Data()
    d.features = torch.randn(333, WIDTH, dtype=dtype) ** 3
    cut = d.fitted("react", percentile=q).state["cut"].item()
    assert cut == pytest.approx(np.quantile(d.features.double().numpy(), q), rel=1e-12, abs=1e-12)


def test_wrong_parameters_are_named():
    with pytest.raises(TypeError, match="KNN: unknown parameter n; expected k"):
        ood.scores.KNN(n=3)
    with pytest.raises(ValueError, match="knn: expected k a whole number at least 1"):
        Data().fitted("knn", k=0)
    with pytest.raises(ValueError, match="expected features \\[N, 12\\], as it was fitted to"):
        Data().fitted("knn")(features=torch.rand(3, 5))


def test_p_values_are_conformal():
    held_out = torch.tensor([1., 2., 3., 3.])
    got = ood.scores.p_values(torch.tensor([0., 1., 3., 4.]), held_out)
    torch.testing.assert_close(got, torch.tensor([5., 5., 3., 1.], dtype=torch.double) / 5)
    with pytest.raises(ValueError, match="held-out"):
        ood.scores.p_values(held_out, held_out[:0])
    with pytest.raises(ValueError, match="NaN"):
        ood.scores.p_values(torch.tensor([float("nan")]), held_out)


@pytest.mark.parametrize("method", ["fisher_tail", "fisher", "bonferroni", "benjamini_hochberg"])
def test_joint_score(method):
    g = torch.Generator().manual_seed(0)
    held_out = [torch.randn(50, generator=g) for _ in range(3)]
    scores = [torch.randn(20, generator=g) for _ in range(3)]
    p = np.stack([(1 + (h.numpy()[None] >= s.numpy()[:, None]).sum(1)) / 51 for s, h in zip(scores, held_out)], 1)
    log_p = np.log(p)
    for i, (s, h) in enumerate(zip(scores, held_out)):
        h = np.sort(h.double().numpy())
        u, top = h[-11], h[-10:]  # of 50, not fewer than 10 are the tail
        tail = np.log(11 / 51) - (s.double().numpy() - u) / (top - u).mean()
        tail = np.maximum(tail, -np.log(51) - 10)
        log_p[:, i] = np.where(s.double().numpy() > u, tail, log_p[:, i])
    want = {"fisher_tail": -2 * log_p.sum(1), "fisher": -2 * np.log(p).sum(1), "bonferroni": -3 * p.min(1),
            "benjamini_hochberg": -(3 * np.sort(p, 1) / [1, 2, 3]).min(1)}[method]
    got = ood.scores.Joint(method).fit(held_out)(scores)
    torch.testing.assert_close(got, torch.tensor(want))
    with pytest.raises(ValueError, match="expected fisher_tail"):
        ood.scores.Joint("mean").fit(held_out)(scores)


@pytest.mark.parametrize("n, share, confidence", [(100, .05, .95), (59, .05, .95), (5000, .01, .99), (300, .2, .9)])
def test_threshold_is_the_order_statistic_of_the_binomial(n, share, confidence):
    t = ood.metrics.threshold_for(torch.arange(float(n)), share, confidence)
    m = max(m for m in range(n) if binom.cdf(m, n, share) <= 1 - confidence)
    assert (t.value, t.held_out, t.above) == (n - 1 - m, n, m)
    from scipy.stats import beta
    assert t.high == pytest.approx(beta.ppf(.975, m + 1, n - m), abs=1e-6)
    assert t.low == pytest.approx(beta.ppf(.025, m, n - m + 1) if m else 0, abs=1e-6)


def test_too_few_held_out_scores_say_how_many_are_needed():
    with pytest.raises(ValueError, match="expected at least 59 held-out scores, got 58"):
        ood.metrics.threshold_for(torch.rand(58), 0.05, 0.95)
    with pytest.raises(ValueError, match="expected a share between 0 and 1"):
        ood.metrics.threshold_for(torch.rand(58), 1.5)


def promise(draw, splits=200, fresh=20000, share=0.05, confidence=0.9):
    """How many of `splits` thresholds reject more than `share` of fresh ID data."""
    broken = 0
    for i in range(splits):
        g = torch.Generator().manual_seed(i)
        held_out, new = draw(g, fresh)
        t = ood.metrics.threshold_for(held_out, share, confidence)
        broken += (new > t.value).double().mean().item() > share
    # one-sided 99.9 % bound of a binomial count whose chance is 1 - confidence
    return broken, binom.ppf(.999, splits, 1 - confidence)


def test_false_alarm_promise_of_a_single_score():
    broken, bound = promise(lambda g, m: (torch.randn(300, generator=g).exp(), torch.randn(m, generator=g).exp()))
    assert 0 < broken <= bound


def test_false_alarm_promise_of_the_joint_score():
    """Members depend on each other; the first half of the held-out data defines the score, the second the threshold."""
    def draw(g, m):
        def both(n):
            a = torch.randn(n, generator=g)
            return [a, 0.7 * a + torch.randn(n, generator=g)]
        joint = ood.scores.Joint().fit(both(300))
        return joint(both(300)), joint(both(m))
    broken, bound = promise(draw)
    assert 0 < broken <= bound


def test_a_joint_score_does_not_tie_beyond_the_held_out_data():
    held_out = [torch.rand(60), torch.rand(60)]
    joint = ood.scores.Joint().fit(held_out)
    far = joint([torch.tensor([1.05, 1.1, 1.1]), torch.tensor([1.05, 1.05, 1.1])])
    assert (far.diff() > 0).all() and far[0] > joint(held_out).max()
    # No member outvotes the others.
    one, both = joint([torch.tensor([1e9, 1.2]), torch.tensor([0., 1.2])])
    assert one < both


def test_maps_of_logits():
    x = torch.randn(2, 4, 3, 3)
    for name in ("msp", "max_logit", "energy", "entropy", "margin"):
        of_map = getattr(ood.scores, name)(x)
        of_rows = getattr(ood.scores, name)(x.permute(0, 2, 3, 1).reshape(-1, 4)).view(2, 3, 3)
        torch.testing.assert_close(of_map, of_rows)


def peer(name):
    detector = pytest.importorskip("pytorch_ood.detector")
    return getattr(detector, name)


def test_the_peers_detectors_give_the_same_numbers():
    """pytorch-ood 0.4.0; where its number is another one of the same rank, by which factor."""
    d = Data(dtype=torch.float)
    head = torch.nn.Linear(WIDTH, CLASSES)
    head.weight.data, head.bias.data = d.weight.float(), d.bias.float()
    z, y, q = d.features, d.labels, d.queries
    f, fq = head(z).detach(), head(q).detach()
    d.logits, d.query_logits = f, fq

    def near(name, theirs, **parameters):
        torch.testing.assert_close(d.score(name, **parameters).float(), theirs.detach().float(), rtol=2e-3, atol=2e-4)

    near("msp", peer("MaxSoftmax").score(fq))
    near("max_logit", peer("MaxLogit").score(fq))
    near("energy", peer("EnergyBased").score(fq))
    near("entropy", peer("Entropy").score(fq))
    mild = fq / 20  # it clips probabilities, see below; a mean over the classes there, a sum in the paper
    torch.testing.assert_close(ood.scores.GEN()(logits=mild).float(), CLASSES * peer("GEN").score(mild))
    near("knn", peer("KNN")(None).fit_features(z, y).predict_features(q))
    # Half the distance, by the sum of squares in place of the covariance.
    near("mds", 2 * ROWS * peer("Mahalanobis")(None).fit_features(z, y).predict_features(q))
    near("rmds", ROWS * peer("RMD")(None).fit_features(z, y).predict_features(q), normalize=False)
    near("vim", peer("ViM")(None, 6, head.weight, head.bias).fit_features(z, y).predict_features(q))
    near("fdbd", peer("fDBD")(None, head).fit_features(z).predict_features(q))
    near("nci", peer("NCI")(None, head, alpha=.25).fit_features(z).predict_features(q), alpha=.25)
    near("klm", peer("KLMatching")(None).fit_logits(f, y).predict_logits(fq))
    near("she", peer("SHE")(None, head).fit_features(z, y).predict_features(q))
    near("nnguide", peer("NNGuide")(None, head, k=100).fit_features(z, y).predict_features(q))
    flat = lambda x: head(x.flatten(1))
    maps = q[:, :, None, None]
    near("react", peer("ReAct")(None, head).fit_feature_maps(z, y).predict_feature_maps(q))
    near("scale", peer("SCALE")(None, flat, percentile=.85).predict_feature_maps(maps))
    near("ash", peer("ASH")(None, flat).predict_feature_maps(maps))


def test_defect_gen_of_sure_inputs():
    """pytorch-ood clips probabilities at 1e-7: inputs of logit 20 and of logit 60 get the same score."""
    f = torch.tensor([[20., 0., 0.], [60., 0., 0.]])
    theirs = peer("GEN").score(f)
    assert theirs[0] == theirs[1]
    a, b = ood.scores.GEN()(logits=f)
    assert a > 2 * b


def test_defect_temperature_is_not_converged():
    """pytorch-ood stops L-BFGS after 50 iterations of rate 0.01; the likelihood at our temperature is higher."""
    d = Data()
    d.held_out_logits = d.held_out_logits * 5
    theirs = peer("TemperatureScaling")(None).fit_logits(d.held_out_logits.float(), d.held_out_labels).t.item()
    ours = d.fitted("temperature").state["temperature"].item()
    nll = lambda t: torch.nn.functional.cross_entropy(d.held_out_logits / t, d.held_out_labels).item()
    assert nll(ours) <= nll(theirs) and abs(ours / theirs - 1) > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half, torch.float])
def test_scores_of_any_floating_type_are_float64(dtype):
    d = Data()
    for name in ("msp", "energy", "entropy", "mds_pp", "knn"):
        score = d.fitted(name)
        got = score(logits=d.query_logits.to(dtype), features=d.queries.to(dtype))
        assert got.dtype == torch.double and got.isfinite().all()
    d.features = d.features.to(dtype)
    assert d.score("mds").isfinite().all()


def test_a_last_layer_that_does_not_fit():
    d = Data()
    d.bias = torch.zeros(3)
    with pytest.raises(ValueError, match="expected a bias .5., got .3."):
        d.fitted("fdbd")
    d = Data()
    d.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite weights"):
        d.fitted("fdbd")


def test_entropy_of_a_masked_logit():
    f = torch.tensor([[1., 2., -float("inf")]])
    torch.testing.assert_close(ood.scores.entropy(f), ood.scores.entropy(f[:, :2]))
