"""The losses on distances to centers."""
import sys
from typing import Optional

import torch
from torch import Tensor, nn

from ood._library import ops
from ood.compat.pytorch_ood.loss.centers import ClassCenters, RunningCenters
from ood.nn import CACLoss as CAC
from ood.nn.functional import loss, objective


def _check_distances(criterion: nn.Module, distances: Tensor, classes: int) -> None:
    if distances.dim() != 2 or distances.shape[1] != classes:
        raise ValueError(f"{type(criterion).__name__}: expected distances [N, {classes}] as its distance() gives them, "
                         f"got {tuple(distances.shape)}")


class CACLoss(nn.Module):
    """Class anchor clustering (Miller et al. 2021), on squared distances, with all true negatives."""

    def __init__(self, n_classes: int, magnitude: float = 1.0, alpha: float = 1.0):
        super().__init__()
        self.n_classes, self.magnitude, self.alpha = n_classes, magnitude, alpha
        self._centers = ClassCenters(n_classes, n_classes, fixed=True)
        self._centers.params.data = torch.eye(n_classes) * magnitude

    @property
    def centers(self) -> ClassCenters:
        return self._centers

    def distance(self, x: Tensor) -> Tensor:
        """Squared distances [N, C]."""
        return self.centers(x)

    def forward(self, distances: Tensor, target: Tensor) -> Tensor:
        _check_distances(self, distances, self.n_classes)
        return loss("cac", [self.alpha, self.magnitude, 0.0], -distances, target)

    @staticmethod
    def score(distance: Tensor) -> Tensor:
        """The paper's score, min_j d_j (1 - softmin(d)_j): higher for OOD."""
        return CAC.score(distance)


class CenterLoss(nn.Module):
    """Center loss (Wen et al. 2016) on squared distances: the mean over ID rows of max(0, d_y - radius^2)."""

    def __init__(self, n_classes: int, n_dim: int, magnitude: float = 1.0, radius: float = 0.0, fixed: bool = False):
        super().__init__()
        self.num_classes, self.feat_dim, self.magnitude, self.radius = n_classes, n_dim, magnitude, radius
        self._centers = ClassCenters(n_classes, n_dim, fixed)
        start = torch.eye(n_classes) if n_classes == n_dim else torch.randn(n_classes, n_dim)
        self._centers.params.data = start * magnitude

    @property
    def centers(self) -> ClassCenters:
        return self._centers

    def distance(self, z: Tensor) -> Tensor:
        """Squared distances [N, C]."""
        return self.centers(z)

    def forward(self, distmat: Tensor, target: Tensor) -> Tensor:
        _check_distances(self, distmat, self.num_classes)
        return ops.center_loss_of_distances(distmat, target, float(self.radius))


class IILoss(nn.Module):
    """II loss (Hassen and Chan 2018)."""

    def __init__(self, n_classes: int, n_embedding: int, alpha: float = 1.0):
        super().__init__()
        self.num_classes, self.alpha = n_classes, alpha
        self.running_centers = RunningCenters(n_classes, n_embedding)

    @property
    def centers(self) -> RunningCenters:
        return self.running_centers

    def distance(self, x: Tensor) -> Tensor:
        """Squared distances [N, C] to the running means."""
        return self.running_centers(x)

    def predict(self, x: Tensor) -> Tensor:
        """Class probabilities, softmin of the distances."""
        return nn.functional.softmin(self.distance(x), dim=1)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        if self.training:
            self.running_centers.update(x, target)
            return objective("ii", [self.alpha, 0.0, 0.0], [x, target, self.running_centers.counts], "mean")
        known = target >= 0
        mu = self.running_centers.centers.to(x.dtype)
        intra = ops.own_center_distances(x, mu, target)[known].sum() / known.sum().clamp(min=1)
        present = torch.unique(target[known])
        if len(present) < 2:
            return intra
        d = ops.center_distances(mu[present], mu[present], True)
        return intra - self.alpha * (d + torch.diag(d.new_full((len(d),), float("inf")))).min()


def _sphere(self, n_dim: int, center: Optional[Tensor], name: str) -> None:
    self._center = ClassCenters(1, n_dim, fixed=True)
    if center is not None:
        if center.shape != (n_dim,):
            raise ValueError(f"{name}: expected center [{n_dim}], got {tuple(center.shape)}")
        self._center.params.data = center.detach().clone().reshape(1, n_dim)


