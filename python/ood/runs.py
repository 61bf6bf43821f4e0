"""Runs of the program `ood` in Python."""
import json
import pathlib
import struct
from typing import Dict, List, Tuple, Union

import torch

from ood import metrics
from ood.networks import forward, make_network
from ood.registry import objectives

_TYPES = {"F64": torch.double, "F32": torch.float, "BF16": torch.bfloat16, "F16": torch.half, "I64": torch.long,
          "I32": torch.int, "U8": torch.uint8, "BOOL": torch.bool}
_NAMES = {v: k for k, v in _TYPES.items()}


def read_safetensors(path: Union[str, pathlib.Path]) -> Tuple[Dict[str, torch.Tensor], Dict[str, str]]:
    """Tensors and metadata of a file."""
    raw = pathlib.Path(path).read_bytes()
    try:
        length, = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8:8 + length])
        metadata = header.pop("__metadata__", {})
        data = bytearray(raw[8 + length:])
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            if end > len(data):
                raise ValueError
            flat = torch.frombuffer(data, dtype=torch.uint8)[begin:end].clone() if end > begin else torch.empty(0, dtype=torch.uint8)
            tensors[name] = flat.view(_TYPES[entry["dtype"]]).view(entry["shape"])
    except (struct.error, ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{path}: expected a safetensors file, got a damaged or another one") from e
    return tensors, metadata


def write_safetensors(path: Union[str, pathlib.Path], tensors: Dict[str, torch.Tensor], metadata: Dict[str, str]) -> None:
    """The other way round."""
    header, parts, offset = {"__metadata__": metadata}, [], 0
    for name, t in tensors.items():
        raw = t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""
        header[name] = {"dtype": _NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + len(raw)]}
        parts.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


FORMAT = "3"  # of the program's model.safetensors


