"""Runs of the program `ood` in Python."""
import json
import math
import os
import pathlib
import struct
import zlib
from typing import Dict, List, Optional, Tuple, Union

import torch

from ood import metrics, pictures, scores
from ood._library import ops
from ood.networks import PackageNetwork, ScriptNetwork, forward, make_network
from ood.nn._methods import evaluating
from ood.registry import objectives

_TYPES = {"F64": torch.double, "F32": torch.float, "BF16": torch.bfloat16, "F16": torch.half, "I64": torch.long,
          "I32": torch.int, "U8": torch.uint8, "BOOL": torch.bool}
_NAMES = {v: k for k, v in _TYPES.items()}


def _checksum(tensors: Dict[str, torch.Tensor], metadata: Dict[str, str]) -> str:
    """CRC-32 of the content, as ood/train/safetensors.cc computes it."""
    crc = 0
    for key in sorted(metadata, key=str.encode):
        if key != "checksum":
            crc = zlib.crc32(f"{key}\0{metadata[key]}\0".encode(), crc)
    for name in sorted(tensors, key=str.encode):
        t = tensors[name]
        shape = "".join(f"{side}," for side in t.shape)
        crc = zlib.crc32(f"{name}\0{_NAMES[t.dtype]}\0{shape}\0".encode(), crc)
        crc = zlib.crc32(_raw(t), crc)
    return f"{crc:08x}"


def _raw(t: torch.Tensor) -> bytes:
    return t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""


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
    if "checksum" in metadata and metadata["checksum"] != _checksum(tensors, metadata):
        raise ValueError(f"{path}: damaged: its content has another checksum than when it was written")
    return tensors, metadata


def write_safetensors(path: Union[str, pathlib.Path], tensors: Dict[str, torch.Tensor], metadata: Dict[str, str]) -> None:
    """The other way round, with a checksum of the content."""
    header, parts, offset = {"__metadata__": {**metadata, "checksum": _checksum(tensors, metadata)}}, [], 0
    for name, t in tensors.items():
        raw = _raw(t)
        header[name] = {"dtype": _NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + len(raw)]}
        parts.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # What is there stays until all is written.
    whole = pathlib.Path(f"{path}.{os.getpid()}.ood-tmp")
    try:
        whole.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
        os.replace(whole, os.path.realpath(path))
    finally:
        whole.unlink(missing_ok=True)


def _threshold_rule(path: pathlib.Path, metadata: Dict[str, str]) -> dict:
    """That `ood threshold` has set; format 7 had it beside the model."""
    beside = path.with_name("threshold.json")
    is_beside = metadata["format_version"] == "7" and path.name == "model.safetensors" and beside.exists()
    if not is_beside and "threshold" not in metadata:
        return {}
    try:
        rule = json.loads(beside.read_text() if is_beside else metadata["threshold"])
        return {"false_alarms": float(rule["false_alarms"]), "confidence": float(rule["confidence"])}
    except (ValueError, KeyError, TypeError) as e:
        where = beside if is_beside else path
        raise ValueError(f"{where}: expected false_alarms and confidence, found other contents") from e


def _package_beside(path: pathlib.Path, checksum: str) -> pathlib.Path:
    """The machine code of a run's network, which stays beside its model."""
    package = path.with_name("network.pt2")
    if not package.exists():
        raise ValueError(f"{path}: expected the machine code of its network beside it, {package.name}, found none")
    if f"{zlib.crc32(package.read_bytes()):08x}" != checksum:
        raise ValueError(f"{package}: damaged, or another network than that of {path.name}")
    return package


FORMATS = "7", "8"  # of the program's model.safetensors


