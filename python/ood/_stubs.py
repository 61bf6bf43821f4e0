"""Writes nn/formula.pyi, the type stubs of the classes that are made from the registry."""
import pathlib

from ood.nn import formula

HEADER = '''"""Made by `./dev python -m ood._stubs`; a test compares it with the registry."""
from typing import List, Optional

import torch

class FormulaLoss(torch.nn.Module):
    reduction: str
    balance: str
    ignore_index: Optional[int]
    def parameter_list(self) -> List[float]: ...
    def forward(self, logits: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = ...) -> torch.Tensor: ...
    def __call__(self, logits: torch.Tensor, target: torch.Tensor, weight: Optional[torch.Tensor] = ...) -> torch.Tensor: ...
'''


def formula_stub() -> str:
    text = HEADER
    for name in formula.__all__:
        parameters = getattr(formula, name).objective.parameters
        text += f"\nclass {name}(FormulaLoss):\n"
        text += "".join(f"    {p.python_name}: float\n" for p in parameters)
        own = "".join(f", {p.python_name}: float = ..." for p in parameters)
        text += (f"    def __init__(self{own}, *, reduction: str = ..., balance: str = ..., "
                 "ignore_index: Optional[int] = ...) -> None: ...\n")
    return text


if __name__ == "__main__":
    (pathlib.Path(formula.__file__).parent / "formula.pyi").write_text(formula_stub())
