"""Makes the file of a network of your own that `ood train --model FILE.pt` trains.

    python -m ood.to_program torchvision.models:resnet18 --weights state.pth --normalise imagenet --out resnet18.pt
    python -m ood.to_program mine.networks:make --argument 'width=64' --channels 1 --size 28 --out mine.pt
    python -m ood.to_program state.pth --out resnet18.safetensors

The linear layer that gives the output is taken out, since the program gives the network a last layer for its classes; what comes before it
are the features. The file is a TorchScript one, whose batch normalisation and dropout the program can switch between
training and evaluation. It is compared with the module it was made from before it is written.

With --out FILE.safetensors a state_dict is written as `ood train --model resnet-18 --weights FILE.safetensors` reads it.
"""
import argparse
import ast
import contextlib
import importlib
import json
import math
import os
import sys
import warnings
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from ood.runs import write_safetensors

CONSTANTS = {"imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), "half": ([0.5] * 3, [0.5] * 3)}


class Refused(ValueError):
    """What cannot be made into a file, in a line."""


@contextlib.contextmanager
def _refusing(what: str):
    """What others raise, in a line of ours."""
    try:
        yield
    except Refused:
        raise
    except Exception as e:  # noqa: BLE001  (modules raise what they like)
        raise Refused(f"{what}: {type(e).__name__}: {(str(e).strip() or '-').splitlines()[0]}") from e


def inputs(shape: Sequence[int]) -> torch.Tensor:
    return torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))


def without_last_layer(module: nn.Module, shape: Sequence[int]) -> str:
    """Replaces the linear layer whose output is the module's by the identity; its name."""
    outputs: Dict[str, torch.Tensor] = {}
    hooks = [m.register_forward_hook(lambda _, __, out, name=name: outputs.__setitem__(name, out))
             for name, m in module.named_modules() if isinstance(m, nn.Linear) and name]
    with torch.no_grad(), _refusing(f"the module does not take pictures [N, {', '.join(map(str, shape))}]"):
        out = module.eval()(inputs(shape))
    for hook in hooks:
        hook.remove()
    name = next((n for n, o in outputs.items() if o is out), None)
    if name is None:
        raise Refused("expected a module whose output is that of a linear layer, which is taken out, found none; where it gives "
                      "features already, use --as-is")
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, nn.Identity())
    return name


def to_script(module: nn.Module) -> torch.jit.ScriptModule:
    """By torch.jit.script, or where that cannot read the module by the script of its symbolic trace, whose layers are still
    those of the module; what its Python code draws at random in training is left out then."""
    warnings.filterwarnings("ignore", message="The TorchScript type system")
    try:
        return torch.jit.script(module.train())
    except Exception as first:  # noqa: BLE001  (torch raises many kinds)
        try:
            return torch.jit.script(torch.fx.symbolic_trace(module.eval()))
        except Exception:  # noqa: BLE001
            raise Refused(f"torch.jit.script cannot read the module: {str(first).strip().splitlines()[0]}") from first


def check(module: nn.Module, script: torch.jit.ScriptModule, shape: Sequence[int]) -> int:
    """That the script says what the module says, in both modes; the number of features."""
    x = inputs(shape)
    pictures = f"pictures [N, {', '.join(map(str, shape))}]"
    with torch.no_grad(), _refusing(f"the module does not take {pictures}"):
        expected, got = module.eval()(x), script.eval()(x)
    for values in (expected, got):
        if not isinstance(values, torch.Tensor) or values.dim() != 2:
            what = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise Refused(f"expected features [N, D] for {pictures}, got {what}")
    if not torch.allclose(expected, got, rtol=1e-4, atol=1e-5):
        raise Refused(f"the script differs from the module by {(expected - got).abs().max():.1e}")
    # Running statistics move in training and in training only.
    before = {k: v.clone() for k, v in script.state_dict().items()}
    moved = {}
    for mode in (False, True):
        script.train(mode)
        with torch.no_grad():
            script(x)
        moved[mode] = [k for k, v in script.state_dict().items() if not torch.equal(v, before[k])]
        script.load_state_dict(before)
    norms = [k for k in before if k.endswith("running_mean")]
    if moved[False] or (norms and not moved[True]):
        raise Refused("the script's batch normalisation cannot be switched between training and evaluation")
    return expected.shape[1]


