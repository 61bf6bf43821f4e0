"""VOS, with given outliers and with synthesised ones."""
from typing import Optional

import torch
from torch import Tensor, nn

from ood._library import ops
from ood.nn.functional import objective

REDUCTIONS = ("mean", "sum", "none", None)


def _energy_weights(layer: nn.Linear) -> Tensor:
    return layer.weight.reshape(-1)


def bias_of(layer: nn.Linear) -> Tensor:
    return layer.bias if layer.bias is not None else layer.weight.new_zeros(layer.out_features)


class VosQueues(nn.Module):
    """Queues of features by class with their running moments."""

    def __init__(self, classes: int, dimension: int, sample_number: int):
        super().__init__()
        self.register_buffer("queue", torch.zeros(classes, sample_number, dimension))
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.long))
        self.register_buffer("sums", torch.zeros(classes, dimension, dtype=torch.double))
        self.register_buffer("moment", torch.zeros(dimension, dimension, dtype=torch.double))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def _apply(self, fn, recurse: bool = True):
        # .to(dtype) moves the exact sums, but does not round them.
        exact = {name: getattr(self, name) for name in ("sums", "moment")}
        super()._apply(fn, recurse)
        for name, before in exact.items():
            moved = getattr(self, name)
            setattr(self, name, moved.double() if before.is_meta else before.to(moved.device))
        return self


class VOSRegLoss(nn.Module):
    """VOS with given outliers (Du et al. 2022). The energies enter the logistic layer as in pytorch-ood: negative."""

    def __init__(self, logistic_regression: nn.Linear, weights_energy: nn.Linear, alpha: float = 0.1, *rest,
                 reduction: str = "mean", device: Optional[str] = None):
        super().__init__()
        # Positional rest: (reduction) as in 0.4.0, or (device, reduction) as before.
        for value in rest:
            if value in REDUCTIONS:
                reduction = value
            else:
                device = value
        self.logistic_regression, self.weights_energy = logistic_regression, weights_energy
        self.alpha, self.reduction = alpha, reduction
        if device is not None:
            self.to(device)

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        phi = self.logistic_regression
        inputs = [logits, y, _energy_weights(self.weights_energy), -phi.weight, bias_of(phi)]
        return objective("vos_reg", [self.alpha, 0.0], inputs, self.reduction)


class VirtualOutlierSynthesizingRegLoss(VOSRegLoss):
    """VOS without outliers (Du et al. 2022).

    Also with the arguments of older versions: (logistic_regression, weights_energy, device, num_classes,
    num_input_last_layer, fc, ...).
    """

    def __init__(self, logistic_regression: nn.Linear, weights_energy: nn.Linear, *rest, fc: Optional[nn.Linear] = None,
                 alpha: float = 0.1, reduction: str = "mean", sample_number: int = 1000, select: int = 1,
                 sample_from: int = 10000, device: Optional[str] = None, num_classes: Optional[int] = None,
                 num_input_last_layer: Optional[int] = None):
        rest = list(rest)
        if rest and not isinstance(rest[0], nn.Module):  # older: device, num_classes, num_input_last_layer
            device = rest.pop(0)
            del rest[:2]
        names = ["fc", "alpha", "reduction", "sample_number", "select", "sample_from"]
        if len(rest) > len(names):
            raise TypeError(f"VirtualOutlierSynthesizingRegLoss: {len(rest) - len(names)} arguments too many")
        values = dict(fc=fc, alpha=alpha, reduction=reduction, sample_number=sample_number, select=select,
                      sample_from=sample_from)
        values.update(zip(names, rest))
        if values["fc"] is None:
            raise TypeError("VirtualOutlierSynthesizingRegLoss: expected fc, the network's last layer")
        super().__init__(logistic_regression, weights_energy, values["alpha"], reduction=values["reduction"])
        self.fc = values["fc"]
        self.num_classes, self.num_input_last_layer = self.fc.out_features, self.fc.in_features
        self.sample_number, self.select, self.sample_from = (values[k] for k in names[3:])
        self.queues = VosQueues(self.num_classes, self.num_input_last_layer, self.sample_number)
        if device is not None:
            self.to(device)

    def _load_from_state_dict(self, state, prefix, *rest):
        # A checkpoint of pytorch-ood has no queues: they start empty, as there.
        for name, buffer in self.queues.named_buffers():
            state.setdefault(f"{prefix}queues.{name}", torch.zeros_like(buffer))
        super()._load_from_state_dict(state, prefix, *rest)

    def forward(self, logits: Tensor, features: Tensor, y: Tensor) -> Tensor:
        if y.dim() != 1:
            raise NotImplementedError("VirtualOutlierSynthesizingRegLoss: segmentation is not supported")
        known, phi, name = y >= 0, self.logistic_regression, "virtual_outlier_synthesis"
        rows = [t[known] for t in (logits, features, y)]
        of_loss = [_energy_weights(self.weights_energy), -phi.weight, bias_of(phi)]
        state = [t.detach() for t in (*of_loss, *self.queues.buffers())]
        values, step = [self.alpha, self.sample_number, self.sample_from, self.select, 0.0], [t.detach() for t in rows]
        ops.objective_update_(name, values, step, state)
        drawn = ops.objective_draw(name, values, [*step, *state])
        outliers = [self.fc(drawn)] if len(drawn) and len(rows[2]) else []
        value = objective(name, values, [*rows, *of_loss, *outliers], self.reduction)
        return value[:-len(drawn)] if outliers and self.reduction in ("none", None) else value
