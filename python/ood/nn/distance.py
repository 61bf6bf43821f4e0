"""The objectives on distances to centers."""
from typing import Callable, Iterable, Optional

import torch

from ood._library import ops
from ood.nn.centers import ClassCenters, RunningCenters
from ood.nn.functional import loss


class CACLoss(torch.nn.Module):
    """Class anchor clustering (Miller et al. 2021): log(1 + sum_j exp(d_y - d_j)) + anchor_weight d_y.

        >>> criterion = ood.nn.CACLoss(classes=3)
        >>> criterion(torch.randn(4, 3), torch.tensor([0, 1, 2, -1]))
    """

    def __init__(self, classes: int, anchor_weight: float = 0.1, magnitude: float = 10.0, squared: bool = False):
        super().__init__()
        self.anchor_weight, self.magnitude, self.squared = anchor_weight, magnitude, squared
        self.register_buffer("anchors", torch.eye(classes) * magnitude)

    def distance(self, embedding: torch.Tensor) -> torch.Tensor:
        """embedding [N, K] -> distances [N, K]."""
        return ops.center_distances(embedding, self.anchors, self.squared)

    def forward(self, embedding: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """embedding [N, K], target [N] -> scalar."""
        return self.loss_of(self.distance(embedding), target)

    def loss_of(self, distances: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return loss("cac", [self.anchor_weight, self.magnitude], -distances, target)

    @staticmethod
    def score(distances: torch.Tensor) -> torch.Tensor:
        """min_j d_j (1 - softmin(d)_j): [N], higher for OOD."""
        return (distances * (1 - torch.nn.functional.softmin(distances, dim=1))).amin(1)


class CenterLoss(torch.nn.Module):
    """Center loss (Wen et al. 2016): mean over ID rows of max(0, ||x - c_y||^2 - radius^2).

        >>> ood.nn.CenterLoss(3, 5)(torch.randn(4, 5), torch.tensor([0, 1, 2, -1]))
    """

    def __init__(self, classes: int, dimension: int, magnitude: float = 1.0, radius: float = 0.0,
                 fixed: bool = False):
        super().__init__()
        self.radius = radius
        self.centers = ClassCenters(classes, dimension, magnitude, fixed)

    def forward(self, embedding: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ops.center_loss(embedding, target, self.centers.centers, self.radius)

    def wen_update(self, embedding: torch.Tensor, target: torch.Tensor, alpha: float = 0.5) -> None:
        """The paper's update of the centers, instead of training them."""
        ops.center_update_(self.centers.centers.data, embedding.detach(), target, alpha)


class IILoss(torch.nn.Module):
    """II loss (Hassen and Chan 2018): classes close in themselves, their means apart.

        >>> criterion = ood.nn.IILoss(3, 5)
        >>> criterion(torch.randn(4, 5), torch.tensor([0, 1, 2, -1]))
    """

    def __init__(self, classes: int, dimension: int, alpha: float = 1.0, normalize_by_dim: bool = False):
        super().__init__()
        self.classes, self.alpha, self.normalize_by_dim = classes, alpha, normalize_by_dim
        self.running = RunningCenters(classes, dimension)

    def forward(self, embedding: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.running.update(embedding, target)
        return ops.ii_loss(embedding, target, self.classes, self.alpha, self.normalize_by_dim)

    def distance(self, embedding: torch.Tensor) -> torch.Tensor:
        """Squared distances [N, K] to the running means."""
        return self.running(embedding)

    def predict(self, embedding: torch.Tensor) -> torch.Tensor:
        """Class probabilities [N, K], softmin of the distances."""
        return torch.nn.functional.softmin(self.distance(embedding), dim=1)


class MCHADLoss(torch.nn.Module):
    """MCHAD (Kirchheim et al. 2022): ID rows near their center, outliers away from all.

        >>> ood.nn.MCHADLoss(3, 5, margin=1.0)(torch.randn(4, 5), torch.tensor([0, 1, 2, -1]))
    """

    def __init__(self, classes: int, dimension: int, weight_center: float = 1.0, weight_nll: float = 1.0,
                 weight_oe: float = 1.0, radius: float = 0.0, margin: float = 4.0):
        super().__init__()
        self.weight_center, self.weight_nll, self.weight_oe = weight_center, weight_nll, weight_oe
        self.radius, self.margin = radius, margin
        self.centers = ClassCenters(classes, dimension)

    def distance(self, embedding: torch.Tensor) -> torch.Tensor:
        """Squared distances [N, K]."""
        return self.centers(embedding)

    def forward(self, embedding: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.loss_of(self.distance(embedding), target)

    def loss_of(self, distances: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        weights = [self.weight_center, self.weight_nll, self.weight_oe, self.radius, self.margin]
        return ops.mchad_loss(distances, target, weights)


class DeepSVDDLoss(torch.nn.Module):
    """Deep SVDD (Ruff et al. 2018): all known data in a small sphere; nu > 0 is the soft boundary.

        >>> criterion = ood.nn.DeepSVDDLoss(5)
        >>> criterion.init_center(torch.randn(4, 5) for _ in range(3))
        >>> criterion(torch.randn(4, 5), torch.tensor([0, 1, 2, -1]))
    """

    def __init__(self, dimension: int, nu: float = 0.0, reduction: str = "mean"):
        super().__init__()
        self.nu, self.reduction = nu, reduction
        self.register_buffer("center", torch.zeros(dimension))
        self.register_buffer("radius", torch.zeros(()))

    @torch.no_grad()
    def init_center(self, embeddings: Iterable[torch.Tensor]) -> None:
        """The mean of all rows of the batches [N, D], or of one such tensor; entries near 0 move to +-0.1.

        A batch may be a tuple or list that starts with the embeddings, as a DataLoader gives it.
        """
        total, n = torch.zeros_like(self.center, dtype=torch.double), 0
        for batch in [embeddings] if isinstance(embeddings, torch.Tensor) else embeddings:
            batch = batch[0] if isinstance(batch, (tuple, list)) else batch
            if batch.dim() != 2 or batch.shape[1] != len(self.center):
                raise ValueError(f"{type(self).__name__}.init_center: expected embeddings [N, {len(self.center)}], "
                                 f"got {tuple(batch.shape)}")
            total += batch.double().sum(0)
            n += len(batch)
        if n == 0:
            raise ValueError(f"{type(self).__name__}.init_center: expected batches of embeddings, got none")
        self.center.copy_(ops.svdd_center(total / n))

    def update_radius(self, distances: torch.Tensor) -> None:
        """After warm-up: the (1 - nu) quantile of the distances of a batch."""
        self.radius.copy_(ops.svdd_radius(distances, self.nu))

    def distance(self, embedding: torch.Tensor) -> torch.Tensor:
        """Squared distances [N]."""
        return ops.center_distances(embedding, self.center.unsqueeze(0), True).squeeze(1)

    def forward(self, embedding: torch.Tensor, target: Optional[torch.Tensor] = None) -> torch.Tensor:
        d = self.distance(embedding)
        if target is None:
            target = torch.zeros(d.shape, dtype=torch.long, device=d.device)
        return ops.svdd_loss(d, target, self.radius, self.nu, self.reduction)


class DeepSADLoss(torch.nn.Module):
    """Deep SAD (Ruff et al. 2020): unlabelled (0) and normal (+1) rows near the center, outliers (-1) away.

    These are semi-supervised labels, not classes: of a class target pass `target.clamp(max=0)`.

        >>> ood.nn.DeepSADLoss(5)(torch.randn(4, 5), torch.tensor([0, 0, 1, -1]))
    """

    def __init__(self, dimension: int, eta: float = 1.0, eps: float = 1e-6, reduction: str = "mean"):
        super().__init__()
        self.eta, self.eps, self.reduction = eta, eps, reduction
        self.register_buffer("center", torch.zeros(dimension))

    init_center = DeepSVDDLoss.init_center
    distance: Callable = DeepSVDDLoss.distance

    def forward(self, embedding: torch.Tensor, semi_target: torch.Tensor) -> torch.Tensor:
        return ops.sad_loss(self.distance(embedding), semi_target, self.eta, self.eps, self.reduction)
