"""Metrics against scikit-learn and NumPy computations from their definitions."""
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score, roc_curve

import ood


def scores(seed, n=400, m=300, ties=True):
    g = np.random.default_rng(seed)
    a, b = g.normal(0, 1, n), g.normal(1, 1.5, m)
    if ties:
        a, b = a.round(1), b.round(1)
    return torch.tensor(a), torch.tensor(b), torch.tensor(g.random(n) < 0.8)


@pytest.mark.parametrize("seed", range(4))
def test_detection(seed):
    a, b, _ = scores(seed, ties=seed % 2 == 0)
    d = ood.metrics.detection(a, b)
    y, s = np.r_[np.zeros(len(a)), np.ones(len(b))], np.r_[a, b]
    assert d.auroc == pytest.approx(roc_auc_score(y, s))
    assert d.aupr_out == pytest.approx(average_precision_score(y, s))
    assert d.aupr_in == pytest.approx(average_precision_score(1 - y, -s))
    fpr, tpr, _ = roc_curve(y, s, drop_intermediate=False)  # OOD positive
    assert d.fpr95_ood == pytest.approx(fpr[tpr >= .95].min())
    assert d.error == pytest.approx(((fpr + 1 - tpr) / 2).min())
    fpr, tpr, _ = roc_curve(1 - y, -s, drop_intermediate=False)
    assert d.fpr95 == pytest.approx(fpr[tpr >= .95].min())


def test_fpr95_ood_is_the_peers():
    theirs = pytest.importorskip("pytorch_ood.metrics").OODMetrics()
    a, b, _ = scores(7, ties=False)
    theirs.update(torch.cat([a, b]), torch.cat([torch.zeros(len(a)), -torch.ones(len(b))]).long())
    assert ood.metrics.detection(a, b).fpr95_ood == pytest.approx(float(theirs.compute()["FPR95TPR"]), abs=1e-6)


def curves(a, right, b, order):
    """CCR over FPR, and failures in the order of acceptance, for one order of equal scores."""
    s = np.r_[a, b]
    failed = np.r_[~right.numpy(), np.ones(len(b), bool)]
    by = np.lexsort((order, s))
    return failed[by], np.r_[np.zeros(len(a), bool), np.ones(len(b), bool)][by], s[by]


@pytest.mark.parametrize("seed", range(3))
def test_open_set_without_ties(seed):
    a, b, right = scores(seed, ties=False)
    o = ood.metrics.open_set(a, right, b)
    failed, is_ood, s = curves(a, right, b, np.arange(700))
    n = len(s)
    assert o.aurc == pytest.approx((failed.cumsum() / np.arange(1, n + 1)).mean())
    acc = 1 - failed.mean()
    auroc_f = roc_auc_score(failed, s)
    assert o.augrc == pytest.approx((1 - auroc_f) * acc * (1 - acc) + (1 - acc) ** 2 / 2)  # Traub et al., equation 6
    ccr = (~failed).cumsum() / len(a)
    fpr = is_ood.cumsum() / len(b)
    assert o.oscr == pytest.approx(ccr[is_ood].mean())
    for rate, got in zip((1e-3, 1e-2, 1e-1), o[3:]):
        assert got == pytest.approx(max(ccr[fpr <= rate], default=0))


def test_open_set_with_ties_is_the_mean_over_their_orders():
    a, b, right = scores(1, 60, 50)
    a, b = a.round(), b.round()
    o = ood.metrics.open_set(a, right, b)
    g = np.random.default_rng(0)
    each = []
    for _ in range(4000):
        failed, is_ood, s = curves(a, right, b, g.random(110))
        each.append(((~failed).cumsum()[is_ood].mean() / 60, (failed.cumsum() / np.arange(1, 111)).mean()))
    oscr, aurc = np.mean(each, 0)
    assert o.oscr == pytest.approx(oscr, abs=4e-3) and o.aurc == pytest.approx(aurc, abs=4e-3)


def test_oscr_of_perfect_detection_is_the_accuracy():
    o = ood.metrics.open_set(torch.zeros(10), torch.arange(10) < 7, torch.ones(5))
    assert o.oscr == pytest.approx(.7) and o.ccr_1e3 == pytest.approx(.7)


