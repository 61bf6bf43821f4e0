"""How well a score tells OOD from ID samples; exact, ties count one half."""
from typing import NamedTuple, Tuple

import torch

from ood._library import ops


class Detection(NamedTuple):
    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95: float
    fpr95_ood: float
    error: float


def detection(id_scores: torch.Tensor, ood_scores: torch.Tensor) -> Detection:
    """Figures of scores of ID and OOD samples, [N] and [M].

    aupr_in and aupr_out are average precisions. fpr95 is the share of OOD samples accepted at the threshold that accepts
    at least 95 % of the ID samples; fpr95_ood the share of ID samples rejected where at least 95 % of the OOD samples are,
    which OpenOOD and pytorch-ood call FPR95. error is the least mean of both shares of errors over all thresholds.

        >>> ood.metrics.detection(torch.tensor([0., 1.]), torch.tensor([2., 3.])).auroc
        1.0
    """
    return Detection(*ops.detection(id_scores, ood_scores))


def auroc_interval(id_scores: torch.Tensor, ood_scores: torch.Tensor, seed: int = 0) -> Tuple[float, float]:
    """95 % interval of the AUROC: by bootstrap, of 200,000 samples and more DeLong's, of a perfect separation
    Newcombe's (2006, method 5)."""
    return ops.auroc_interval(id_scores, ood_scores, seed)


def auroc_difference(id_a: torch.Tensor, ood_a: torch.Tensor, id_b: torch.Tensor, ood_b: torch.Tensor,
                     seed: int = 0) -> Tuple[float, float]:
    """95 % interval of the difference of the AUROCs of two scores of the same samples, by common bootstrap samples,
    of 200,000 and more DeLong's; it holds 0 where neither is shown to be better."""
    return ops.auroc_difference(id_a, ood_a, id_b, ood_b, seed)


class OpenSet(NamedTuple):
    oscr: float   #: area under the correct classification rate over the false positive rate
    aurc: float   #: area under the risk-coverage curve; errors and OOD samples are failures
    augrc: float  #: area under the generalised one (Traub et al. 2024)
    ccr_1e3: float  #: share of ID samples accepted and classified right where at most 0.1 % of the OOD ones are accepted
    ccr_1e2: float  #: ... 1 %
    ccr_1e1: float  #: ... 10 %


def open_set(id_scores: torch.Tensor, correct: torch.Tensor, ood_scores: torch.Tensor) -> OpenSet:
    """A classifier with a score for rejection as a whole: scores [N] of ID samples and whether each is classified right,
    scores [M] of OOD samples."""
    return OpenSet(*ops.open_set(id_scores, correct, ood_scores))


class Calibration(NamedTuple):
    nll: float    #: nats
    brier: float
    ece: float    #: bins of equal mass


def calibration(logits: torch.Tensor, labels: torch.Tensor, bins: int = 15) -> Calibration:
    """Of logits [N, K] and labels [N] of ID samples."""
    return Calibration(*ops.calibration(logits, labels, bins))


class Threshold(NamedTuple):
    value: float   #: accept at or below
    held_out: int  #: ID scores it was set by
    above: int     #: of them, how many it rejects
    low: float     #: 95 % interval of the share of ID data that it rejects
    high: float


def threshold_for(held_out: torch.Tensor, false_alarms: float = 0.05, confidence: float = 0.95) -> Threshold:
    """The lowest of the held-out ID scores [N] that rejects more than a share `false_alarms` of ID data with probability
    1 - confidence at most, over the draw of the held-out ones; they must be exchangeable with what is to come.

        >>> ood.metrics.threshold_for(torch.arange(100.), 0.05).value
        98.0
    """
    return Threshold(*ops.threshold_for(held_out, false_alarms, confidence))


def threshold_at(scores: torch.Tensor, share: float = 0.95) -> float:
    """The smallest score at or below which at least that share of `scores` lies; share from 0 to 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"threshold_at: expected a share from 0 to 1, got {share}")
    return ops.threshold_at(scores, share)
