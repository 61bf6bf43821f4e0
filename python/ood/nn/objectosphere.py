"""Objectosphere: a formula of logits that also reads the features."""
from typing import Optional

import torch

from ood.nn import functional
from ood.nn.formula import FormulaLoss, document
from ood.registry import objectives


class ObjectosphereLoss(FormulaLoss):
    objective = objectives()["objectosphere"]
    __doc__ = document(objective)

    def __init__(self, alpha: float = 1e-4, xi: float = 50.0, **options):
        super().__init__(alpha=alpha, xi=xi, **options)

    def forward(self, logits: torch.Tensor, features: torch.Tensor, target: torch.Tensor,
                weight: Optional[torch.Tensor] = None) -> torch.Tensor:
        """logits [B, C] or [B, C, ...], features [B, D] or [B, D, ...], target [B] or [B, ...] -> loss."""
        return functional.loss("objectosphere", self.parameter_list(), logits, target,
                               extras=functional.feature_square_norms(features), weight=weight,
                               reduction=self.reduction, balance=self.balance, ignore_index=self.ignore_index)

    @staticmethod
    def score(logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The paper's score, -max softmax times ||features||: [B], higher for OOD."""
        return -logits.softmax(1).amax(1) * features.norm(dim=1)