def test_calibration():
    g = torch.Generator().manual_seed(0)
    logits, y = 2 * torch.randn(1000, 4, generator=g), torch.randint(0, 4, (1000,), generator=g)
    p = logits.double().softmax(1).numpy()
    c = ood.metrics.calibration(logits, y)
    assert c.nll == pytest.approx(log_loss(y, p), rel=1e-6)
    assert c.brier == pytest.approx(((p - np.eye(4)[y]) ** 2).sum(1).mean())
    order = np.argsort(p.max(1), kind="stable")
    right = (p.argmax(1) == y.numpy())[order]
    bins = [slice(b * 1000 // 15, (b + 1) * 1000 // 15) for b in range(15)]
    assert c.ece == pytest.approx(sum(abs((p.max(1)[order][b] - right[b]).sum()) for b in bins) / 1000)
    with pytest.raises(ValueError, match="labels from 0 to"):
        ood.metrics.calibration(logits, y + 4)


def test_difference_of_two_scores_of_the_same_samples():
    """Paired: far narrower than the intervals of the two."""
    a, b, _ = scores(3, 2000, 2000, ties=False)
    noise = torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.double) * .1
    low, high = ood.metrics.auroc_difference(a, b, a + noise[:2000], b + noise[2000:])
    assert low < 0.01 and high - low < 0.01 and low <= high
    one = ood.metrics.auroc_interval(a, b)
    assert high - low < (one[1] - one[0]) / 2
    assert ood.metrics.auroc_difference(a, b, a, b) == (0, 0)
    low, high = ood.metrics.auroc_difference(a, b, a, b - 1)
    assert low > 0
    with pytest.raises(ValueError, match="same samples"):
        ood.metrics.auroc_difference(a, b, a[:5], b)


@pytest.mark.parametrize("m, n", [(1, 1), (5, 7), (40, 40), (100, 3000), (150000, 100000)])
def test_the_interval_of_a_perfect_separation(m, n):
    """Newcombe's method 5: all AUROCs from which 1 is no further than 1.96 standard deviations at them."""
    low, high = ood.metrics.auroc_interval(torch.arange(m).double(), torch.arange(n).double() + m)
    others = (m + n) / 2 - 1

    def deviations(a):
        variance = a * (1 - a) * (1 + others * (1 - a) / (2 - a) + others * a / (1 + a)) / (m * n)
        return (1 - a) / np.sqrt(variance)
    assert high == 1 and deviations(low) == pytest.approx(1.959964, rel=1e-5)


def test_intervals_of_many_samples_are_those_of_the_bootstrap():
    """From 200,000 samples on by DeLong's variance, at which the bootstrap is a hundredth of a second a replicate."""
    a, b, _ = scores(5, 120000, 100000, ties=True)
    noise = torch.randn(220000, generator=torch.Generator().manual_seed(0), dtype=torch.double) * .3
    c, d = a + noise[:120000], b + noise[120000:]
    g = np.random.default_rng(0)
    each, differences = [], []
    for _ in range(60):
        i, j = g.integers(0, 120000, 120000), g.integers(0, 100000, 100000)
        each.append(ood.metrics.detection(a[i], b[j]).auroc)
        differences.append(each[-1] - ood.metrics.detection(c[i], d[j]).auroc)
    for (low, high), values in ((ood.metrics.auroc_interval(a, b), each),
                                (ood.metrics.auroc_difference(a, b, c, d), differences)):
        assert (high - low) / (2 * 1.96 * np.std(values)) == pytest.approx(1, abs=.25)
        assert abs((low + high) / 2 - np.mean(values)) < np.std(values)


def test_bad_scores():
    with pytest.raises(ValueError, match="NaN"):
        ood.metrics.open_set(torch.tensor([float("nan")]), torch.tensor([True]), torch.ones(1))
    with pytest.raises(ValueError, match="answer for each"):
        ood.metrics.open_set(torch.ones(3), torch.tensor([True]), torch.ones(1))


@pytest.mark.parametrize("confidence", [.5, .9, .95, .99])
def test_few_held_out_scores_promise_their_maximum(confidence):
    """At the least share that they can promise, where rounding decides."""
    for n in range(1, 200):
        least = -np.expm1(np.log1p(-confidence) / n)
        t = ood.metrics.threshold_for(torch.arange(float(n)), least, confidence)
        assert (t.value, t.above) == (n - 1, 0), n


def test_extreme_promises():
    with pytest.raises(ValueError, match="expected at least"):
        ood.metrics.threshold_for(torch.arange(10.), 1e-20)
    assert ood.metrics.threshold_for(torch.arange(10000.), .05, 1e-14).value >= 0


def test_calibration_does_not_depend_on_the_order_of_ties():
    logits, y = torch.zeros(1000, 2), (torch.arange(1000) >= 731).long()
    logits[:, 0] = 1
    gap = abs(torch.sigmoid(torch.tensor(1.)).item() - .731)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    for of in (torch.arange(1000), order):
        assert ood.metrics.calibration(logits[of], y[of]).ece == pytest.approx(gap, abs=1e-6)


def test_calibration_of_shapes_that_do_not_fit():
    for logits, labels, bins in ((torch.rand(4, 3), torch.zeros(6).long(), 15), (torch.rand(4, 3), torch.zeros(4).long(), 0)):
        with pytest.raises(ValueError, match="expected logits"):
            ood.metrics.calibration(logits, labels, bins)


def test_answers_are_true_or_false():
    scores, of_ood = torch.arange(4.), torch.tensor([.9, .8])
    with pytest.raises(ValueError, match="open_set: expected true or false for each ID sample"):
        ood.metrics.open_set(scores, torch.tensor([.9, .8, .9, .7]), of_ood)
    assert ood.metrics.open_set(scores, torch.tensor([1., 0, 1, 1]), of_ood) == ood.metrics.open_set(
        scores, torch.tensor([True, False, True, True]), of_ood)


def test_messages_name_the_function_and_the_value():
    with pytest.raises(ValueError, match="threshold_for: expected scores in held_out, got none"):
        ood.metrics.threshold_for(torch.empty(0))
    with pytest.raises(ValueError, match="calibration: expected labels from 0 to 2, got -1"):
        ood.metrics.calibration(torch.randn(3, 3), torch.tensor([0, 1, -1]))
    with pytest.raises(ValueError, match="threshold_at: expected a share from 0 to 1, got 2"):
        ood._library.ops.threshold_at(torch.rand(5), 2.)
