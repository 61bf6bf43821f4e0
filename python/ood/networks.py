"""The program's networks as Python modules, with the same names for the same tensors."""
import contextlib
import ctypes
import functools
import io
import json
import pathlib
import platform
from typing import Dict, Tuple

import torch
from torch import nn


class Classifier(nn.Module):
    """Features and a last layer; the logits are what a call gives, as any tool for classifiers expects."""

    fc: nn.Linear

    def features(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised inputs -> logits."""
        return self.fc(self.features(x))


class SmallCnn(Classifier):
    def __init__(self, channels: int, height: int, width: int, outputs: int, bias: bool = True):
        super().__init__()
        for i, (a, b) in enumerate([(channels, 16), (16, 32), (32, 64)], 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, 3, padding=1, bias=False))
            setattr(self, f"norm{i}", nn.BatchNorm2d(b, affine=bias))
        self.hidden = nn.Linear(64 * 9, 64, bias=bias)
        self.fc = nn.Linear(64, outputs, bias=bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        for i in (1, 2, 3):
            x = torch.relu(getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(x)))
            if i < 3:
                x = torch.max_pool2d(x, 2)
        return torch.relu(self.hidden(nn.functional.adaptive_avg_pool2d(x, (3, 3)).flatten(1)))


class Mlp(Classifier):
    def __init__(self, channels: int, height: int, width: int, outputs: int, bias: bool = True):
        super().__init__()
        self.hidden1 = nn.Linear(channels * height * width, 256, bias=bias)
        self.norm1 = nn.BatchNorm1d(256, affine=bias)
        self.hidden2 = nn.Linear(256, 64, bias=bias)
        self.fc = nn.Linear(64, outputs, bias=bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.hidden2(torch.relu(self.norm1(self.hidden1(x.flatten(1))))))


class Linear(Classifier):
    def __init__(self, channels: int, height: int, width: int, outputs: int, bias: bool = True):
        super().__init__()
        self.fc = nn.Linear(channels * height * width, outputs, bias=bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def _shortcut(a: int, b: int, stride: int, affine: bool) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b, affine=affine))


class BasicBlock(nn.Module):
    widen = 1

    def __init__(self, a: int, width: int, stride: int, affine: bool):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(a, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width, affine=affine)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width, affine=affine)
        self.downsample = _shortcut(a, width, stride, affine) if stride != 1 or a != width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    widen = 4

    def __init__(self, a: int, width: int, stride: int, affine: bool):
        super().__init__()
        b = width * self.widen
        self.conv1, self.bn1 = nn.Conv2d(a, width, 1, bias=False), nn.BatchNorm2d(width, affine=affine)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width, affine=affine)
        self.conv3, self.bn3 = nn.Conv2d(width, b, 1, bias=False), nn.BatchNorm2d(b, affine=affine)
        self.downsample = _shortcut(a, b, stride, affine) if stride != 1 or a != b else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(Classifier):
    """Pictures whose shorter side is above 64 go through a 7x7 convolution and pooling first. Names are torchvision's."""

    def __init__(self, block: type, blocks: Tuple[int, ...], channels: int, height: int, width: int, outputs: int, bias: bool = True):
        super().__init__()
        self.large = min(height, width) > 64
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False) if self.large else nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        self.bn1, a = nn.BatchNorm2d(64, affine=bias), 64
        for stage, n in enumerate(blocks):
            layer, w = nn.Sequential(), 64 << stage
            for i in range(n):
                layer.append(block(a, w, 2 if stage and not i else 1, bias))
                a = w * block.widen
            setattr(self, f"layer{stage + 1}", layer)
        self.fc = nn.Linear(a, outputs, bias=bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        if self.large:
            x = torch.max_pool2d(x, 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean((2, 3))


class PreactBlock(nn.Module):
    def __init__(self, a: int, b: int, stride: int, affine: bool):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(a, affine=affine), nn.Conv2d(a, b, 3, stride, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(b, affine=affine), nn.Conv2d(b, b, 3, 1, 1, bias=False)
        self.short = stride != 1 or a != b
        if self.short:
            self.shortcut = nn.Conv2d(a, b, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.norm1(x))
        y = self.conv2(torch.relu(self.norm2(self.conv1(a))))
        return y + (self.shortcut(a) if self.short else x)


class WideResNet(Classifier):
    def __init__(self, channels: int, height: int, width: int, outputs: int, bias: bool = True):
        super().__init__()
        self.conv, self.blocks, a = nn.Conv2d(channels, 16, 3, padding=1, bias=False), [], 16
        for stage in range(3):
            for i in range(6):
                b = (16 << stage) * 2
                self.blocks.append(f"block{stage + 1}{i + 1}")
                setattr(self, self.blocks[-1], PreactBlock(a, b, 2 if stage and not i else 1, bias))
                a = b
        self.norm = nn.BatchNorm2d(a, affine=bias)
        self.fc = nn.Linear(a, outputs, bias=bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return torch.relu(self.norm(x)).mean((2, 3))


class ScriptNetwork(Classifier):
    """A network of the user's own: its TorchScript file gives the features, or logits and features."""

    def __init__(self, archive: bytes, outputs: int, width: int, bias: bool = True):
        super().__init__()
        notes = {"ood.json": ""}
        self.backbone = torch.jit.load(io.BytesIO(archive), map_location="cpu", _extra_files=notes)
        self.fc = nn.Linear(width, outputs, bias=bias)
        # A sub-module of that name is no method.
        method = "features" if self.backbone._c._has_method("features") else "forward"
        self._method = json.loads(notes["ood.json"] or "{}").get("method") or method

    def features(self, x: torch.Tensor) -> torch.Tensor:
        given = getattr(self.backbone, self._method)(x)
        return given[1] if isinstance(given, tuple) else given  # of logits and features


class PackageNetwork(Classifier):
    """A network of the user's own as machine code of AOTInductor, which gives the features in float32 on the CPU."""

    def __init__(self, file: pathlib.Path, outputs: int, width: int, bias: bool = True):
        super().__init__()
        # The code names what it needs of LibTorch, which Python loads for itself alone.
        ctypes.CDLL(str(pathlib.Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"), mode=ctypes.RTLD_GLOBAL)
        said = _package_metadata(file)
        check_machine(file, said)
        self._code = torch._C._aoti.AOTIModelPackageLoader(str(file), "model", False, 1, -1)
        notes = json.loads(said["ood"])
        self._shape = tuple(notes[k] for k in ("channels", "height", "width"))
        self.fc = nn.Linear(width, outputs, bias=bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        # The code reads as many numbers as it was made for, whatever it is given.
        if tuple(x.shape[1:]) != self._shape or x.device.type != "cpu":
            raise ValueError(f"expected inputs [N, {', '.join(map(str, self._shape))}] on the CPU, got {tuple(x.shape)} on {x.device}")
        if not len(x):
            return x.new_zeros(0, self.fc.in_features)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return self._code.boxed_run([x.float().contiguous()])[0].to(x.dtype)


def _package_metadata(file: pathlib.Path) -> Dict[str, str]:
    """What FILE.pt2 of `python -m ood.to_program` says of itself, without running it."""
    return torch._C._aoti.AOTIModelPackageLoader.load_metadata_from_package(str(file), "model")


def check_machine(file: pathlib.Path, said: Dict[str, str]) -> None:
    """Code for instructions that a processor does not have ends Python without a word."""
    lines = []
    with contextlib.suppress(OSError):
        lines = [l for l in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if l.startswith(("flags", "Features"))]
    flags = {word: "avx512vl" if word == "AVX512" else word.lower() for word in said["AOTI_CPU_ISA"].split()}
    missing = [word for word, flag in flags.items() if lines and flag not in lines[0].split()]
    if said["AOTI_MACHINE"] != platform.machine():
        missing = [said["AOTI_MACHINE"]]
    if missing:
        raise ValueError(f"{file}: its machine code needs {missing[0]}, which this machine does not have")


_NETWORKS = {"small-cnn": SmallCnn, "mlp": Mlp, "linear": Linear, "wrn-40-2": WideResNet,
             "resnet-18": functools.partial(ResNet, BasicBlock, (2, 2, 2, 2)), "resnet-34": functools.partial(ResNet, BasicBlock, (3, 4, 6, 3)),
             "resnet-50": functools.partial(ResNet, Bottleneck, (3, 4, 6, 3))}


def forward(network: Classifier, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Logits and features of normalised inputs."""
    features = network.features(x)
    return network.fc(features), features


def make_network(name: str, channels: int, height: int, width: int, outputs: int, bias: bool = True) -> Classifier:
    """The twin of `--model NAME`; its state_dict is the network's part of model.safetensors."""
    if name not in _NETWORKS:
        raise ValueError(f"make_network: expected {', '.join(_NETWORKS)}, got {name}")
    return _NETWORKS[name](channels, height, width, outputs, bias)
