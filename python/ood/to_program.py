"""Makes the file of a network of your own that `ood train --model FILE` trains.

    python -m ood.to_program torchvision.models:resnet18 --weights state.pth --normalise imagenet --out resnet18.pt
    python -m ood.to_program mine.networks:make --argument 'width=64' --channels 1 --size 28 --out mine.pt
    python -m ood.to_program torchvision.models:resnet18 --weights state.pth --normalise imagenet --out resnet18.pt2
    python -m ood.to_program state.pth --out resnet18.safetensors

The linear layer that gives the output is taken out, since the program gives the network a last layer for its classes; what comes before it
are the features. The file is a TorchScript one, whose batch normalisation and dropout the program can switch between
training and evaluation. It is compared with the module it was made from before it is written.

With --out FILE.pt2 it is machine code of AOTInductor (torch.export reads the module, a C++ compiler must be there): features for
pictures of one size, on the CPU, of which `ood train` trains a last layer and nothing else.

With --out FILE.safetensors a state_dict is written as `ood train --model resnet-18 --weights FILE.safetensors` reads it.
"""
import argparse
import ast
import contextlib
import importlib
import json
import logging
import math
import os
import shutil
import struct
import sys
import tempfile
import warnings
import zlib
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from ood.networks import PackageNetwork
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


# Of AOTInductor: the name of a level, as the program has it, to the instructions that the compiler may use and the bits of a vector.
LEVELS = {"avx2": ("x86-64-v3", 256), "avx512": ("x86-64-v4", 512)}


def to_package(module: nn.Module, shape: Sequence[int], notes: dict, level: str, out: str) -> int:
    """Writes machine code of the module and compares the two; the number of features."""
    here = torch.backends.cpu.get_cpu_capability().lower()
    if level != "here" and (here not in LEVELS or LEVELS[level] > LEVELS[here]):
        raise Refused(f"--simd: this machine, which has {here} at most, cannot compare the code with the module")
    for name in ("torch.utils.cpp_extension", "torch.export", "torch._inductor"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    # Not what the compiler finds here, which the program could not compare with what another machine has.
    march, bits = LEVELS.get(here if level == "here" else level, (None, None))
    # Linked with LibTorch, it would ask for the parts of it that are not there. The compiler's trial of an instruction set is
    # made under these options, too, and fails without LibTorch, so that scalar code would come out, unless a trial of before is
    # in its cache: what this machine has is known.
    options = {"aot_inductor.link_libtorch": False, "aot_inductor.metadata": {"ood": json.dumps(notes)},
               "freezing": True, "cpp.dynamic_threads": True, "cpp.march": march, "cpp.simdlen": bits,
               "cpp.vec_isa_ok": True if march else None}
    x = inputs(shape)
    with torch.no_grad(), _refusing(f"the module does not take pictures [N, {', '.join(map(str, shape))}]"):
        expected = module.eval()(x)
    width = features_of(expected, shape)
    with torch.no_grad():
        with _refusing("torch.export cannot read the module"):
            exported = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
        with _refusing("AOTInductor cannot compile the module (is a C++ compiler there?)"):
            torch._inductor.aoti_compile_and_package(exported, package_path=out, inductor_configs=options)
        seal(out)
        with _refusing("the machine code does not run"):
            code = PackageNetwork(out, 1, 1)
            for rows in (1, 3, len(x)):
                got = code.features(x[:rows])
                if not torch.allclose(expected[:rows], got, rtol=1e-4, atol=1e-5):
                    raise Refused(f"the machine code differs from the module by {(expected[:rows] - got).abs().max():.1e}")
    return width


def seal(path: str) -> None:
    """Gives an archive the CRC-32 of its content as its comment, as the program wants it: what loads it compares none."""
    with open(path, "rb") as file:
        content = file.read()
    if content[-22:-18] != b"PK\5\6" or content[-2:] != b"\0\0":
        raise Refused(f"{path}: expected an archive without a comment")
    mark = b"ood:"
    content = content[:-2] + struct.pack("<H", len(mark) + 8)
    with open(path, "wb") as file:
        file.write(content + mark + f"{zlib.crc32(content):08x}".encode())


def features_of(values: object, shape: Sequence[int]) -> int:
    """The number of features in what a module gave."""
    if not isinstance(values, torch.Tensor) or values.dim() != 2:
        what = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
        raise Refused(f"expected features [N, D] for pictures [N, {', '.join(map(str, shape))}], got {what}")
    return values.shape[1]


def check(module: nn.Module, script: torch.jit.ScriptModule, shape: Sequence[int]) -> int:
    """That the script says what the module says, in both modes; the number of features."""
    x = inputs(shape)
    pictures = f"pictures [N, {', '.join(map(str, shape))}]"
    with torch.no_grad(), _refusing(f"the module does not take {pictures}"):
        expected, got = module.eval()(x), script.eval()(x)
    for values in (expected, got):
        width = features_of(values, shape)
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
    return width


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
    parser.add_argument("--out", required=True, metavar="FILE.pt|FILE.pt2|FILE.safetensors")
    parser.add_argument("--simd", choices=["here", *LEVELS], default="here", help="instructions that FILE.pt2 may use; default: those of this machine")
    given = parser.parse_args(arguments)
    try:
        if given.out.endswith(".safetensors"):
            print(f"{given.out}: {write_state(given.module, given.out)} tensors")
            return 0
        package = given.out.endswith(".pt2")
        if not package and not given.out.endswith(".pt"):
            raise Refused(f"--out: expected a name that ends with .pt, .pt2 or .safetensors, got {given.out}")
        if given.simd != "here" and not package:
            raise Refused(f"--simd: expected --out FILE.pt2, got {given.out}")
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
        notes = {"method": "forward", **({} if norm is None else {"mean": norm[0], "deviation": norm[1]})}
        if package:
            sides = {"channels": given.channels, "height": given.size, "width": given.size}
            with tempfile.TemporaryDirectory() as folder:
                made = os.path.join(folder, "network.pt2")
                width = to_package(module, shape, {**notes, **sides}, given.simd, made)
                with _refusing(f"--out {given.out}"):
                    shutil.copyfile(made, given.out + ".tmp")
                    os.replace(given.out + ".tmp", given.out)
        else:
            script = to_script(module)
            width = check(module, script, shape)
            with _refusing(f"--out {given.out}"):
                torch.jit.save(script, given.out + ".tmp", _extra_files={"ood.json": json.dumps(notes)})
                os.replace(given.out + ".tmp", given.out)
    except Refused as e:
        print(f"ood.to_program: {e}", file=sys.stderr)
        return 2
    if not package and always_evaluates(script):
        print("note: its dropout (or batch normalisation) is fixed to evaluation, as a function and not a module does it: it can be "
              "used with --freeze only", file=sys.stderr)
    print(f"{given.out}: {width} features" + (f"; {taken} is taken out, the program has a last layer of its own" if taken else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
