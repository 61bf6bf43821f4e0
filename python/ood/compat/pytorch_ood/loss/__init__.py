"""Drop-in for `pytorch_ood.loss` 0.4.0: the same names, positional order, defaults, attributes, methods and
state_dict keys, over libood's ops. Arguments of older versions (`device=`) are accepted. Numbers are equal
but for the defects that docs/migrating.md lists.

    -from pytorch_ood.loss import OutlierExposureLoss
    +from ood.compat.pytorch_ood.loss import OutlierExposureLoss
"""
import warnings
from typing import Callable, Optional

import torch
from torch import Tensor, nn

from ood._library import ops
from ood.nn.functional import feature_square_norms, loss
from ood.nn.stateful import VosQueues, mean_constraints

__all__ = ["BackgroundClassLoss", "CACLoss", "CenterLoss", "ConfidenceLoss", "CrossEntropyLoss", "DeepSADLoss",
           "DeepSVDDLoss", "EnergyMarginLoss", "EnergyRegularizedLoss", "EntropicOpenSetLoss", "IILoss", "LogitNorm",
           "MCHADLoss", "ObjectosphereLoss", "OutlierExposureLoss", "VOSRegLoss", "VirtualOutlierSynthesizingRegLoss"]

REDUCTIONS = ("mean", "sum", "none", None)


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


