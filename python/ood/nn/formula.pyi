"""Made by `./dev python -m ood._stubs`; a test compares it with the registry."""
from typing import List, Optional

import torch

class FormulaLoss(torch.nn.Module):
    reduction: str
    balance: str
    ignore_index: Optional[int]
    def parameter_list(self) -> List[float]: ...
    def forward(self, logits: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = ...) -> torch.Tensor: ...
    def __call__(self, logits: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = ...) -> torch.Tensor: ...

class BackgroundClassLoss(FormulaLoss):
    def __init__(self, *, reduction: str = ..., balance: str = ..., ignore_index: Optional[int] = ...) -> None: ...

class CrossEntropyLoss(FormulaLoss):
    label_smoothing: float
    def __init__(self, label_smoothing: float = ..., *, reduction: str = ..., balance: str = ..., ignore_index: Optional[int] = ...) -> None: ...

class EnergyGapLoss(FormulaLoss):
    lambda_: float
    margin: float
    def __init__(self, lambda_: float = ..., margin: float = ..., *, reduction: str = ..., balance: str = ..., ignore_index: Optional[int] = ...) -> None: ...

class EnergyRegularizedLoss(FormulaLoss):
    alpha: float
    margin_in: float
    margin_out: float
    def __init__(self, alpha: float = ..., margin_in: float = ..., margin_out: float = ..., *, reduction: str = ..., balance: str = ..., ignore_index: Optional[int] = ...) -> None: ...

class EntropicOpenSetLoss(FormulaLoss):
    unknown_weight: float
    def __init__(self, unknown_weight: float = ..., *, reduction: str = ..., balance: str = ..., ignore_index: Optional[int] = ...) -> None: ...

class LogitNorm(FormulaLoss):
    tau: float
    def __init__(self, tau: float = ..., *, reduction: str = ..., balance: str = ..., ignore_index: Optional[int] = ...) -> None: ...

class OutlierExposureLoss(FormulaLoss):
    alpha: float
    def __init__(self, alpha: float = ..., *, reduction: str = ..., balance: str = ..., ignore_index: Optional[int] = ...) -> None: ...
