"""One torch.nn.Module per objective, with the registry's parameter names and defaults.

Labels >= 0 are classes, labels < 0 are OOD. Logits are [B, C] or [B, C, ...]; embeddings [B, D].
"""
import sys

from ood.nn import criterion, functional
from ood.nn.centers import ClassCenters, RunningCenters
from ood.nn.criterion import *  # noqa: F401,F403  (made from the registry)

__all__ = criterion.__all__ + ["ClassCenters", "RunningCenters", "functional"]

# Where the classes were before; pickles name these modules.
for _name in ("formula", "distance", "stateful", "objectosphere"):
    sys.modules[f"{__name__}.{_name}"] = globals()[_name] = criterion


def __getattr__(name: str) -> type:
    return getattr(criterion, name)
