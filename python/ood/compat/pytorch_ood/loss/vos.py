"""The path under which pytorch-ood documents the VOS losses."""
from ood.compat.pytorch_ood.loss import VirtualOutlierSynthesizingRegLoss, VOSRegLoss

__all__ = ["VOSRegLoss", "VirtualOutlierSynthesizingRegLoss"]
