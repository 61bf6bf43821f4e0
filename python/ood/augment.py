"""mixup and CutMix. Train on lam * L(y_a) + (1 - lam) * L(y_b)."""
from typing import Callable, Optional, Tuple

import torch

from ood._library import ops

Mixed = Tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]


def _seed(generator: Optional[torch.Generator]) -> int:
    return int(torch.randint(0, 2 ** 62, (), generator=generator))


def mixup_data(x: torch.Tensor, y: torch.Tensor, alpha: float = 1.0,
               generator: Optional[torch.Generator] = None) -> Mixed:
    """mixup (Zhang et al. 2018): x [N, ...] -> (mixed x, y_a, y_b, lam), one lam ~ Beta(alpha, alpha).

        >>> mixed, y_a, y_b, lam = ood.augment.mixup_data(torch.randn(4, 3), torch.arange(4))
    """
    mixed, y_b, lam = ops.mixup_data(x if x.is_floating_point() else x.float(), y, alpha, _seed(generator))
    return mixed, y, y_b, lam


def mixup_criterion(criterion: Callable, pred: torch.Tensor, y_a: torch.Tensor, y_b: torch.Tensor,
                    lam: float) -> torch.Tensor:
    """lam * criterion(pred, y_a) + (1 - lam) * criterion(pred, y_b)."""
    return lam * criterion(pred, y_a) + (1 - lam) * criterion(pred, y_b)


class CutMix:
    """CutMix (Yun et al. 2019) of pictures [N, C, H, W]; lam is the exact share of the first picture.

        >>> mixed, y_a, y_b, lam = ood.augment.CutMix()(torch.randn(4, 3, 8, 8), torch.arange(4))
    """

    def __init__(self, alpha: float = 1.0, probability: float = 1.0, generator: Optional[torch.Generator] = None):
        self.alpha, self.probability, self.generator = alpha, probability, generator

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> Mixed:
        mixed, y_b, lam = ops.cutmix(x, y, self.alpha, self.probability, _seed(self.generator))
        return mixed, y, y_b, lam