class CrossEntropyLoss(nn.Module):
    """Cross-entropy that leaves out rows with a label below 0."""

    def __init__(self, reduction: Optional[str] = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return loss("cross_entropy", [0.0], logits, targets, reduction=self.reduction)


class OutlierExposureLoss(nn.Module):
    """Outlier exposure (Hendrycks et al. 2019); means over the whole batch, as pytorch-ood has it."""

    def __init__(self, alpha: float = 0.5, reduction: Optional[str] = "mean"):
        super().__init__()
        self.alpha, self.reduction = alpha, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return loss("outlier_exposure", [self.alpha], logits, target, reduction=self.reduction, balance="whole_batch")


class EntropicOpenSetLoss(nn.Module):
    """Entropic open-set loss (Dhamija et al. 2018)."""

    def __init__(self, reduction: Optional[str] = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return loss("entropic_open_set", [1.0], logits, target, reduction=self.reduction, balance="whole_batch")


class EnergyRegularizedLoss(nn.Module):
    """Energy-regularised learning (Liu et al. 2020)."""

    def __init__(self, alpha: float = 0.1, margin_in: float = -25.0, margin_out: float = -7.0,
                 reduction: str = "mean"):
        super().__init__()
        self.alpha, self.m_in, self.m_out, self.reduction = alpha, margin_in, margin_out, reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return loss("energy_regularized", [self.alpha, self.m_in, self.m_out], logits, targets,
                    reduction=self.reduction, balance="per_population")


class LogitNorm(nn.Module):
    """LogitNorm (Wei et al. 2022); t is the temperature."""

    def __init__(self, t: float = 1.0, reduction: str = "mean"):
        super().__init__()
        self.t, self.reduction = t, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.reduction in ("none", None):  # pytorch-ood drops OOD rows
            known = target >= 0
            logits, target = logits.movedim(1, -1)[known], target[known]
        return loss("logit_norm", [self.t], logits, target, reduction=self.reduction)


class BackgroundClassLoss(nn.Module):
    """Cross-entropy with one more class for outliers; logits have n_classes + 1 columns."""

    def __init__(self, n_classes: int, reduction: str = "mean"):
        super().__init__()
        self.num_classes, self.reduction = n_classes, reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if logits.shape[1] != self.num_classes + 1:
            raise ValueError(f"BackgroundClassLoss: expected logits with {self.num_classes + 1} columns, "
                             f"got {tuple(logits.shape)}")
        if targets.numel() and int(targets.max()) >= self.num_classes:
            raise ValueError(f"BackgroundClassLoss: expected targets below {self.num_classes}, got {int(targets.max())}")
        return loss("background_class", [], logits, targets, reduction=self.reduction)


class ObjectosphereLoss(nn.Module):
    """Objectosphere (Dhamija et al. 2018)."""

    def __init__(self, alpha: float = 1.0, xi: float = 1.0, reduction: Optional[str] = "mean"):
        super().__init__()
        self.alpha, self.xi, self.reduction = alpha, xi, reduction

    def forward(self, logits: Tensor, features: Tensor, target: Tensor) -> Tensor:
        return loss("objectosphere", [self.alpha, self.xi], logits, target, extras=feature_square_norms(features),
                    reduction=self.reduction, balance="whole_batch")

    @staticmethod
    def score(logits: Tensor, features: Optional[Tensor] = None) -> Tensor:
        """Minus max softmax times the norm of the features; of the logits where no features are given."""
        norm = (logits if features is None else features).norm(dim=1)
        return -logits.softmax(dim=1).amax(dim=1) * norm


class ConfidenceLoss(nn.Module):
    """Learned confidence (DeVries and Taylor 2018), without hints and budget, as pytorch-ood has it.

    confidence: after the sigmoid, in [0, 1], [N, 1] or [N].
    """

    def __init__(self, alpha: float = 1.0, eps: float = 1e-24):
        super().__init__()
        self.alpha, self.eps = alpha, eps

    def forward(self, logits: Tensor, confidence: Tensor, target: Tensor) -> Tensor:
        c = confidence.squeeze(1) if confidence.dim() == 2 and confidence.shape[1] == 1 else confidence
        if c.shape != target.shape:
            raise ValueError(f"ConfidenceLoss: expected confidence [N, 1] or [N] for target {tuple(target.shape)}, "
                             f"got {tuple(confidence.shape)}")
        weight = torch.tensor(self.alpha, dtype=c.dtype, device=c.device)
        return ops.confidence_loss_of_probability(logits, c, target, weight, self.eps)


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
        return loss("cac", [self.alpha, self.magnitude], -distances, target)

    @staticmethod
    def score(distance: Tensor) -> Tensor:
        """The paper's score, min_j d_j (1 - softmin(d)_j): higher for OOD."""
        return (distance * (1 - nn.functional.softmin(distance, dim=1))).amin(dim=1)


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
            return ops.ii_loss(x, target, self.num_classes, self.alpha)
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
        rows = (center(x).squeeze(1) - torch.as_tensor(radius, dtype=x.dtype, device=x.device).pow(2)).relu()
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
        y = y.clamp(min=-1, max=0)
        if self.reduction in ("none", None):
            return ops.sad_loss(self.distance(x), y, self.eta, self.eps, "none")
        return ops.sad_embedding_loss(x, self.center.params, y, self.eta, self.eps, self.reduction)


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


def _energy_weights(layer: nn.Linear) -> Tensor:
    return layer.weight.reshape(-1)


def _bias(layer: nn.Linear) -> Tensor:
    return layer.bias if layer.bias is not None else layer.weight.new_zeros(layer.out_features)


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)


class VOSRegLoss(nn.Module):
    """VOS with given outliers (Du et al. 2022). The energies enter the logistic layer as in pytorch-ood: negative."""

    def __init__(self, logistic_regression: nn.Linear, weights_energy: nn.Linear, alpha: float = 0.1, *rest,
                 reduction: str = "mean", device: Optional[str] = None):
        super().__init__()
        # Positional rest: (reduction) as in 0.4.0, or (device, reduction) as before.
        for value in rest:
            if value in REDUCTIONS:
                reduction = value
            else:
                device = value
        self.logistic_regression, self.weights_energy = logistic_regression, weights_energy
        self.alpha, self.reduction = alpha, reduction
        if device is not None:
            self.to(device)

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        phi = self.logistic_regression
        return ops.vos_reg_loss(logits, y, _energy_weights(self.weights_energy), -phi.weight, _bias(phi), self.alpha,
                                False, self.reduction or "none")

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        return self._loss(logits, y)


class VirtualOutlierSynthesizingRegLoss(VOSRegLoss):
    """VOS without outliers (Du et al. 2022).

    Also with the arguments of older versions: (logistic_regression, weights_energy, device, num_classes,
    num_input_last_layer, fc, ...).
    """

    def __init__(self, logistic_regression: nn.Linear, weights_energy: nn.Linear, *rest, fc: Optional[nn.Linear] = None,
                 alpha: float = 0.1, reduction: str = "mean", sample_number: int = 1000, select: int = 1,
                 sample_from: int = 10000, device: Optional[str] = None, num_classes: Optional[int] = None,
                 num_input_last_layer: Optional[int] = None):
        rest = list(rest)
        if rest and not isinstance(rest[0], nn.Module):  # older: device, num_classes, num_input_last_layer
            device = rest.pop(0)
            del rest[:2]
        names = ["fc", "alpha", "reduction", "sample_number", "select", "sample_from"]
        if len(rest) > len(names):
            raise TypeError(f"VirtualOutlierSynthesizingRegLoss: {len(rest) - len(names)} arguments too many")
        values = dict(fc=fc, alpha=alpha, reduction=reduction, sample_number=sample_number, select=select,
                      sample_from=sample_from)
        values.update(zip(names, rest))
        if values["fc"] is None:
            raise TypeError("VirtualOutlierSynthesizingRegLoss: expected fc, the network's last layer")
        super().__init__(logistic_regression, weights_energy, values["alpha"], reduction=values["reduction"])
        self.fc = values["fc"]
        self.num_classes, self.num_input_last_layer = self.fc.out_features, self.fc.in_features
        self.sample_number, self.select, self.sample_from = (values[k] for k in names[3:])
        self.queues = VosQueues(self.num_classes, self.num_input_last_layer, self.sample_number, self.sample_from,
                                self.select)
        if device is not None:
            self.to(device)

    def _load_from_state_dict(self, state, prefix, *rest):
        # A checkpoint of pytorch-ood has no queues: they start empty, as there.
        for name, buffer in self.queues.named_buffers():
            state.setdefault(f"{prefix}queues.{name}", torch.zeros_like(buffer))
        super()._load_from_state_dict(state, prefix, *rest)

    def forward(self, logits: Tensor, features: Tensor, y: Tensor) -> Tensor:
        if y.dim() != 1:
            raise NotImplementedError("VirtualOutlierSynthesizingRegLoss: segmentation is not supported")
        rows, labels, drawn = self.queues.with_outliers(logits, features, y, self.fc)
        if not drawn:
            return loss("cross_entropy", [0.0], rows, labels, reduction=self.reduction)
        value = self._loss(rows, labels)
        return value[:-drawn] if self.reduction in ("none", None) else value


class EnergyMarginLoss(nn.Module):
    """SCONE (Bai et al. 2023). eta has the sign of pytorch-ood: a margin is negative."""

    def __init__(self, full_train_loss: float, eta: float = 1.0, false_alarm_cutoff: float = 0.05,
                 in_constraint_weight: float = 1.0, ce_tol: float = 2.0, ce_constraint_weight: float = 1.0,
                 out_constraint_weight: float = 1.0, lr_lam: float = 1.0, penalty_mult: float = 1.5,
                 constraint_tol: float = 0.0):
        super().__init__()
        if eta > 0:
            warnings.warn("EnergyMarginLoss: eta > 0 lets outliers reach into the ID side; the authors' runs use -10",
                          stacklevel=2)
        for name, value in dict(full_train_loss=full_train_loss, eta=eta, false_alarm_cutoff=false_alarm_cutoff,
                                in_constraint_weight=in_constraint_weight, lam=0.0, lam2=0.0, ce_tol=ce_tol,
                                ce_constraint_weight=ce_constraint_weight, out_constraint_weight=out_constraint_weight,
                                lr_lam=lr_lam, penalty_mult=penalty_mult, constraint_tol=constraint_tol).items():
            self.register_buffer(name, torch.tensor(float(value)))

    def _numbers(self):
        return [-float(self.eta), float(self.false_alarm_cutoff), float(self.ce_tol), float(self.out_constraint_weight)]

    def _means(self, logits: Tensor, targets: Tensor, phi: Callable[[Tensor], Tensor]):
        # phi may be any function of the energy, so its two means are formed here.
        known = targets >= 0
        s = -ops.energy_score(logits)
        inside = torch.sigmoid(phi(s.unsqueeze(1))).reshape(-1)
        outside = torch.sigmoid(-phi((s - self.eta).unsqueeze(1))).reshape(-1)

        def mean(values: Tensor, rows: Tensor) -> Tensor:
            return torch.where(rows, values, torch.zeros_like(values)).sum() / rows.sum().clamp(min=1)

        return mean(inside, known), mean(outside, ~known), loss("cross_entropy", [0.0], logits, targets)

    def forward(self, logits: Tensor, targets: Tensor, logistic_regression: Callable[[Tensor], Tensor]) -> Tensor:
        if logits.dim() != 2:
            raise ValueError(f"EnergyMarginLoss: expected logits [N, C], got {tuple(logits.shape)}")
        if type(logistic_regression) is nn.Linear and not _has_hooks(logistic_regression):
            state = torch.stack([self.lam, self.in_constraint_weight, self.lam2, self.ce_constraint_weight,
                                 self.full_train_loss])
            phi = logistic_regression
            return ops.energy_margin_loss(logits, targets, phi.weight, _bias(phi), state, *self._numbers())
        inside, outside, ce = self._means(logits, targets, logistic_regression)
        constraints = (
            ops.augmented_lagrangian(ce - self.ce_tol * self.full_train_loss, self.lam2.clone(),
                                     self.ce_constraint_weight.clone())
            + ops.augmented_lagrangian(inside - self.false_alarm_cutoff, self.lam.clone(),
                                       self.in_constraint_weight.clone()))
        any_known = (targets >= 0).any()
        return torch.where(any_known, constraints, 0 * inside) + self.out_constraint_weight * outside

    @torch.no_grad()
    def update_hyperparameters(self, model: Callable[[Tensor], Tensor], train_loader_in,
                               logistic_regression: Callable[[Tensor], Tensor]) -> None:
        """Multipliers and penalties after the violations over the loader; the model's mode stays as it was."""
        device = self.lam.device
        batches = ((x.to(device), y.to(device)) for x, y in train_loader_in)
        inside, ce = mean_constraints(model, batches, lambda z, y: self._means(z, y, logistic_regression))
        state = torch.stack([self.lam, self.in_constraint_weight, self.lam2, self.ce_constraint_weight,
                             self.full_train_loss]).double()
        ops.energy_margin_update_(state, inside - float(self.false_alarm_cutoff),
                                  ce - float(self.ce_tol * self.full_train_loss), float(self.lr_lam),
                                  float(self.penalty_mult), float(self.constraint_tol))
        for buffer, value in zip((self.lam, self.in_constraint_weight, self.lam2, self.ce_constraint_weight), state):
            buffer.copy_(value)
