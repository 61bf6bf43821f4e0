"""The objectives with state: thin holders of the tensors that the ops work on."""
import contextlib
from typing import Callable, Iterable, Optional, Tuple

import torch

from ood._library import ops
from ood.nn.functional import loss


class ConfidenceLoss(torch.nn.Module):
    """Learned confidence (DeVries and Taylor 2018), with hints and a budget.

    :param lambda_: weight of -log c in the first step
    :param budget: mean of -log c that lambda steers to; 0: lambda stays
    :param hints: share of the batch that may get a hint

        >>> criterion = ood.nn.ConfidenceLoss()
        >>> criterion(torch.randn(4, 3), torch.randn(4), torch.tensor([0, 1, 2, -1]))
    """

    def __init__(self, lambda_: float = 0.1, budget: float = 0.3, hints: float = 0.5):
        super().__init__()
        self.budget, self.hints = budget, hints
        self.register_buffer("lambda_", torch.tensor(lambda_))

    def forward(self, logits: torch.Tensor, confidence_logit: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """logits [N, C], confidence_logit [N] before the sigmoid, target [N] -> scalar."""
        hint = None
        if self.training and self.hints < 1:
            hint = torch.rand(target.shape, device=target.device) < self.hints
        value = ops.confidence_loss(logits, confidence_logit, target, self.lambda_.clone(), hint)
        if self.training and self.budget > 0:
            with torch.no_grad():
                known = target >= 0
                minus_log_c = torch.nn.functional.softplus(-confidence_logit.float())
                mean = torch.where(known, minus_log_c, 0).sum() / known.sum().clamp(min=1)
                before = self.lambda_.clone()
                ops.confidence_budget_(self.lambda_, mean, self.budget)
                # A batch without ID rows says nothing of the confidence.
                self.lambda_.copy_(torch.where(known.any(), self.lambda_, before))
        return value


def _logistic_layer() -> torch.nn.Linear:
    # The other way round it would teach the network that large log-sums are OOD.
    phi = torch.nn.Linear(1, 2)
    with torch.no_grad():
        phi.weight.copy_(torch.tensor([[-.5], [.5]]))
    return phi


class VOSRegLoss(torch.nn.Module):
    """VOS with given outliers (Du et al. 2022), with its own energy weights and logistic layer.

        >>> ood.nn.VOSRegLoss(3)(torch.randn(4, 3), torch.tensor([0, 1, -1, -1]))
    """

    def __init__(self, classes: int, alpha: float = 0.1, balance: bool = False, reduction: str = "mean"):
        super().__init__()
        self.alpha, self.balance, self.reduction = alpha, balance, reduction
        self.weights = torch.nn.Parameter(torch.rand(classes))
        self.phi = _logistic_layer()

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ops.vos_reg_loss(logits, target, self.weights, self.phi.weight, self.phi.bias, self.alpha, self.balance,
                                self.reduction)


class VosQueues(torch.nn.Module):
    """Queues of features by class with their running moments, and outliers from the rim of their Gaussians."""

    def __init__(self, classes: int, dimension: int, sample_number: int, sample_from: int, select: int):
        super().__init__()
        self.sample_from, self.select = sample_from, select
        self.register_buffer("queue", torch.zeros(classes, sample_number, dimension))
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.long))
        self.register_buffer("sums", torch.zeros(classes, dimension, dtype=torch.double))
        self.register_buffer("moment", torch.zeros(dimension, dimension, dtype=torch.double))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def _apply(self, fn, recurse: bool = True):
        # .to(dtype) moves the exact sums, but does not round them.
        exact = {name: getattr(self, name) for name in ("sums", "moment")}
        super()._apply(fn, recurse)
        for name, before in exact.items():
            moved = getattr(self, name)
            setattr(self, name, moved.double() if before.is_meta else before.to(moved.device))
        return self

    def full(self) -> bool:
        return bool((self.counts >= self.queue.shape[1]).all())

    @torch.no_grad()
    def draw(self, features: torch.Tensor, target: torch.Tensor) -> Optional[torch.Tensor]:
        """Takes the features [N, D] in; outliers [K * select, D] where the queues were full before."""
        full = self.full()
        ops.vos_enqueue_(self.queue, self.counts, self.sums, self.moment, features.detach(), target, int(self.steps))
        self.steps += 1
        if not full:
            return None
        means = (self.sums / self.queue.shape[1]).to(features.dtype)
        covariance = ops.vos_covariance(self.queue, self.counts, self.sums, self.moment)
        return ops.vos_sample(means, covariance, self.sample_from, self.select)

    def with_outliers(self, logits: torch.Tensor, features: torch.Tensor, target: torch.Tensor,
                      last: Callable[[torch.Tensor], torch.Tensor]) -> Tuple[torch.Tensor, torch.Tensor, int]:
        """The ID rows of a batch and, once the queues were full before it, outliers through the last layer:
        logits, labels (-1 for an outlier), and how many outliers there are."""
        outliers = self.draw(features, target)
        known = target >= 0
        logits, target = logits[known], target[known]
        if outliers is None or len(target) == 0:
            return logits, target, 0
        return (torch.cat([logits, last(outliers).to(logits.dtype)]),
                torch.cat([target, target.new_full((len(outliers),), -1)]), len(outliers))


