"""Drop-in for `incerto.ood.training` 0.1.1: the same names, arguments and numbers, over libood's ops.

    -from incerto.ood.training import OutlierExposureLoss
    +from ood.compat.incerto.training import OutlierExposureLoss
"""
from typing import Optional

import torch

from ood import augment
from ood.augment import mixup_criterion, mixup_data
from ood.nn.functional import loss

__all__ = ["CutMix", "EnergyRegularizedLoss", "OutlierExposureLoss", "mixup_criterion", "mixup_data"]


IGNORED = -100  # label of rows that take no part, as torch's cross-entropy has it


class _TwoBatches(torch.nn.Module):
    """A loss of ID logits with targets and of outlier logits, which may be absent or empty."""

    objective: str

    def _parameters_of_op(self):
        raise NotImplementedError

    def forward(self, logits_in: torch.Tensor, targets_in: torch.Tensor,
                logits_out: Optional[torch.Tensor] = None) -> torch.Tensor:
        if logits_out is None or len(logits_out) == 0:
            return loss("cross_entropy", [0.0], logits_in, targets_in, ignore_index=IGNORED)
        if logits_out.shape[1:] != logits_in.shape[1:]:
            raise ValueError(f"{type(self).__name__}: expected logits_out [M, {logits_in.shape[1]}] like logits_in, "
                             f"got {tuple(logits_out.shape)}")
        target = torch.cat([targets_in, targets_in.new_full((len(logits_out),), -1)])
        return loss(self.objective, self._parameters_of_op(), torch.cat([logits_in, logits_out]), target,
                    balance="per_population", ignore_index=IGNORED)


class OutlierExposureLoss(_TwoBatches):
    """Cross-entropy of ID rows + lambda_oe times the cross-entropy of outliers to the uniform distribution."""

    objective = "outlier_exposure"

    def __init__(self, lambda_oe: float = 0.5):
        super().__init__()
        self.lambda_oe = lambda_oe

    def _parameters_of_op(self):
        return [self.lambda_oe]


class EnergyRegularizedLoss(_TwoBatches):
    """Cross-entropy + lambda_energy max(0, mean E_in - mean E_out + margin). Not the hinges of Liu et al."""

    objective = "energy_gap"

    def __init__(self, lambda_energy: float = 0.1, margin: float = 10.0):
        super().__init__()
        self.lambda_energy, self.margin = lambda_energy, margin

    def _parameters_of_op(self):
        return [self.lambda_energy, self.margin]


class CutMix(augment.CutMix):
    """As ood.augment.CutMix, applied to every batch."""

    def __init__(self, alpha: float = 1.0):
        super().__init__(alpha=alpha)
