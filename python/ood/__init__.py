"""Out-of-distribution objectives for PyTorch: fast, and right against their papers.

    >>> import torch, ood
    >>> criterion = ood.nn.OutlierExposureLoss(alpha=0.5)
    >>> logits = torch.randn(8, 10, requires_grad=True)
    >>> target = torch.tensor([0, 3, 1, 2, -1, -1, -1, -1])  # below 0: an outlier
    >>> criterion(logits, target).backward()

`ood.nn` holds a module for each objective, `ood.nn.functional` the functions, `ood.compat` drop-ins for
`pytorch_ood.loss`, `pytorch_ood.detector` and `incerto.ood.training`; `ood.load_run` opens what the program `ood` trained.
"""
from ood._library import ops
from ood.registry import Objective, objectives
from ood import augment, metrics, networks, nn, scores
from ood.runs import load_run

__version__ = "0.1.0"
__all__ = ["Objective", "augment", "load_run", "metrics", "networks", "nn", "objectives", "ops", "scores"]
