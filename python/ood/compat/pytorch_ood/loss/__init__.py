"""Drop-in for `pytorch_ood.loss` 0.4.0: the same names, positional order, defaults, attributes, methods and
state_dict keys, over libood's ops. Arguments of older versions (`device=`) are accepted. Numbers are equal
but for the defects that docs/migrating.md lists.

    -from pytorch_ood.loss import OutlierExposureLoss
    +from ood.compat.pytorch_ood.loss import OutlierExposureLoss
"""
from ood.compat.pytorch_ood.loss.centers import ClassCenters, RunningCenters
from ood.compat.pytorch_ood.loss.distances import CACLoss, CenterLoss, DeepSADLoss, DeepSVDDLoss, IILoss, MCHADLoss
from ood.compat.pytorch_ood.loss.distances import SSDeepSVDDLoss  # noqa: F401  (a name of older versions)
from ood.compat.pytorch_ood.loss.energy_margin import EnergyMarginLoss
from ood.compat.pytorch_ood.loss.formulas import (BackgroundClassLoss, ConfidenceLoss, CrossEntropyLoss,
                                                  EnergyRegularizedLoss, EntropicOpenSetLoss, LogitNorm,
                                                  ObjectosphereLoss, OutlierExposureLoss)
from ood.compat.pytorch_ood.loss.vos import VirtualOutlierSynthesizingRegLoss, VOSRegLoss

__all__ = ["BackgroundClassLoss", "CACLoss", "CenterLoss", "ConfidenceLoss", "CrossEntropyLoss", "DeepSADLoss",
           "DeepSVDDLoss", "EnergyMarginLoss", "EnergyRegularizedLoss", "EntropicOpenSetLoss", "IILoss", "LogitNorm",
           "MCHADLoss", "ObjectosphereLoss", "OutlierExposureLoss", "VOSRegLoss", "VirtualOutlierSynthesizingRegLoss"]