class Run(torch.nn.Module):
    """A trained network of the program: `network`, `objective`, `class_names`, `threshold(tpr)`.

        >>> run = ood.load_run("runs/oe")
        >>> classes, scores, accepted = run.detect(pictures)  # uint8 [N, C, H, W]
    """

    def __init__(self, path: pathlib.Path):
        super().__init__()
        tensors, metadata = read_safetensors(path)
        if metadata.get("format") != "ood-run":
            raise ValueError(f"{path}: expected a model of `ood train`, got other tensors")
        if metadata.get("format_version") != FORMAT:
            raise ValueError(f"{path}: was written by ood {metadata.get('version')} in another format; train again")
        self.path, self.metadata = path, metadata
        self.description = d = json.loads(metadata["description"])
        self.objective = objectives()[d["objective"]]
        self.class_names: List[str] = d["class_names"]
        self.score_name: str = d["score"]
        outputs = len(tensors["fc.weight"])
        self.network = make_network(d["model"], d["channels"], d["height"], d["width"], outputs, "fc.bias" in tensors)
        own = set(self.network.state_dict())
        self.network.load_state_dict({k: v for k, v in tensors.items() if k in own})
        #: tensors of the objective: centers, queues, multipliers
        self.objective_state = {k[10:]: v for k, v in tensors.items() if k.startswith("objective.")}
        self.validation_scores = tensors["validation_scores"]
        channels = (1, len(d["mean"]), 1, 1)
        self.register_buffer("mean", torch.tensor(d["mean"]).view(channels), persistent=False)
        self.register_buffer("deviation", torch.tensor(d["deviation"]).view(channels), persistent=False)
        self.eval()

    def forward(self, inputs: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Pictures uint8 [N, C, H, W] or embeddings [N, D] -> logits and features."""
        d = self.description
        shape = (d["channels"],) if d["embeddings"] else (d["channels"], d["height"], d["width"])
        if tuple(inputs.shape[1:]) != shape or inputs.is_floating_point() != d["embeddings"]:
            raise ValueError(f"load_run: expected {'floating' if d['embeddings'] else 'uint8'} inputs of shape "
                             f"[N, {', '.join(map(str, shape))}], got {tuple(inputs.shape)} of {inputs.dtype}")
        if not inputs.is_floating_point():
            x = (inputs.float() / 255 - self.mean) / self.deviation
        else:
            x = (inputs.float().view(len(inputs), -1, 1, 1) - self.mean) / self.deviation
        return forward(self.network, x)

    def class_logits(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Logits of classes [N, K], for general scores; minus the distances where classes are centers."""
        name = self.objective.name
        if name == "mchad":
            return -self._center_distances(logits, features)
        if name == "cac":
            return -self._anchor_distances(logits)
        if name in ("deep_svdd", "deep_sad") or (name == "ii" and self.description["parameters"][2] == 0):
            raise ValueError(f"class_logits: {name} trains no logits of classes; see score")
        return logits[:, :len(self.class_names)]

    def score(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The score of the run [N], higher for OOD."""
        from ood import nn, scores
        name = self.score_name
        simple = {"msp": scores.msp, "max_logit": scores.max_logit, "energy": scores.energy}
        if name in simple:
            # In float32 the softmax of a sure network is exactly 1 for many inputs, which then tie.
            return simple[name](self.class_logits(logits, features).double())
        if name == "background":
            return -logits.softmax(1)[:, :-1].amax(1)
        if name == "objectosphere":
            return nn.ObjectosphereLoss.score(logits, features)
        if name == "confidence":
            return -logits[:, -1]
        if name == "cac":
            return nn.CACLoss.score(self._anchor_distances(logits))
        if name == "center_distance":
            return self._center_distances(logits, features).amin(1)
        raise ValueError(f"{self.path}: its score {name} is not known to this version")

    def threshold(self, tpr: float = 0.95) -> float:
        """The score at or below which that share of the held-out ID data lies."""
        return metrics.threshold_at(self.validation_scores, tpr)

    @torch.no_grad()
    def detect(self, inputs: torch.Tensor, tpr: float = 0.95):
        """Classes (-1 where the objective knows one class only), scores and decisions, [N] each."""
        logits, features = self(inputs)
        s = self.score(logits, features)
        classes = self._classes(logits, features)
        return classes, s, s.double() <= self.threshold(tpr)

    def _classes(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        from ood import nn
        name = self.objective.name
        if name in ("deep_svdd", "deep_sad"):
            return torch.full((len(logits),), -1)
        if name == "cac":
            d = self._anchor_distances(logits)
            return (d * (1 - torch.nn.functional.softmin(d, dim=1))).argmin(1)
        if name in ("ii", "mchad"):
            return self._center_distances(logits, features).argmin(1)
        return self.class_logits(logits, features).argmax(1)

    def _anchor_distances(self, logits: torch.Tensor) -> torch.Tensor:
        from ood import nn
        return nn.functional.distances(logits, self.objective_state["loss.anchors"], squared=False)

    def _center_distances(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Squared distances to the objective's centers."""
        from ood import nn
        state, embedding = self.objective_state, logits
        if "norm.running_mean" in state:  # II normalises the features
            embedding = torch.nn.functional.batch_norm(features, state["norm.running_mean"], state["norm.running_var"])
        centers = next(state[k] for k in ("loss.running.centers", "loss.centers.centers", "loss.center") if k in state)
        distances = nn.functional.distances(embedding, centers.view(-1, centers.shape[-1]))
        counts = state.get("loss.running.counts")
        return distances if counts is None else distances.masked_fill(counts == 0, float("inf"))

    def save_network(self, path: Union[str, pathlib.Path]) -> None:
        """Writes the run's file with the network's present weights, for the program (`ood train --init`)."""
        tensors, _ = read_safetensors(self.path)
        tensors.update({k: v for k, v in self.network.state_dict().items()})
        write_safetensors(path, tensors, self.metadata)


def load_run(folder: Union[str, pathlib.Path]) -> Run:
    """The trained network of a run folder, or of its model.safetensors, with score and threshold."""
    path = pathlib.Path(folder)
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a run of `ood train`")
    return Run(path)