class Run(torch.nn.Module):
    """A trained network of the program: `network`, `objective`, `class_names`, `threshold(tpr)`.

        >>> run = ood.load_run("runs/oe")
        >>> classes, scores, accepted = run.detect(run.prepared(pictures))  # uint8 [N, C, H, W] of any size
    """

    def __init__(self, path: pathlib.Path):
        super().__init__()
        tensors, metadata = read_safetensors(path)
        if metadata.get("format") != "ood-run":
            raise ValueError(f"{path}: expected a model of `ood train`, got other tensors")
        if metadata.get("format_version") not in FORMATS:
            raise ValueError(f"{path}: was written by ood {metadata.get('version')} in another format; train again")
        if "checksum" not in metadata:
            raise ValueError(f"{path}: damaged: it has no checksum")
        self.path, self.metadata = path, metadata
        self.description = d = json.loads(metadata["description"])
        self.objective = objectives()[d["objective"]]
        self.class_names: List[str] = d["class_names"]
        about = json.loads(metadata["scores"])
        self.members: List[str] = about["members"]  #: of the joint score; empty where little or nothing is held out
        self.score_name: str = about.get("score") or ("joint" if self.members else self.objective.score)
        self._scores = {name: (values, [tensors[f"scores.{name}.{part}"] for part in scores.scores()[name].state_names])
                        for name, values in about["parameters"].items()}
        self._references = [tensors[f"joint.{m}"] for m in self.members]
        self._rule = _threshold_rule(path, metadata)
        outputs, width = tensors["fc.weight"].shape
        if "network.pt" in tensors:
            self.network = ScriptNetwork(tensors["network.pt"].numpy().tobytes(), outputs, width, "fc.bias" in tensors)
        elif d.get("package"):
            self.network = PackageNetwork(_package_beside(path, d["package"]), outputs, width, "fc.bias" in tensors)
        else:
            self.network = make_network(d["model"], d["channels"], d["height"], d["width"], outputs, "fc.bias" in tensors)
        own = set(self.network.state_dict())
        self.network.load_state_dict({k: v for k, v in tensors.items() if k in own})
        #: tensors of the objective: centers, queues, multipliers
        self.objective_state = {k[10:]: v for k, v in tensors.items() if k.startswith("objective.")}
        self._state = [self.objective_state[s.name] for s in self.objective.state]
        self.validation_scores = tensors["validation_scores"]
        channels = (1, len(d["mean"]), 1, 1)
        self.register_buffer("mean", torch.tensor(d["mean"]).view(channels), persistent=False)
        self.register_buffer("deviation", torch.tensor(d["deviation"]).view(channels), persistent=False)
        self.eval()

    def forward(self, inputs) -> Tuple[torch.Tensor, torch.Tensor]:
        """Pictures uint8 [N, C, H, W] or embeddings [N, D], tensors or arrays -> logits and features."""
        d = self.description
        inputs = torch.as_tensor(inputs)
        shape = (d["channels"],) if d["embeddings"] else (d["channels"], d["height"], d["width"])
        fits = inputs.is_floating_point() if d["embeddings"] else inputs.dtype == torch.uint8
        if tuple(inputs.shape[1:]) != shape or not fits:
            raise ValueError(f"load_run: expected {'floating' if d['embeddings'] else 'uint8'} inputs of shape "
                             f"[N, {', '.join(map(str, shape))}], got {tuple(inputs.shape)} of {inputs.dtype}")
        if not inputs.is_floating_point():
            x = (inputs.float() / 255 - self.mean) / self.deviation
        else:
            x = (inputs.float()[:, :, None, None] - self.mean) / self.deviation
        return forward(self.network, x)

    def prepared(self, inputs) -> torch.Tensor:
        """Pictures uint8 [N, C, H, W] of any size, grey, coloured or with opacity (C 1, 3 or 4), brought to the channels and
        the size of the training as it did that (`--resize`, `--alpha`)."""
        d = self.description
        x = torch.as_tensor(inputs)
        if d["embeddings"] or x.dim() != 4 or x.dtype != torch.uint8:
            raise ValueError(f"prepared: expected pictures uint8 [N, C, H, W] for a run of pictures, got {tuple(x.shape)} of {x.dtype}"
                             + (" for one of embeddings" if d["embeddings"] else ""))
        if x.shape[1] == 4 != d["channels"]:
            x = pictures.before_colour(x, d.get("alpha", "black"))
        return pictures.with_channels(pictures.brought_to(x, d["height"], d["width"], d["crop"]), d["channels"])

    def readout(self, logits: torch.Tensor, features: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        """Evidence for classes [N, K], logits of classes [N, K] and score [N] of the run's objective, as the program has
        them; None where it says nothing of the kind."""
        values = ops.objective_readout(self.objective.name, self.description["parameters"], logits, features,
                                       self._state)
        return tuple(v if v.dim() else None for v in values)

    def class_logits(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Logits of classes [N, K], for general scores; minus the distances where classes are centers."""
        z = self.readout(logits, features)[1]
        if z is None:
            raise ValueError(f"class_logits: {self.objective.name} trains no logits of classes; see score")
        return z

    def score(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The score of the run [N], higher for OOD: the joint one, or the objective's own where little or
        nothing is held out; or what `--score` chose."""
        _, class_logits, own = self.readout(logits, features)
        wide = None if class_logits is None else class_logits.double()

        def single(name: str) -> torch.Tensor:
            if name in ("own", self.objective.score):
                return own
            return ops.score_compute(name, self._scores[name][0], wide, features, self._scores[name][1])

        if self.score_name != "joint":
            return single(self.score_name)
        return ops.joint_score([single(m) for m in self.members], self._references)

    def threshold(self, tpr: Optional[float] = None, *, false_alarms: Optional[float] = None,
                  confidence: Optional[float] = None) -> float:
        """The threshold that rejects at most that share of ID inputs, with that confidence over the draw of the held-out
        data. Default: what `ood threshold` stored, else 0.95 and 0.05, or the least share that the held-out data can
        promise. `tpr` is 1 - false_alarms, its old name."""
        if tpr is not None:
            false_alarms = 1 - tpr
        if confidence is None:
            confidence = self._rule.get("confidence", 0.95)
        if not 0 < confidence < 1:
            raise ValueError(f"threshold: expected a confidence between 0 and 1, got {confidence}")
        if false_alarms is None:
            least = -math.expm1(math.log1p(-confidence) / max(len(self.validation_scores), 1))
            false_alarms = self._rule.get("false_alarms", max(0.05, least))
        return metrics.threshold_for(self.validation_scores, false_alarms, confidence).value

    @torch.no_grad()
    def detect(self, inputs, tpr: Optional[float] = None, **rule):
        """Classes (-1 where the objective knows one class only), scores and decisions, [N] each; see threshold(). An input
        for which the network's numbers are not finite has class -1 and score NaN, and is not accepted."""
        with evaluating(self):
            logits, features = self(inputs)
        strange = ~(logits.isfinite().all(1) & features.isfinite().all(1))
        logits, features = (t.masked_fill(strange[:, None], 1) for t in (logits, features))
        evidence, score = self.readout(logits, features)[0], self.score(logits, features)
        score = score.masked_fill(strange, math.nan)
        classes = torch.full((len(score),), -1) if evidence is None else evidence.argmax(1).masked_fill(strange, -1)
        return classes, score, score.double() <= self.threshold(tpr, **rule)

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
