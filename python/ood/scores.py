"""Outlier scores [N] of logits [N, C], or [N, ...] of [N, C, ...]; higher means rather OOD."""
import torch

from ood._library import ops


def msp(logits: torch.Tensor) -> torch.Tensor:
    """Minus the maximum softmax probability (Hendrycks and Gimpel 2017)."""
    return ops.msp_score(logits)


def max_logit(logits: torch.Tensor) -> torch.Tensor:
    """Minus the maximum logit (Hendrycks et al. 2022)."""
    return ops.max_logit_score(logits)


def energy(logits: torch.Tensor) -> torch.Tensor:
    """The energy, -logsumexp (Liu et al. 2020)."""
    return ops.energy_score(logits)
