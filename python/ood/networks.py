"""The program's networks as Python modules, with the same names for the same tensors."""
import io
import json
from typing import Tuple

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


class BasicBlock(nn.Module):
    def __init__(self, a: int, b: int, stride: int, affine: bool):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b, affine=affine)
        self.conv2, self.norm2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b, affine=affine)
        self.short = stride != 1 or a != b
        if self.short:
            self.shortcut = nn.Conv2d(a, b, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(b, affine=affine)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(y + (self.shortcut_norm(self.shortcut(x)) if self.short else x))


class ResNet18(Classifier):
    def __init__(self, channels: int, height: int, width: int, outputs: int, bias: bool = True):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64, affine=bias)
        self.blocks, a = [], 64
        for stage in range(4):
            for i in range(2):
                b = 64 << stage
                self.blocks.append(f"block{stage + 1}{i + 1}")
                setattr(self, self.blocks[-1], BasicBlock(a, b, 2 if stage and not i else 1, bias))
                a = b
        self.fc = nn.Linear(512, outputs, bias=bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        for name in self.blocks:
            x = getattr(self, name)(x)
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
    """A network of the user's own: its TorchScript file gives the features."""

    def __init__(self, archive: bytes, outputs: int, width: int, bias: bool = True):
        super().__init__()
        notes = {"ood.json": ""}
        self.backbone = torch.jit.load(io.BytesIO(archive), map_location="cpu", _extra_files=notes)
        self.fc = nn.Linear(width, outputs, bias=bias)
        # A sub-module of that name is no method.
        method = "features" if self.backbone._c._has_method("features") else "forward"
        self._method = json.loads(notes["ood.json"] or "{}").get("method") or method

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(self.backbone, self._method)(x)


_NETWORKS = {"small-cnn": SmallCnn, "mlp": Mlp, "linear": Linear, "resnet-18": ResNet18, "wrn-40-2": WideResNet}


def forward(network: Classifier, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Logits and features of normalised inputs."""
    features = network.features(x)
    return network.fc(features), features


def make_network(name: str, channels: int, height: int, width: int, outputs: int, bias: bool = True) -> Classifier:
    """The twin of `--model NAME`; its state_dict is the network's part of model.safetensors."""
    if name not in _NETWORKS:
        raise ValueError(f"make_network: expected {', '.join(_NETWORKS)}, got {name}")
    return _NETWORKS[name](channels, height, width, outputs, bias)
