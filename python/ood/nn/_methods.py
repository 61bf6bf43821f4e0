"""Methods that classes of ood.nn had before the registry made them, by objective: their names stay. New objectives need
none of them: `update_state`, `distance` and `predict` are common to all."""
import contextlib
from typing import Callable, Iterable, Tuple, Union

import torch

from ood._library import ops
from ood.nn.functional import loss


class _Cac:
    def loss_of(self, distances: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return loss("cac", self.parameter_list(), -distances, target, reduction=self._value("reduction", "mean"),
                    balance=self._balance(), ignore_index=self._value("ignore_index", None))

    @staticmethod
    def score(distances: torch.Tensor) -> torch.Tensor:
        """min_j d_j (1 - softmin(d)_j): [N], higher for OOD."""
        return (distances * (1 - torch.nn.functional.softmin(distances, dim=1))).amin(1)


class _Center:
    def wen_update(self, embedding: torch.Tensor, target: torch.Tensor, alpha: float = 0.5) -> None:
        """The paper's update of the centers, instead of training them."""
        rows = [embedding.detach(), target]
        if ranks := self._ranks():
            rows = ranks.rows(rows)
        ops.center_update_(self.centers.centers.data, *rows, alpha)


class _Mchad:
    def loss_of(self, distances: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ops.mchad_loss(distances, target, self.parameter_list(),
                              self._value("reduction", "mean") or "none")


class _Objectosphere:
    @staticmethod
    def score(logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The paper's score, -max softmax times ||features||: [B], higher for OOD."""
        return -logits.softmax(1).amax(1) * features.norm(dim=1)


class _Sphere:
    def init_center(self, embeddings: Union[torch.Tensor, Iterable]) -> None:
        """The mean of all rows of the batches [N, D], or of one such tensor; entries near 0 move to +-0.1.

        A batch may be a tuple or list that starts with the embeddings, as a DataLoader gives it.
        """
        batches = [embeddings] if isinstance(embeddings, torch.Tensor) else embeddings
        inputs = []
        for batch in batches:
            x = batch[0] if isinstance(batch, (tuple, list)) else batch
            if x.dim() != 2 or x.shape[1] != len(self.center):
                raise ValueError(f"{type(self).__name__}.init_center: expected embeddings [N, {len(self.center)}], "
                                 f"got {tuple(x.shape)}")
            inputs += [x.detach(), x.new_zeros(len(x), dtype=torch.long)]
        self.update_state("begin", inputs)


class _Svdd(_Sphere):
    def update_radius(self, distances: torch.Tensor) -> None:
        """After warm-up: the (1 - nu) quantile of the distances of a batch."""
        if ranks := self._ranks():
            distances, = ranks.rows([distances.detach()])
        self.radius.copy_(ops.svdd_radius(distances, self.nu))

    def __call__(self, embedding, target=None, *rest, **options):
        if target is None:
            target = torch.zeros(len(embedding), dtype=torch.long, device=embedding.device)
        return super().__call__(embedding, target, *rest, **options)


class _EnergyMargin:
    @torch.no_grad()
    def measure(self, model: Callable, batches: Iterable[Tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Before training with it: the cross-entropy of `model` over ID batches, and a logistic layer whose boundary
        rejects `false_alarm` of them."""
        with evaluating(model):
            self.update_state("begin", [t for x, y in batches for t in (model(x), y)])

    @torch.no_grad()
    def update_hyperparameters(self, model: Callable, batches: Iterable[Tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Multipliers and penalties after the violations over ID batches, or what `measure` does where nothing was
        measured; the model's mode stays as it was."""
        if self.state[4] < 0:
            return self.measure(model, batches)
        w = self.phi.weight.clamp(max=-1 / max(self.margin, 1.0))
        inside, ce = mean_constraints(model, batches, lambda z, y: ops.energy_margin_means(
            z, y, w, self.phi.bias, self.margin), self._ranks())
        ops.energy_margin_update_(self.state, inside - self.false_alarm, ce - self.tau * float(self.state[4]),
                                  self.rate, self.growth, self.tolerance, self.shared_multiplier)


METHODS = {"cac": _Cac, "center": _Center, "mchad": _Mchad, "objectosphere": _Objectosphere, "deep_svdd": _Svdd,
           "deep_sad": _Sphere, "energy_margin": _EnergyMargin}


@contextlib.contextmanager
def evaluating(model: Callable):
    """The model in evaluation mode; afterwards in the mode it was in."""
    was_training = getattr(model, "training", None)
    if was_training:
        model.eval()
    try:
        yield
    finally:
        if was_training:
            model.train()


def mean_constraints(model: Callable, batches, means_of, ranks=None) -> Tuple[float, float]:
    """Means of sigmoid(phi) and cross-entropy over ID rows of all batches, the model in evaluation mode."""
    inside = ce = rows = 0.0
    device = torch.device("cpu")
    with evaluating(model):
        for x, y in batches:
            n = int((y >= 0).sum())
            m = means_of(model(x), y)
            inside, ce, rows = inside + float(m[0]) * n, ce + float(m[2]) * n, rows + n
            device = y.device
    if ranks:
        inside, ce, rows = ranks.sum([inside, ce, rows], device)
    if rows == 0:
        raise ValueError("update_hyperparameters: expected batches with ID rows, got none")
    return inside / rows, ce / rows
