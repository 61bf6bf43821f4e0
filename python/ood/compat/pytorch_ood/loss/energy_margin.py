"""SCONE."""
import warnings
from typing import Callable

import torch
from torch import Tensor, nn

from ood._library import ops
from ood.compat.pytorch_ood.loss.vos import bias_of
from ood.nn.functional import loss
from ood.nn._methods import mean_constraints


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)


class EnergyMarginLoss(nn.Module):
    """SCONE (Bai et al. 2023). eta has the sign of pytorch-ood: a margin is negative."""

    def __init__(self, full_train_loss: float, eta: float = 1.0, false_alarm_cutoff: float = 0.05,
                 in_constraint_weight: float = 1.0, ce_tol: float = 2.0, ce_constraint_weight: float = 1.0,
                 out_constraint_weight: float = 1.0, lr_lam: float = 1.0, penalty_mult: float = 1.5,
                 constraint_tol: float = 0.0):
        super().__init__()
        if eta > 0:
            warnings.warn("EnergyMarginLoss: eta > 0 lets outliers reach into the ID side; the authors' runs use -10",
                          stacklevel=2)
        for name, value in dict(full_train_loss=full_train_loss, eta=eta, false_alarm_cutoff=false_alarm_cutoff,
                                in_constraint_weight=in_constraint_weight, lam=0.0, lam2=0.0, ce_tol=ce_tol,
                                ce_constraint_weight=ce_constraint_weight, out_constraint_weight=out_constraint_weight,
                                lr_lam=lr_lam, penalty_mult=penalty_mult, constraint_tol=constraint_tol).items():
            self.register_buffer(name, torch.tensor(float(value)))

    def _numbers(self):
        return [-float(self.eta), float(self.false_alarm_cutoff), float(self.ce_tol), float(self.out_constraint_weight)]

    def _means(self, logits: Tensor, targets: Tensor, phi: Callable[[Tensor], Tensor]):
        # phi may be any function of the energy, so its two means are formed here.
        known = targets >= 0
        s = -ops.energy_score(logits)
        inside = torch.sigmoid(phi(s.unsqueeze(1))).reshape(-1)
        outside = torch.sigmoid(-phi((s - self.eta).unsqueeze(1))).reshape(-1)

        def mean(values: Tensor, rows: Tensor) -> Tensor:
            return torch.where(rows, values, torch.zeros_like(values)).sum() / rows.sum().clamp(min=1)

        return mean(inside, known), mean(outside, ~known), loss("cross_entropy", [0.0], logits, targets)

    def forward(self, logits: Tensor, targets: Tensor, logistic_regression: Callable[[Tensor], Tensor]) -> Tensor:
        if logits.dim() != 2:
            raise ValueError(f"EnergyMarginLoss: expected logits [N, C], got {tuple(logits.shape)}")
        if type(logistic_regression) is nn.Linear and not _has_hooks(logistic_regression):
            state = torch.stack([self.lam, self.in_constraint_weight, self.lam2, self.ce_constraint_weight,
                                 self.full_train_loss])
            phi = logistic_regression
            return ops.energy_margin_loss(logits, targets, phi.weight, bias_of(phi), state, *self._numbers())
        inside, outside, ce = self._means(logits, targets, logistic_regression)
        constraints = (
            ops.augmented_lagrangian(ce - self.ce_tol * self.full_train_loss, self.lam2.clone(),
                                     self.ce_constraint_weight.clone())
            + ops.augmented_lagrangian(inside - self.false_alarm_cutoff, self.lam.clone(),
                                       self.in_constraint_weight.clone()))
        any_known = (targets >= 0).any()
        return torch.where(any_known, constraints, 0 * inside) + self.out_constraint_weight * outside

    @torch.no_grad()
    def update_hyperparameters(self, model: Callable[[Tensor], Tensor], train_loader_in,
                               logistic_regression: Callable[[Tensor], Tensor]) -> None:
        """Multipliers and penalties after the violations over the loader; the model's mode stays as it was."""
        device = self.lam.device
        batches = ((x.to(device), y.to(device)) for x, y in train_loader_in)
        inside, ce = mean_constraints(model, batches, lambda z, y: self._means(z, y, logistic_regression))
        state = torch.stack([self.lam, self.in_constraint_weight, self.lam2, self.ce_constraint_weight,
                             self.full_train_loss]).double()
        ops.energy_margin_update_(state, inside - float(self.false_alarm_cutoff),
                                  ce - float(self.ce_tol * self.full_train_loss), float(self.lr_lam),
                                  float(self.penalty_mult), float(self.constraint_tol))
        for buffer, value in zip((self.lam, self.in_constraint_weight, self.lam2, self.ce_constraint_weight), state):
            buffer.copy_(value)
