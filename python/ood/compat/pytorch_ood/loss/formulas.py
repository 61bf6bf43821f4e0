"""The losses that are a formula of a row of logits, and the learned confidence."""
from typing import Optional

import torch
from torch import Tensor, nn

from ood._library import ops
from ood.nn.functional import feature_square_norms, loss


class CrossEntropyLoss(nn.Module):
    """Cross-entropy that leaves out rows with a label below 0."""

    def __init__(self, reduction: Optional[str] = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return loss("cross_entropy", [0.0], logits, targets, reduction=self.reduction)


class OutlierExposureLoss(nn.Module):
    """Outlier exposure (Hendrycks et al. 2019); means over the whole batch, as pytorch-ood has it."""

    def __init__(self, alpha: float = 0.5, reduction: Optional[str] = "mean"):
        super().__init__()
        self.alpha, self.reduction = alpha, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return loss("outlier_exposure", [self.alpha], logits, target, reduction=self.reduction, balance="whole_batch")


class EntropicOpenSetLoss(nn.Module):
    """Entropic open-set loss (Dhamija et al. 2018)."""

    def __init__(self, reduction: Optional[str] = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return loss("entropic_open_set", [1.0], logits, target, reduction=self.reduction, balance="whole_batch")


class EnergyRegularizedLoss(nn.Module):
    """Energy-regularised learning (Liu et al. 2020)."""

    def __init__(self, alpha: float = 0.1, margin_in: float = -25.0, margin_out: float = -7.0,
                 reduction: str = "mean"):
        super().__init__()
        self.alpha, self.m_in, self.m_out, self.reduction = alpha, margin_in, margin_out, reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return loss("energy_regularized", [self.alpha, self.m_in, self.m_out], logits, targets,
                    reduction=self.reduction, balance="per_population")


class LogitNorm(nn.Module):
    """LogitNorm (Wei et al. 2022); t is the temperature."""

    def __init__(self, t: float = 1.0, reduction: str = "mean"):
        super().__init__()
        self.t, self.reduction = t, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.reduction in ("none", None):  # pytorch-ood drops OOD rows
            known = target >= 0
            logits, target = logits.movedim(1, -1)[known], target[known]
        return loss("logit_norm", [self.t], logits, target, reduction=self.reduction)


class BackgroundClassLoss(nn.Module):
    """Cross-entropy with one more class for outliers; logits have n_classes + 1 columns."""

    def __init__(self, n_classes: int, reduction: str = "mean"):
        super().__init__()
        self.num_classes, self.reduction = n_classes, reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if logits.shape[1] != self.num_classes + 1:
            raise ValueError(f"BackgroundClassLoss: expected logits with {self.num_classes + 1} columns, "
                             f"got {tuple(logits.shape)}")
        if targets.numel() and int(targets.max()) >= self.num_classes:
            raise ValueError(f"BackgroundClassLoss: expected targets below {self.num_classes}, got {int(targets.max())}")
        return loss("background_class", [], logits, targets, reduction=self.reduction)


class ObjectosphereLoss(nn.Module):
    """Objectosphere (Dhamija et al. 2018)."""

    def __init__(self, alpha: float = 1.0, xi: float = 1.0, reduction: Optional[str] = "mean"):
        super().__init__()
        self.alpha, self.xi, self.reduction = alpha, xi, reduction

    def forward(self, logits: Tensor, features: Tensor, target: Tensor) -> Tensor:
        return loss("objectosphere", [self.alpha, self.xi], logits, target, extras=feature_square_norms(features),
                    reduction=self.reduction, balance="whole_batch")

    @staticmethod
    def score(logits: Tensor, features: Optional[Tensor] = None) -> Tensor:
        """Minus max softmax times the norm of the features; of the logits where no features are given."""
        norm = (logits if features is None else features).norm(dim=1)
        return -logits.softmax(dim=1).amax(dim=1) * norm


class ConfidenceLoss(nn.Module):
    """Learned confidence (DeVries and Taylor 2018), without hints and budget, as pytorch-ood has it.

    confidence: after the sigmoid, in [0, 1], [N, 1] or [N].
    """

    def __init__(self, alpha: float = 1.0, eps: float = 1e-24):
        super().__init__()
        self.alpha, self.eps = alpha, eps

    def forward(self, logits: Tensor, confidence: Tensor, target: Tensor) -> Tensor:
        c = confidence.squeeze(1) if confidence.dim() == 2 and confidence.shape[1] == 1 else confidence
        if c.shape != target.shape:
            raise ValueError(f"ConfidenceLoss: expected confidence [N, 1] or [N] for target {tuple(target.shape)}, "
                             f"got {tuple(confidence.shape)}")
        weight = torch.tensor(self.alpha, device=c.device)  # a half type would round it
        return ops.confidence_loss_of_probability(logits, c, target, weight, self.eps)
