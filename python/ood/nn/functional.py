"""The objectives as functions. Those that are a formula of logits are made from the registry:

    >>> ood.nn.functional.outlier_exposure(logits, target, alpha=0.5, reduction="none")
"""
from typing import List, Optional

import torch

from ood._library import ops
from ood.registry import Objective, objectives, parameter_values

_loss = ops.loss.default


def loss(objective: str, parameters: List[float], logits: torch.Tensor, target: torch.Tensor, *,
         extras: Optional[torch.Tensor] = None, weight: Optional[torch.Tensor] = None, reduction: str = "mean",
         balance: str = "default", ignore_index: Optional[int] = None) -> torch.Tensor:
    """The op behind every formula: parameters in the order of the objective's table, extras [E, ...target]."""
    return _loss(logits, target, objective, parameters, extras, weight, reduction or "none", balance, ignore_index)


def objective(name: str, parameters: List[float], inputs: List[torch.Tensor], reduction: Optional[str] = "mean"
              ) -> torch.Tensor:
    """The loss of any objective: inputs, target and the state that it reads, in the order of its class."""
    return ops.objective_loss(name, parameters, inputs, reduction or "none")[0]


def distances(embedding: torch.Tensor, centers: torch.Tensor, squared: bool = True) -> torch.Tensor:
    """embedding [N, D], centers [K, D] -> distances [N, K]; near a center as exact as direct differences."""
    return ops.center_distances(embedding, centers, squared)


def feature_square_norms(features: torch.Tensor) -> torch.Tensor:
    """features [B, D] or [B, D, ...] -> [1, B, ...], the extra input of objectosphere."""
    wide = features.float() if features.dtype in (torch.half, torch.bfloat16) else features
    return wide.square().sum(1).unsqueeze(0)


def _make(objective: Objective):
    name, defaults = objective.name, parameter_values(objective, {})

    def function(logits: torch.Tensor, target: torch.Tensor, *, weight: Optional[torch.Tensor] = None,
                 reduction: str = "mean", balance: str = "default", ignore_index: Optional[int] = None,
                 **parameters: float) -> torch.Tensor:
        values = parameter_values(objective, parameters) if parameters else defaults
        return _loss(logits, target, name, values, None, weight, reduction or "none", balance, ignore_index)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (f"{objective.summary}\n\n    {objective.formula}\n\nlogits [B, C] or [B, C, ...], target "
                        f"[B] or [B, ...]. {objective.paper}.")
    return function


for _entry in objectives().values():
    if _entry.logits_alone:
        globals()[_entry.name] = _make(_entry)
