"""Centers of classes, as pytorch_ood.model has them."""
import torch
from torch import Tensor, nn

from ood._library import ops


class ClassCenters(nn.Module):
    """Centers of classes with squared distances, as pytorch_ood.model.ClassCenters."""

    def __init__(self, n_classes: int, n_features: int, fixed: bool = False):
        super().__init__()
        self._params = nn.Parameter(torch.randn(n_classes, n_features), requires_grad=not fixed)

    @property
    def params(self) -> nn.Parameter:
        return self._params

    @property
    def num_classes(self) -> int:
        return self.params.shape[0]

    @property
    def n_features(self) -> int:
        return self.params.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """x [N, D] -> squared distances [N, C]."""
        return ops.center_distances(x, self.params, True)

    def predict(self, x: Tensor) -> Tensor:
        return nn.functional.softmin(self(x), dim=1)


class RunningCenters(nn.Module):
    """Exact running means of classes."""

    def __init__(self, n_classes: int, n_embedding: int):
        super().__init__()
        self.num_classes, self.n_embedding = n_classes, n_embedding
        self.register_buffer("running_centers", torch.zeros(n_classes, n_embedding))
        self.register_buffer("num_batches_tracked", torch.zeros(1))
        self.register_buffer("counts", torch.zeros(n_classes, dtype=torch.long))

    def _load_from_state_dict(self, state, prefix, *rest):
        # A checkpoint of pytorch-ood counts batches, not rows; see running_means_update_.
        batches = state.get(prefix + "num_batches_tracked", torch.zeros(1))
        state.setdefault(prefix + "counts", -batches.long().expand(self.num_classes).clone())
        super()._load_from_state_dict(state, prefix, *rest)

    @property
    def centers(self) -> Tensor:
        return self.running_centers

    def reset(self) -> None:
        for buffer in self.buffers():
            buffer.zero_()

    def update(self, x: Tensor, target: Tensor) -> None:
        ops.running_means_update_(self.running_centers, self.counts, x, target)
        self.num_batches_tracked += 1

    def forward(self, x: Tensor) -> Tensor:
        return ops.center_distances(x, self.running_centers, True)