def constants(text: str, channels: int) -> Optional[Tuple[List[float], List[float]]]:
    """imagenet, half, or M,M,M/D,D,D; none of "data"."""
    if text == "data":
        return None
    try:
        mean, deviation = CONSTANTS[text] if text in CONSTANTS else tuple([float(v) for v in part.split(",")] for part in text.split("/"))
    except ValueError:
        raise Refused(f"--normalise: expected data, {', '.join(CONSTANTS)} or M,M,M/D,D,D, got {text}") from None
    if len(mean) != channels or len(deviation) != channels or not all(
            math.isfinite(v) for v in (*mean, *deviation)) or min(deviation) <= 0:
        raise Refused(f"--normalise: expected a mean and a deviation above 0 for each of {channels} channels, got {text}")
    return mean, deviation


def read_state(path: str) -> Dict[str, torch.Tensor]:
    """A state_dict that torch.save wrote, as it is or as the entry "state_dict" of a checkpoint."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise Refused(f"{path}: expected a state_dict, got something else")
    return state


def write_state(path: str, out: str) -> int:
    with _refusing(path):
        state = read_state(path)
    with _refusing(f"--out {out}"):
        write_safetensors(out, {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, {})
    return len(state)


def build(what: str, arguments: Dict[str, object], weights: Optional[str]) -> nn.Module:
    package, _, factory = what.partition(":")
    if not factory:
        raise Refused(f"expected PACKAGE.MODULE:CALLABLE, got {what}")
    sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(package), factory)
    except (ImportError, AttributeError) as e:
        raise Refused(f"{what}: {e}") from None
    with _refusing(what):
        module = made(**arguments) if not isinstance(made, nn.Module) else made
    if not isinstance(module, nn.Module):
        raise Refused(f"{what}: expected a torch.nn.Module, got {type(module).__name__}")
    if weights:
        with _refusing(f"--weights {weights}"):
            module.load_state_dict(read_state(weights))
    return module.float()


def always_evaluates(script: torch.jit.ScriptModule) -> bool:
    """Whether an operation of the script has its training mode fixed, as F.dropout has in a trace."""
    def nodes(block):
        for node in block.nodes():
            yield node
            for inner in node.blocks():
                yield from nodes(inner)
    for node in nodes(script.inlined_graph):
        if node.kind() in ("aten::dropout", "aten::batch_norm", "aten::feature_dropout"):
            names = [a.name for a in torch._C.parse_schema(node.schema()).arguments]
            flag = list(node.inputs())[names.index("train" if "train" in names else "training")]
            if flag.node().kind() == "prim::Constant" and flag.toIValue() is False:
                return True
    return False


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ood.to_program", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="PACKAGE.MODULE:CALLABLE, which makes the network, or the FILE of a state_dict")
    parser.add_argument("--argument", action="append", default=[], metavar="NAME=VALUE", help="of the callable; may be repeated")
    parser.add_argument("--weights", metavar="FILE", help="a state_dict to load, .pth")
    parser.add_argument("--as-is", action="store_true", help="the module gives features already; nothing is taken out")
    parser.add_argument("--channels", type=int, default=3, help="default: 3")
    parser.add_argument("--size", type=int, default=224, help="height and width the network is tried with; default: 224")
    parser.add_argument("--normalise", default="data", help="of inputs in 0..1: data (by the training data), imagenet, half, or M,M,M/D,D,D; default: data")
    parser.add_argument("--out", required=True, metavar="FILE.pt|FILE.safetensors")
    given = parser.parse_args(arguments)
    try:
        if given.out.endswith(".safetensors"):
            print(f"{given.out}: {write_state(given.module, given.out)} tensors")
            return 0
        if not given.out.endswith(".pt"):
            raise Refused(f"--out: expected a name that ends with .pt or .safetensors, got {given.out}")
        named = {}
        for text in given.argument:
            name, _, value = text.partition("=")
            try:
                named[name] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                named[name] = value
        norm = constants(given.normalise, given.channels)
        module = build(given.module, named, given.weights)
        shape = (given.channels, given.size, given.size)
        taken = "" if given.as_is else without_last_layer(module, shape)
        script = to_script(module)
        width = check(module, script, shape)
        notes = {"method": "forward", **({} if norm is None else {"mean": norm[0], "deviation": norm[1]})}
        with _refusing(f"--out {given.out}"):
            torch.jit.save(script, given.out + ".tmp", _extra_files={"ood.json": json.dumps(notes)})
            os.replace(given.out + ".tmp", given.out)
    except Refused as e:
        print(f"ood.to_program: {e}", file=sys.stderr)
        return 2
    if always_evaluates(script):
        print("note: its dropout (or batch normalisation) is fixed to evaluation, as a function and not a module does it: it can be "
              "used with --freeze only", file=sys.stderr)
    print(f"{given.out}: {width} features" + (f"; {taken} is taken out, the program has a last layer of its own" if taken else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
