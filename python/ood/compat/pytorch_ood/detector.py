"""Detectors of pytorch_ood.detector on this library's scores: same names, arguments and numbers, but for the defects that
docs/migrating.md lists. Models, data loaders and devices are used as there; scores come back on the device of the input.
"""
from typing import Callable, Optional

import torch
from torch import Tensor, nn

from ood import scores as _scores

__all__ = ["ASH", "EnergyBased", "Entropy", "GEN", "KLMatching", "KNN", "Mahalanobis", "MaxLogit", "MaxSoftmax", "NCI",
           "NNGuide", "RMD", "ReAct", "SCALE", "SHE", "TemperatureScaling", "ViM", "fDBD"]


class RequiresFittingException(Exception):
    def __init__(self, msg="You have to call fit() before predict()"):
        super().__init__(msg)


class ModelNotSetException(ValueError):
    def __init__(self, msg="When using predict(), model must not be None"):
        super().__init__(msg)


def _known(z: Tensor, y: Optional[Tensor]):
    if y is None:
        return z, y
    keep = y >= 0
    if not keep.any():
        raise ValueError("expected ID samples (labels of at least 0), got none")
    return z[keep], y[keep]


class _Detector:
    requires_fit = False
    _model_name = "model"
    _device = None

    def to(self, device):
        self._device = torch.device(device)
        for value in vars(self).values():
            if isinstance(value, nn.Module):
                value.to(device)
        return self

    @property
    def _called(self) -> Callable[[Tensor], Tensor]:
        called = getattr(self, self._model_name)
        if called is None:
            raise ModelNotSetException()
        return called

    @torch.no_grad()
    def _outputs(self, data_loader):
        outputs, labels = [], []
        for x, y in data_loader:
            x, y = _known(x, y) if (y >= 0).any() else (x[:0], y[:0])
            if len(x):
                outputs.append(self._called(x.to(self._device)).flatten(1))
                labels.append(y)
        if not outputs:
            raise ValueError("expected ID samples (labels of at least 0), got none")
        return torch.cat(outputs), torch.cat(labels)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        return self._predict(self._called(x if self._device is None else x.to(self._device)))

    def __call__(self, *args, **kwargs) -> Tensor:
        return self.predict(*args, **kwargs)


class _OfLogits(_Detector):
    def __init__(self, model: Optional[nn.Module]):
        self.model = model

    def fit(self, data_loader):
        return self.fit_logits(*self._outputs(data_loader)) if self.requires_fit else self

    def fit_logits(self, logits: Tensor, y: Optional[Tensor] = None):
        return self

    def fit_features(self, *args, **kwargs):
        return self

    def _predict(self, logits: Tensor) -> Tensor:
        return self.predict_logits(logits)


class MaxSoftmax(_OfLogits):
    """-max softmax(f / t)."""

    def __init__(self, model: Optional[nn.Module], t: float = 1.0):
        super().__init__(model)
        self.t = float(t)

    def predict_logits(self, logits: Tensor) -> Tensor:
        return self.score(logits, self.t)

    @staticmethod
    def score(logits: Tensor, t: float = 1.0) -> Tensor:
        return _scores.msp(logits / t)


class MaxLogit(_OfLogits):
    """-max f."""

    def predict_logits(self, logits: Tensor) -> Tensor:
        return self.score(logits)

    @staticmethod
    def score(logits: Tensor) -> Tensor:
        return _scores.max_logit(logits)


class EnergyBased(_OfLogits):
    """-t logsumexp(f / t)."""

    def __init__(self, model: Optional[nn.Module], t: Optional[float] = 1.0):
        super().__init__(model)
        self.t = t

    def predict_logits(self, logits: Tensor) -> Tensor:
        return self.score(logits, self.t)

    @staticmethod
    def score(logits: Tensor, t: Optional[float] = 1.0) -> Tensor:
        return t * _scores.energy(logits / t)


