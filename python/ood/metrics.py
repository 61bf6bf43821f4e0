"""How well a score tells OOD from ID samples; exact, ties count one half."""
from typing import NamedTuple, Tuple

import torch

from ood._library import ops


class Detection(NamedTuple):
    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95: float


def detection(id_scores: torch.Tensor, ood_scores: torch.Tensor) -> Detection:
    """Figures of scores of ID and OOD samples, [N] and [M].

    fpr95 is the share of OOD samples accepted at the threshold that accepts at least 95 % of the ID samples.

        >>> ood.metrics.detection(torch.tensor([0., 1.]), torch.tensor([2., 3.])).auroc
        1.0
    """
    return Detection(*ops.detection(id_scores, ood_scores))


def auroc_interval(id_scores: torch.Tensor, ood_scores: torch.Tensor, seed: int = 0) -> Tuple[float, float]:
    """95 % bootstrap interval of the AUROC."""
    return ops.auroc_interval(id_scores, ood_scores, seed)


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
