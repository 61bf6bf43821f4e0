"""Writes nn/criterion.pyi, the type stubs of the classes that are made from the registry."""
import inspect
import pathlib

from torch.distributed import ProcessGroup

from ood.nn import criterion
from ood.registry import objectives

HEADER = '''"""Made by `./dev python -m ood._stubs`; a test compares it with the registry."""
from typing import Callable, List, Optional

import torch
from torch.distributed import ProcessGroup

class Criterion(torch.nn.Module):
    reduction: str
    ignore_index: Optional[int]
    def parameter_list(self) -> List[float]: ...
    def update_state(self, event: str, inputs: List[torch.Tensor]) -> None: ...

class Distances:
    def distance(self, embedding: torch.Tensor) -> torch.Tensor: ...
    def predict(self, embedding: torch.Tensor) -> torch.Tensor: ...
'''


def _text(signature: inspect.Signature, own: bool) -> str:
    parts, keywords = (["self"] if own else []), False
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not keywords:
            parts.append("*")
            keywords = True
        kind = getattr(p.annotation, "__name__", "") if isinstance(p.annotation, type) else str(p.annotation)
        kind = {"Tensor": "torch.Tensor"}.get(kind, kind).replace("typing.", "")
        kind = kind.replace(f"{ProcessGroup.__module__}.", "")
        parts.append(p.name if p.name == "self" else
                     f"{p.name}: {kind}" + ("" if p.default is p.empty else " = ..."))
    return ", ".join(parts)


def stub() -> str:
    text = HEADER
    for o in objectives().values():
        cls = getattr(criterion, o.class_name)
        bases = ("Distances, " if o.has_distances else "") + "Criterion"
        text += f"\nclass {o.class_name}({bases}):\n"
        text += "".join(f"    {p.python_name}: {p.type.__name__}\n" for p in o.arguments)
        text += f"    def __init__({_text(criterion.signature(o), True)}) -> None: ...\n"
        call = _text(criterion.forward_signature(o), False)
        text += "".join(f"    def {name}({call}) -> torch.Tensor: ...\n" for name in ("forward", "__call__"))
        methods = criterion.METHODS.get(o.name)
        for name, m in (inspect.getmembers(methods, inspect.isfunction) if methods else ()):
            if name.startswith("_"):
                continue
            if isinstance(inspect.getattr_static(methods, name), staticmethod):
                text += "    @staticmethod\n"
            text += f"    def {name}({', '.join(inspect.signature(m).parameters)}): ...\n"
    return text


if __name__ == "__main__":
    (pathlib.Path(criterion.__file__).parent / "criterion.pyi").write_text(stub())