class Entropy(_OfLogits):
    """The entropy of the softmax."""

    def predict_logits(self, logits: Tensor) -> Tensor:
        return self.score(logits)

    @staticmethod
    def score(logits: Tensor) -> Tensor:
        return _scores.entropy(logits)


class GEN(_OfLogits):
    """Generalised entropy, a mean over the M largest probabilities."""

    def __init__(self, model: Optional[nn.Module], gamma: Optional[float] = 0.1, M: Optional[int] = None):
        super().__init__(model)
        self.gamma, self.M = gamma, M

    def predict_logits(self, logits: Tensor) -> Tensor:
        return self.score(logits, self.gamma, self.M)

    @staticmethod
    def score(logits: Tensor, gamma: float = 0.1, M: Optional[int] = None) -> Tensor:
        count = min(M or logits.shape[1], logits.shape[1])
        rows = logits.movedim(1, -1)
        total = _scores.GEN(gamma=gamma, top=count)(logits=rows.reshape(-1, rows.shape[-1]))
        return (total / count).view(rows.shape[:-1]).to(logits.dtype)


class TemperatureScaling(MaxSoftmax):
    """MaxSoftmax with the temperature of the largest likelihood."""
    requires_fit = True

    def __init__(self, model: Optional[nn.Module]):
        super().__init__(model)
        self.t, self._is_fitted = nn.Parameter(torch.tensor(1.0)), False

    def fit_logits(self, logits: Tensor, labels: Tensor):
        logits, labels = _known(logits.detach(), labels)
        fitted = _scores.TemperatureScaled().fit(held_out_logits=logits.cpu(), held_out_labels=labels.cpu().long())
        self.t.data = fitted.state["temperature"].to(self.t.dtype)
        self._is_fitted = True
        return self

    @torch.no_grad()
    def predict_logits(self, logits: Tensor) -> Tensor:
        if not self._is_fitted:
            raise RequiresFittingException()
        return super().predict_logits(logits)


class KLMatching(_OfLogits):
    """Divergence from the typical softmax of the nearest class."""
    requires_fit = True
    _fitted = None

    def fit_logits(self, logits: Tensor, labels: Optional[Tensor] = None):
        self._fitted = _scores.KLM().fit(logits=_known(logits.detach(), labels)[0].cpu())
        return self

    def predict_logits(self, logits: Tensor) -> Tensor:
        if self._fitted is None:
            raise RequiresFittingException()
        return self._fitted(logits=logits.detach().cpu()).to(logits)


class _OfFeatures(_Detector):
    requires_fit = True
    _model_name = "encoder"
    _fitted = None
    _factor = 1.0  #: to the peer's unit

    def __init__(self, encoder: Optional[Callable[[Tensor], Tensor]], head: Optional[Callable] = None):
        self.encoder, self.head = encoder, head

    def _score(self) -> _scores.Score:
        raise NotImplementedError

    def fit(self, data_loader):
        return self.fit_features(*self._outputs(data_loader))

    def fit_features(self, z: Tensor, labels: Optional[Tensor] = None):
        return self._fit(z, labels)

    def _fit(self, z: Tensor, labels: Optional[Tensor] = None):
        z, labels = _known(z.detach(), labels)
        given = {"features": z.flatten(1).cpu().float(), "labels": None if labels is None else labels.cpu().long()}
        if self.head is not None:
            if not hasattr(self.head, "weight"):
                raise TypeError(f"{type(self).__name__}: expected a linear head with weight and bias, got "
                                f"{type(self.head).__name__}")
            bias = getattr(self.head, "bias", None)
            given["weight"] = self.head.weight.detach().cpu()
            given["bias"] = None if bias is None else bias.detach().cpu()
        self._fitted = self._score().fit(**given)
        self._rows = len(z)
        return self

    def predict_features(self, z: Tensor) -> Tensor:
        return self._predict(z)

    @torch.no_grad()
    def _predict(self, z: Tensor) -> Tensor:
        if self._fitted is None:
            raise RequiresFittingException()
        return (self._factor * self._fitted(features=z.detach().flatten(1).cpu().float())).float().to(z.device)


