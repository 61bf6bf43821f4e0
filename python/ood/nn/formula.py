"""The objectives that are a formula of logits: classes made from the registry."""
import inspect
from typing import Optional

import torch

from ood.nn import functional
from ood.registry import Objective, objectives, parameter_values


class FormulaLoss(torch.nn.Module):
    """Base of the classes below.

    :param reduction: "mean", "sum", "none"
    :param balance: what a mean divides by: "per_population" (ID rows by their number, OOD rows by theirs),
        "whole_batch", or "default", which is what the paper does
    :param ignore_index: label of rows that take no part
    """

    objective: Objective

    def __init__(self, *, reduction: str = "mean", balance: str = "default", ignore_index: Optional[int] = None,
                 **parameters: float):
        super().__init__()
        for p, value in zip(self.objective.parameters, parameter_values(self.objective, parameters)):
            setattr(self, p.python_name, value)
        self.reduction, self.balance, self.ignore_index = reduction, balance, ignore_index

    def parameter_list(self):
        return [getattr(self, p.python_name) for p in self.objective.parameters]

    def forward(self, logits: torch.Tensor, target: torch.Tensor,
                weight: Optional[torch.Tensor] = None) -> torch.Tensor:
        """logits [B, C] or [B, C, ...], target and weight (of rows) [B] or [B, ...] -> loss."""
        return functional.loss(self.objective.name, self.parameter_list(), logits, target, weight=weight,
                               reduction=self.reduction, balance=self.balance, ignore_index=self.ignore_index)

    def extra_repr(self) -> str:
        return ", ".join([f"{p.python_name}={getattr(self, p.python_name):g}" for p in self.objective.parameters]
                         + [f"reduction={self.reduction!r}"])


def document(objective: Objective) -> str:
    """The docstring of an objective's class."""
    lines = [objective.summary, "", f"    {objective.formula}", "", f"{objective.paper}. "
             f"OOD rows: {objective.ood_labels}. Score: {objective.score}.", ""]
    lines += [f":param {p.python_name}: {p.help} (default {p.default:g}: {p.source})" for p in objective.parameters]
    features = "torch.randn(4, 5), " if objective.extras else ""
    lines += ["", f"    >>> criterion = ood.nn.{objective.class_name}()",
              f"    >>> criterion(torch.randn(4, 3), {features}torch.tensor([0, 1, -1, -1]))"]
    return "\n".join(lines)


def signature(objective: Objective) -> inspect.Signature:
    P = inspect.Parameter
    own = [P(p.python_name, P.POSITIONAL_OR_KEYWORD, default=p.default, annotation=float) for p in objective.parameters]
    options = [P("reduction", P.KEYWORD_ONLY, default="mean", annotation=str),
               P("balance", P.KEYWORD_ONLY, default="default", annotation=str),
               P("ignore_index", P.KEYWORD_ONLY, default=None, annotation=Optional[int])]
    return inspect.Signature([P("self", P.POSITIONAL_OR_KEYWORD), *own, *options])


def _make(objective: Objective) -> type:
    names = [p.python_name for p in objective.parameters]

    def __init__(self, *values, **options):
        if len(values) > len(names):
            raise TypeError(f"{objective.class_name}: expected at most {len(names)} positional parameters "
                            f"({', '.join(names)}), got {len(values)}")
        FormulaLoss.__init__(self, **dict(zip(names, values)), **options)

    __init__.__signature__ = signature(objective)
    return type(objective.class_name, (FormulaLoss,),
                {"__doc__": document(objective), "__init__": __init__, "objective": objective, "__module__": __name__})


__all__ = []
for _entry in objectives().values():
    if _entry.formula_op and _entry.input == "logits" and not _entry.extras:
        globals()[_entry.class_name] = _make(_entry)
        __all__.append(_entry.class_name)
