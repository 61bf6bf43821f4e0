"""One torch.nn.Module per objective, with the registry's parameter names and defaults.

Labels >= 0 are classes, labels < 0 are OOD. Logits are [B, C] or [B, C, ...]; embeddings [B, D].
"""
from ood.nn import formula, functional
from ood.nn.centers import ClassCenters, RunningCenters
from ood.nn.distance import CACLoss, CenterLoss, DeepSADLoss, DeepSVDDLoss, IILoss, MCHADLoss
from ood.nn.formula import *  # noqa: F401,F403  (made from the registry)
from ood.nn.objectosphere import ObjectosphereLoss
from ood.nn.stateful import (ConfidenceLoss, EnergyMarginLoss, VirtualOutlierSynthesizingRegLoss,
                             VOSRegLoss)

__all__ = formula.__all__ + [
    "CACLoss", "CenterLoss", "ClassCenters", "ConfidenceLoss", "DeepSADLoss", "DeepSVDDLoss", "EnergyMarginLoss",
    "IILoss", "MCHADLoss", "ObjectosphereLoss", "RunningCenters", "VOSRegLoss", "VirtualOutlierSynthesizingRegLoss",
    "functional"]
