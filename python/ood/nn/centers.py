"""Centers of classes."""
import torch

from ood._library import ops


class ClassCenters(torch.nn.Module):
    """One center a class, a parameter [K, D] (or a buffer, where fixed) drawn from N(0, magnitude^2).

        >>> distances = ood.nn.ClassCenters(3, 5)(torch.randn(4, 5))  # [4, 3], squared
    """

    def __init__(self, classes: int, dimension: int, magnitude: float = 1.0, fixed: bool = False):
        super().__init__()
        start = torch.randn(classes, dimension) * magnitude
        if fixed:
            self.register_buffer("centers", start)
        else:
            self.centers = torch.nn.Parameter(start)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """embedding [N, D] -> squared distances [N, K]."""
        return ops.center_distances(embedding, self.centers, True)


class RunningCenters(torch.nn.Module):
    """Running means of classes: exact means of all rows seen (momentum 0), or an exponential average.

        >>> centers = ood.nn.RunningCenters(3, 5)
        >>> centers.update(torch.randn(4, 5), torch.tensor([0, 2, 2, -1]))
    """

    def __init__(self, classes: int, dimension: int, momentum: float = 0.0):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centers", torch.zeros(classes, dimension))
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.long))

    def reset(self) -> None:
        self.centers.zero_()
        self.counts.zero_()

    def update(self, embedding: torch.Tensor, target: torch.Tensor) -> None:
        """embedding [N, D], target [N]; rows with a label below 0 take no part."""
        ops.running_means_update_(self.centers, self.counts, embedding, target, self.momentum)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """embedding [N, D] -> squared distances [N, K], infinite to classes that were not seen."""
        d = ops.center_distances(embedding, self.centers, True)
        return d.masked_fill(self.counts == 0, float("inf"))