class VirtualOutlierSynthesizingRegLoss(torch.nn.Module):
    """VOS without outliers (Du et al. 2022): they are drawn from the rim of Gaussians of the features.

    :param last: the network's last layer, features -> logits; its parameters stay the network's

        >>> last = torch.nn.Linear(5, 3)
        >>> criterion = ood.nn.VirtualOutlierSynthesizingRegLoss(3, 5, sample_number=10)
        >>> features = torch.randn(4, 5)
        >>> criterion(last(features), features, torch.tensor([0, 1, 2, -1]), last)
    """

    def __init__(self, classes: int, dimension: int, alpha: float = 0.1, sample_number: int = 1000,
                 sample_from: int = 10000, select: int = 1):
        super().__init__()
        self.alpha = alpha
        self.weights = torch.nn.Parameter(torch.rand(classes))
        self.phi = _logistic_layer()
        self.queues = VosQueues(classes, dimension, sample_number, sample_from, select)

    def forward(self, logits: torch.Tensor, features: torch.Tensor, target: torch.Tensor,
                last: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """logits [N, C], features [N, D], target [N] -> scalar; rows with a label below 0 are left out."""
        rows, labels, drawn = self.queues.with_outliers(logits, features, target, last)
        if not drawn:
            return loss("cross_entropy", [0.0], rows, labels)
        return ops.vos_reg_loss(rows, labels, self.weights, self.phi.weight, self.phi.bias, self.alpha)


class EnergyMarginLoss(torch.nn.Module):
    """SCONE (Bai et al. 2023): outliers beyond an energy margin, under constraints on ID data.

    :param initial_cross_entropy: of the network on its training data before
    :param margin: energy gap, >= 0 (minus the authors' eta)

    `measure` sets initial_cross_entropy and starts the logistic layer from the data; without it the layer starts at
    log-sums around 0, where it may saturate. Its slope stays negative: large log-sums are ID.

        >>> criterion = ood.nn.EnergyMarginLoss(initial_cross_entropy=0.3)
        >>> criterion.measure(torch.nn.Identity(), [(torch.randn(20, 3), torch.randint(0, 3, (20,)))])
        >>> criterion(torch.randn(4, 3), torch.tensor([0, 1, -1, -1]))
    """

    def __init__(self, initial_cross_entropy: float, margin: float = 10.0, false_alarm: float = 0.05,
                 tau: float = 2.0, out_weight: float = 1.0, rate: float = 1.0, growth: float = 1.5,
                 tolerance: float = 0.0, shared_multiplier: bool = False):
        super().__init__()
        if not margin >= 0:
            raise ValueError(f"EnergyMarginLoss: expected margin at least 0, got {margin}")
        self.margin, self.false_alarm, self.tau, self.out_weight = margin, false_alarm, tau, out_weight
        self.rate, self.growth, self.tolerance, self.shared_multiplier = rate, growth, tolerance, shared_multiplier
        self.phi = torch.nn.Linear(1, 1)
        self._start_layer(0.0)
        self.register_buffer("state", torch.tensor([0., 1., 0., 1., float(initial_cross_entropy)]))

    @torch.no_grad()
    def _start_layer(self, boundary: float) -> None:
        # The margin is two units of the logistic function wide, so that both terms have a gradient.
        slope = -2 / max(self.margin, 1.0)
        self.phi.weight.fill_(slope)
        self.phi.bias.fill_(-slope * boundary)

    def _weight(self) -> torch.Tensor:
        # With a positive slope large logits would mean OOD. Straight through: a gradient can bring it back.
        w = self.phi.weight
        return w + (w.clamp(max=-1 / max(self.margin, 1.0)) - w).detach()

    @torch.no_grad()
    def measure(self, model: Callable, batches: Iterable[Tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Before training with it: the cross-entropy of `model` over ID batches, and a logistic layer whose boundary
        rejects `false_alarm` of them."""
        log_sums, total, rows = [], 0.0, 0
        with evaluating(model):
            for x, y in batches:
                z, known = model(x), y >= 0
                log_sums.append(-ops.energy_score(z[known]))
                total += float(loss("cross_entropy", [0.0], z, y, reduction="sum"))
                rows += int(known.sum())
        if rows == 0:
            raise ValueError("EnergyMarginLoss.measure: expected batches with ID rows, got none")
        s = torch.cat(log_sums).sort().values
        self._start_layer(float(s[int(self.false_alarm * (rows - 1))]))
        self.state[4] = total / rows

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """logits [N, C], target [N] -> scalar; a missing population contributes 0."""
        return ops.energy_margin_loss(logits, target, self._weight(), self.phi.bias, self.state.clone(), self.margin,
                                      self.false_alarm, self.tau, self.out_weight)

    @torch.no_grad()
    def update_hyperparameters(self, model: Callable, batches: Iterable[Tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Multipliers and penalties after the violations over ID batches; the model's mode stays as it was."""
        inside, ce = mean_constraints(model, batches, lambda z, y: ops.energy_margin_means(
            z, y, self._weight(), self.phi.bias, self.margin))
        ops.energy_margin_update_(self.state, inside - self.false_alarm, ce - self.tau * float(self.state[4]),
                                  self.rate, self.growth, self.tolerance, self.shared_multiplier)


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


def mean_constraints(model: Callable, batches, means_of) -> Tuple[float, float]:
    """Means of sigmoid(phi) and cross-entropy over ID rows of all batches, the model in evaluation mode."""
    inside = ce = rows = 0.0
    with evaluating(model):
        for x, y in batches:
            n = int((y >= 0).sum())
            m = means_of(model(x), y)
            inside, ce, rows = inside + float(m[0]) * n, ce + float(m[2]) * n, rows + n
    if rows == 0:
        raise ValueError("update_hyperparameters: expected batches with ID rows, got none")
    return inside / rows, ce / rows