class KNN(_OfFeatures):
    """Distance to the k-th nearest sample."""

    def __init__(self, encoder: Optional[Callable[[Tensor], Tensor]], k: int = 50, normalize: bool = True, **knn_kwargs):
        if not normalize:
            raise ValueError("KNN: expected normalize=True, which the score is defined for")
        super().__init__(encoder)
        self.k, self.normalize = k, normalize

    def _score(self):
        return _scores.KNN(k=self.k)


class Mahalanobis(_OfFeatures):
    """Half the squared distance to the nearest class, by the sum of squares in place of the covariance."""

    def __init__(self, encoder: Optional[Callable[[Tensor], Tensor]]):
        super().__init__(encoder)

    def fit_features(self, z: Tensor, y: Tensor):
        return self._fit(z, y)

    def _score(self):
        return _scores.MDS()

    @property
    def _factor(self):
        return 0.5 / self._rows


class RMD(Mahalanobis):
    """The same less the distance to all samples, not halved."""

    def _score(self):
        return _scores.RMDS(normalize=False)

    @property
    def _factor(self):
        return 1.0 / self._rows


class ViM(_OfFeatures):
    """A virtual logit of what lies outside the principal space of dimension d."""

    def __init__(self, encoder: Optional[Callable[[Tensor], Tensor]], d: int, w: Tensor, b: Tensor):
        super().__init__(encoder)
        self.d, self.w, self.b = d, w.detach().float(), b.detach().float()

    def _score(self):
        return _scores.ViM(dimension=self.d)

    def predict_features(self, x: Tensor) -> Tensor:
        return self._predict(x)

    def fit_features(self, features: Tensor, labels: Optional[Tensor] = None):
        z, y = _known(features.detach(), labels)
        if z.shape[1] < self.d:
            self.d = z.shape[1] // 2
        self._fitted = self._score().fit(features=z.cpu().float(), weight=self.w.cpu(), bias=self.b.cpu())
        return self


class fDBD(_OfFeatures):
    """Mean distance to the decision boundaries."""

    def __init__(self, encoder: nn.Module, head: nn.Linear):
        super().__init__(encoder, head)

    def fit_features(self, z: Tensor, *args, **kwargs):
        return self._fit(z, *args, **{"labels": v for k, v in kwargs.items() if k in ("labels", "y")})

    def _score(self):
        return _scores.FDBD()


class NCI(_OfFeatures):
    """Alignment with the weights of the class, and the norm."""

    def __init__(self, encoder: nn.Module, head: nn.Linear, alpha: float = 0.0):
        super().__init__(encoder, head)
        self.alpha = alpha

    def fit_features(self, z: Tensor, *args, **kwargs):
        return self._fit(z, *args, **{"labels": v for k, v in kwargs.items() if k in ("labels", "y")})

    def predict_features(self, features: Tensor) -> Tensor:
        return self._predict(features)

    def _score(self):
        return _scores.NCI(alpha=max(self.alpha, 0.0))


class SHE(_OfFeatures):
    """Product with the mean of what is classified right."""

    def __init__(self, encoder: Callable[[Tensor], Tensor], head: Callable[[Tensor], Tensor]):
        super().__init__(encoder, head)

    def fit_features(self, z: Tensor, y: Tensor, batch_size: int = 1024):
        return self._fit(z, y)

    def _score(self):
        return _scores.SHE()


class NNGuide(_OfFeatures):
    """The energy, guided by the nearest samples."""

    def __init__(self, encoder: Callable[[Tensor], Tensor], head: Callable[[Tensor], Tensor], k: int = 10):
        super().__init__(encoder, head)
        self.k = k

    def fit(self, data_loader, device=None):
        if device is not None:
            self.to(device)
        return super().fit(data_loader)

    def fit_features(self, z: Tensor, labels: Optional[Tensor] = None, batch_size: int = 4096):
        return self._fit(z, labels)

    def predict_features(self, z: Tensor, batch_size: int = 65536) -> Tensor:
        return self._predict(z)

    def _score(self):
        return _scores.NNGuide(k=self.k)