class DeepSVDDLoss(nn.Module):
    """Deep SVDD (Ruff et al. 2018): max(0, ||x - c||^2 - radius^2) over ID rows.

    center: [n_dim]; without one it is drawn from N(0, 1), as in pytorch-ood. Better: the mean over the data.
    """

    def __init__(self, n_dim: int, reduction: Optional[str] = "mean", radius: float = 0.0,
                 center: Optional[Tensor] = None):
        super().__init__()
        _sphere(self, n_dim, center, "DeepSVDDLoss")
        self.register_buffer("radius", torch.tensor(float(radius)))
        self.reduction = reduction

    @property
    def center(self) -> ClassCenters:
        return self._center

    def distance(self, x: Tensor) -> Tensor:
        return self._center(x).squeeze(1) - self.radius.pow(2)

    def forward(self, x: Tensor, y: Optional[Tensor] = None) -> Tensor:
        if self.reduction in ("none", None):
            return self.svdd_loss(x if y is None else x[y >= 0], self.center, self.radius)
        y = torch.zeros(len(x), dtype=torch.long, device=x.device) if y is None else y
        return ops.svdd_hinge_loss(x, self.center.params, y, self.radius, self.reduction)

    @staticmethod
    def svdd_loss(x: Tensor, center: ClassCenters, radius: Tensor = 0.0, y: Optional[Tensor] = None) -> Tensor:
        d = center(x).squeeze(1)  # float32 for half types, which would round the radius
        rows = (d - torch.as_tensor(radius, dtype=d.dtype, device=x.device).pow(2)).relu()
        return rows if y is None else torch.where(y >= 0, rows, torch.zeros_like(rows))


class DeepSADLoss(nn.Module):
    """Deep SAD (Ruff et al. 2020)."""

    def __init__(self, n_dim: int, eta: float = 1.0, eps: float = 1e-6, reduction: Optional[str] = "mean",
                 center: Optional[Tensor] = None):
        super().__init__()
        _sphere(self, n_dim, center, "DeepSADLoss")
        self.eta, self.eps, self.reduction = eta, eps, reduction

    @property
    def center(self) -> ClassCenters:
        return self._center

    def distance(self, x: Tensor) -> Tensor:
        return self._center(x).squeeze(1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        inputs = [x, y.clamp(min=-1, max=0), self.center.params]
        least = self.eps or sys.float_info.min  # which no distance but 0 is changed by
        return objective("deep_sad", [self.eta, least, 0.0], inputs, self.reduction)


class SSDeepSVDDLoss(DeepSADLoss):
    """The name of DeepSADLoss in older versions of pytorch-ood, with their name of the dimension."""

    def __init__(self, n_features: int, eta: float = 1.0, eps: float = 1e-6, reduction: Optional[str] = "mean",
                 center: Optional[Tensor] = None):
        super().__init__(n_features, eta, eps, reduction, center)


class MCHADLoss(nn.Module):
    """MCHAD (Kirchheim et al. 2022) by its documented formula."""

    def __init__(self, n_classes: int, n_dim: int, radius: float = 0, margin: float = 0, weight_center: float = 1.0,
                 weight_nll: float = 1.0, weight_oe: float = 1.0):
        super().__init__()
        self.center_loss = CenterLoss(n_classes, n_dim, radius=radius)
        self.regu_loss = nn.Module()
        self.regu_loss.margin = nn.Parameter(torch.tensor([float(margin)]), requires_grad=False)
        self.weight_center, self.weight_nll, self.weight_oe = weight_center, weight_nll, weight_oe

    @property
    def centers(self) -> ClassCenters:
        return self.center_loss.centers

    def distance(self, z: Tensor) -> Tensor:
        """Squared distances [N, C]."""
        return self.centers(z)

    def forward(self, distmat: Tensor, y: Tensor) -> Tensor:
        _check_distances(self, distmat, self.centers.num_classes)
        radius, margin = float(self.center_loss.radius), float(self.regu_loss.margin)
        return ops.mchad_loss(distmat, y, [self.weight_center, self.weight_nll, self.weight_oe, radius, margin])