class _OfMaps(_Detector):
    """Changes activations of any shape [B, ...] between two parts of a network; any head does."""
    _model_name = "backbone"

    def __init__(self, backbone, head, percentile: float, detector):
        if not 0 <= percentile <= 1:
            raise ValueError(f"percentile: expected a share from 0 to 1, got {percentile}")
        self.backbone, self.head, self.percentile = backbone, head, percentile
        self.detector = detector or EnergyBased.score

    def fit(self, data_loader):
        return self

    def fit_feature_maps(self, feature_maps: Tensor, y: Tensor):
        return self

    @torch.no_grad()
    def predict_feature_maps(self, feature_maps: Tensor) -> Tensor:
        if self.head is None:
            raise ModelNotSetException()
        return self.detector(self.head(self._change(feature_maps)))

    def _predict(self, feature_maps: Tensor) -> Tensor:
        return self.predict_feature_maps(feature_maps)

    def _largest(self, x: Tensor):
        flat = x.flatten(1)
        return flat, flat.topk(max(1, flat.shape[1] - round(flat.shape[1] * self.percentile)), 1)

    @staticmethod
    def _sharpening(flat: Tensor, largest: Tensor) -> Tensor:
        top = largest.sum(1, True)
        return torch.where(top > 0, flat.sum(1, True) / top.where(top > 0, 1.0), 0.0).exp()


class ReAct(_OfMaps):
    """Activations cut off at a percentile of those of ID samples."""
    requires_fit = True

    def __init__(self, backbone, head, threshold: Optional[float] = None, percentile: float = 0.9, detector=None):
        super().__init__(backbone, head, percentile, detector)
        self.threshold = threshold

    def fit(self, data_loader):
        return self.fit_feature_maps(*self._outputs(data_loader))

    def fit_feature_maps(self, feature_maps: Tensor, y: Tensor):
        z = _known(feature_maps.detach(), y)[0].flatten(1).cpu()
        fitted = _scores.ReAct(percentile=self.percentile).fit(features=z, weight=z.new_zeros(1, z.shape[1]))
        self.threshold = fitted.state["cut"].item()
        return self

    def _change(self, x: Tensor) -> Tensor:
        if self.threshold is None:
            raise RequiresFittingException()
        return x.clip(max=self.threshold)


class SCALE(_OfMaps):
    """Activations scaled by how much of them the largest hold."""

    def __init__(self, backbone, head, percentile: float = 0.65, detector=None):
        super().__init__(backbone, head, percentile, detector)

    def _change(self, x: Tensor) -> Tensor:
        flat, largest = self._largest(x)
        return (flat * self._sharpening(flat, largest.values)).view_as(x)


class ASH(_OfMaps):
    """The largest activations, sharpened ("ash-s"), as they are ("ash-p") or all alike ("ash-b")."""

    def __init__(self, backbone, head, variant: str = "ash-s", percentile: float = 0.65, detector=None):
        if variant not in ("ash-s", "ash-p", "ash-b"):
            raise ValueError(f"ASH: expected variant ash-s, ash-p or ash-b, got {variant}")
        super().__init__(backbone, head, percentile, detector)
        self.variant = variant

    def _change(self, x: Tensor) -> Tensor:
        flat, largest = self._largest(x)
        values = largest.values
        if self.variant == "ash-b":
            values = (flat.sum(1, True) / values.shape[1]).expand_as(values)
        pruned = torch.zeros_like(flat).scatter(1, largest.indices, values)
        if self.variant == "ash-s":
            pruned = pruned * self._sharpening(flat, largest.values)
        return pruned.view_as(x)
