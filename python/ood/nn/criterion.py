"""The classes of all objectives, made from the registry: signature, docstring, state."""
import contextlib
import copy
import inspect
import operator
from typing import Callable, Iterable, List, Optional

import torch
from torch.distributed import ProcessGroup

from ood._library import ops
from ood.nn import functional
from ood.nn.centers import ClassCenters, RunningCenters
from ood.nn._methods import METHODS
from ood.nn._ranks import Ranks
from ood.registry import Objective, objectives

_P = inspect.Parameter


class Criterion(torch.nn.Module):
    """Base of the classes below.

    :param reduction: "mean", "sum", "none"
    :param balance: what a mean divides by: "per_population" (ID rows by their number, OOD rows by theirs),
        "whole_batch", or "default", which is what the paper does
    :param ignore_index: label of rows that take no part
    :param process_group: of torch.distributed: the loss and the state are those of the rows of all its ranks, the same on
        each; gradients are right once they are averaged over the ranks, as DistributedDataParallel does. Every rank makes
        the module and calls it equally often.
    """

    objective: Objective

    def __init__(self, *values, **options):
        super().__init__()
        bound = inspect.signature(type(self)).bind(*values, **options)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            setattr(self, name, value)
        for p in self.objective.arguments:
            given = getattr(self, p.python_name)
            try:
                value = p.type(given)
                fits = p.type is float or value == float(given)
            except (TypeError, ValueError, OverflowError):
                fits = False
            if not fits:
                raise ValueError(f"{self.objective.class_name}: expected {p.python_name} of type {p.type.__name__}, "
                                 f"got {given}")
            setattr(self, p.python_name, value)
        for state in self._declared():  # what a parameter only starts: the attribute is the tensor
            if state.key in self.__dict__:
                self.__dict__["start_" + state.key] = self.__dict__.pop(state.key)
        sizes = [getattr(self, size, 0) for size in ("classes", "dimension")]
        if self.objective.state:
            self._keep(ops.objective_start(self.objective.name, self.parameter_list(), *sizes))
        if ranks := self._ranks():
            ranks.take_from_first(self._state())

    def _declared(self):
        return [s for s in self.objective.state if not s.training_only]

    def _keep(self, tensors: List[torch.Tensor]) -> None:
        for state, tensor in zip(self._declared(), tensors):
            *holders, name = state.key.split(".")
            module = self
            for holder in holders:
                if not hasattr(module, holder):
                    module.add_module(holder, self._holder(holder, tensors))
                module = getattr(module, holder)
            if hasattr(module, name):
                delattr(module, name)
            fixed = state.fixed_by and getattr(self, state.fixed_by)
            if state.role == "parameter" and not fixed:
                module.register_parameter(name, torch.nn.Parameter(tensor))
            else:
                module.register_buffer(name, tensor)

    def _holder(self, holder: str, tensors: List[torch.Tensor]) -> torch.nn.Module:
        """A module for the state HOLDER.NAME, of the kind that has just these names, so that it can be called."""
        held = {s.key.partition(".")[2]: t for s, t in zip(self._declared(), tensors) if s.key.startswith(holder + ".")}
        if set(held) == {"weight", "bias"}:
            return torch.nn.Linear(*reversed(held["weight"].shape))
        if "centers" in held:
            return (RunningCenters if "counts" in held else ClassCenters)(*held["centers"].shape)
        return torch.nn.Module()

    def _state(self) -> List[torch.Tensor]:
        return [operator.attrgetter(s.key)(self) for s in self._declared()]

    def _state_of_loss(self) -> List[torch.Tensor]:
        """Buffers as copies where they are updated before the backward pass."""
        copied = self.training and self.objective.updates_each_step
        return [t.clone() if copied and s.role != "parameter" else t
                for s, t in zip(self._declared(), self._state()) if s.in_loss]

    def _apply(self, fn, recurse: bool = True):
        # A conversion moves what is exact, but does not round it.
        exact = [(s, t) for s, t in zip(self._declared(), self._state()) if s.role == "exact"]
        super()._apply(fn, recurse)
        for state, before in exact:
            holder, _, name = state.key.rpartition(".")
            module = self.get_submodule(holder)
            moved = getattr(module, name)
            setattr(module, name, moved.to(before.dtype) if before.is_meta else before.to(moved.device))
        return self

    def parameter_list(self) -> List[float]:
        """The values in the order of the registry's table."""
        own = self.__dict__
        try:
            return [float(own[name]) for name in self._parameter_names]
        except (AttributeError, KeyError):  # of a class made by hand, or a pickle of an older version
            return self._looked_up_parameters()

    def _looked_up_parameters(self) -> List[float]:
        return [float(self._value(p.python_name, self.__dict__.get("start_" + p.python_name, p.default)))
                for p in self.objective.parameters]

    def _value(self, name: str, default):
        if name in self.__dict__:
            return self.__dict__[name]
        # A pickle of an older version may hold it in a module, or not at all.
        return next((m.__dict__[name] for m in self.children() if name in m.__dict__), default)

    def forward(self, *tensors, weight: Optional[torch.Tensor] = None, **named) -> torch.Tensor:
        o = self.objective
        if named or len(tensors) != len(o.inputs) + 1:
            tensors, head, weight = self._bind(tensors, named, weight)
        else:
            head = None
        ranks = self._ranks()
        if ranks is not None:
            if self._value("reduction", "mean") not in ("mean", "sum"):
                raise ValueError(f"{o.class_name}: process_group: expected reduction mean or sum, got {self.reduction}")
            *tensors, weight = ranks.rows([*tensors, weight]) if weight is not None else (*ranks.rows(tensors), None)
        if o.logits_alone:
            return functional.loss(o.name, self.parameter_list(), *tensors, weight=weight, reduction=self.reduction,
                                   balance=self._value("balance", "default"),
                                   ignore_index=self._value("ignore_index", None))
        if self.training and o.draws == "outliers" and head is None:
            raise TypeError(f"{o.class_name}: expected the network's last layer after the target")
        parameters, ignored = self.parameter_list(), self._value("ignore_index", None)
        step = [t.detach() for t in tensors] if self.training else []
        if step and ignored is not None and o.state and step[-1].dim() == 1:
            step = [t[step[-1] != ignored] for t in step]
        updates = self.training and o.updates_each_step
        if updates and o.updates_first:
            self._update("step", step)
        inputs = [*tensors, *self._state_of_loss()]
        if self.training and o.draws != "nothing":
            with ranks.random_numbers_of_first() if ranks else contextlib.nullcontext():
                drawn = ops.objective_draw(o.name, parameters, [*step, *(t.detach() for t in self._state())])
            if drawn.numel():
                inputs.append(head(drawn) if o.draws == "outliers" else drawn)
        value, _ = ops.objective_loss(o.name, parameters, inputs, self._value("reduction", "mean") or "none",
                                      self._balance(), ignored, weight)
        if updates and not o.updates_first:
            self._update("step", step)
        return value

    def _balance(self) -> str:
        # A flag of that name is a parameter of the objective.
        value = self._value("balance", "default")
        return value if isinstance(value, str) else "default"

    def _bind(self, tensors, named, weight):
        named = named if weight is None else dict(named, weight=weight)
        bound = forward_signature(self.objective).bind(self, *tensors, **named)
        bound.apply_defaults()
        values = bound.arguments
        head = values.get("last")
        return [values[n] for n in (*self.objective.inputs, self.objective.target)], head, values["weight"]

    def __deepcopy__(self, memo):
        group = self._value("process_group", None)
        memo[id(group)] = group  # a copy talks to the same ranks
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def _ranks(self) -> Optional[Ranks]:
        return Ranks.of(self._value("process_group", None))

    @torch.no_grad()
    def update_state(self, event: str, inputs: List[torch.Tensor]) -> None:
        """Updates the state as the training loop of the program does: "step" after a step, of its inputs and target;
        "begin", "epoch" or "finish" of inputs and target of all ID data, batch after batch, with a process_group those of
        this rank."""
        if inputs and (ranks := self._ranks()):
            width = len(self.objective.inputs) + 1
            inputs = ranks.rows([torch.cat(inputs[i::width]) for i in range(width)])
        self._update(event, inputs)

    @torch.no_grad()
    def _update(self, event: str, inputs: List[torch.Tensor]) -> None:
        ops.objective_update_(self.objective.name, self.parameter_list(), inputs, [t.detach() for t in self._state()],
                              event)

    def extra_repr(self) -> str:
        return ", ".join([f"{p.python_name}={v:g}" for p, v in
                          zip(self.objective.parameters, self.parameter_list()) if not p.training_only] + [f"reduction={self._value('reduction', 'mean')!r}"])


class Distances:
    """What classes with centers have."""

    def distance(self, embedding: torch.Tensor) -> torch.Tensor:
        """embedding [N, D] -> distances [N, K] or [N] to what the objective keeps."""
        return ops.objective_distances(self.objective.name, self.parameter_list(), embedding, self._state())

    def predict(self, embedding: torch.Tensor) -> torch.Tensor:
        """Class probabilities [N, K], softmin of the distances."""
        distances = self.distance(embedding)
        if distances.dim() != 2:
            raise ValueError(f"{self.objective.class_name}: has one center and no classes to predict; see distance")
        return torch.nn.functional.softmin(distances, dim=1)


def signature(o: Objective) -> inspect.Signature:
    own = [_P(size, _P.POSITIONAL_OR_KEYWORD, annotation=int) for size in o.sizes]
    own += [_P(p.python_name, _P.POSITIONAL_OR_KEYWORD, default=p.default, annotation=p.type) for p in o.arguments]
    kind = _P.KEYWORD_ONLY if o.logits_alone or o.formula_op else _P.POSITIONAL_OR_KEYWORD
    own.append(_P("reduction", kind, default="mean", annotation=str))
    if "balance" not in [p.name for p in o.arguments]:
        own.append(_P("balance", _P.KEYWORD_ONLY, default="default", annotation=str))
    own.append(_P("ignore_index", _P.KEYWORD_ONLY, default=None, annotation=Optional[int]))
    own.append(_P("process_group", _P.KEYWORD_ONLY, default=None, annotation=Optional[ProcessGroup]))
    return inspect.Signature(own)


def forward_signature(o: Objective) -> inspect.Signature:
    tensor = dict(kind=_P.POSITIONAL_OR_KEYWORD, annotation=torch.Tensor)
    own = [_P("self", _P.POSITIONAL_OR_KEYWORD)] + [_P(n, **tensor) for n in (*o.inputs, o.target)]
    if o.draws == "outliers":
        own.append(_P("last", _P.POSITIONAL_OR_KEYWORD, annotation=Callable))
    own.append(_P("weight", _P.POSITIONAL_OR_KEYWORD, default=None, annotation=Optional[torch.Tensor]))
    return inspect.Signature(own, return_annotation=torch.Tensor)


_SHAPES = {"logits": "[N, C] or [N, C, ...]", "features": "[N, D]", "embedding": "[N, D]"}
_EXAMPLES = {"logits": "torch.randn(4, 3)", "features": "torch.randn(4, 5)"}


def document(o: Objective) -> str:
    """The docstring of an objective's class."""
    lines = [o.summary, "", f"    {o.formula}", "", f"{o.paper}. OOD rows: {o.ood_labels}. Score: {o.score}.", ""]
    lines += [f":param {p.python_name}: {p.help} (default {p.default:g}: {p.source})" for p in o.arguments]
    shapes = [f"{n} {_SHAPES.get(n, '[N]')}" for n in o.inputs] + [f"{o.target} [N]"]
    lines += ["", "Takes " + ", ".join(shapes) + (", and the network's last layer" if o.draws == "outliers" else "")
              + "; gives a scalar.", ""]
    wide = "torch.randn(4, 3)" if "dimension" not in o.sizes else "torch.randn(4, 5)"
    given = [_EXAMPLES.get(n, wide if n == "embedding" else "torch.randn(4)") for n in o.inputs]
    labels = "[0, 0, 1, -1]" if o.target == "semi_target" else "[0, 1, -1, -1]"
    last = ", torch.nn.Linear(5, 3)" if o.draws == "outliers" else ""
    sizes = ", ".join({"classes": "3", "dimension": "5"}[s] for s in o.sizes)
    lines += [f"    >>> criterion = ood.nn.{o.class_name}({sizes})",
              f"    >>> criterion({', '.join(given)}, torch.tensor({labels}){last})"]
    return "\n".join(lines)


def make_class(o: Objective) -> type:
    own = signature(o)
    names = [p.python_name for p in o.arguments]
    parameters = [p.python_name for p in o.parameters]
    op, name = ops.loss.default, o.name

    def __init__(self, *values, **options):
        positional = [p for p in own.parameters.values() if p.kind is _P.POSITIONAL_OR_KEYWORD]
        if len(values) > len(positional):
            raise TypeError(f"{o.class_name}: expected at most {len(positional)} positional parameters "
                            f"({', '.join(p.name for p in positional)}), got {len(values)}")
        unknown = sorted(set(options) - set(own.parameters))
        if unknown:
            raise TypeError(f"{o.class_name}: unknown parameter {unknown[0]}; expected {', '.join(names) or 'none'}")
        Criterion.__init__(self, *values, **options)

    def of_logits(self, logits, target, weight=None):
        # At once: of a small batch the way to the op costs as much as the op.
        own = self.__dict__
        try:
            values = [float(own[n]) for n in parameters]
            group, reduction, balance, ignored = own["process_group"], own["reduction"], own["balance"], own["ignore_index"]
        except KeyError:  # of a pickle of an older version
            return Criterion.forward(self, logits, target, weight=weight)
        if group is not None:
            return Criterion.forward(self, logits, target, weight=weight)
        if weight is None and ignored is None and reduction == "mean" and balance == "default":
            return op(logits, target, name, values)
        return op(logits, target, name, values, None, weight, reduction or "none", balance, ignored)

    def of_any(self, *tensors, **named):
        return Criterion.forward(self, *tensors, **named)

    forward = of_logits if o.logits_alone else of_any

    __init__.__signature__ = inspect.Signature([_P("self", _P.POSITIONAL_OR_KEYWORD), *own.parameters.values()])
    forward.__name__, forward.__qualname__ = "forward", f"{o.class_name}.forward"  # errors say it
    forward.__signature__ = forward_signature(o)
    forward.__doc__ = ", ".join((*o.inputs, o.target)) + " -> loss."
    bases = (METHODS[o.name],) if o.name in METHODS else ()
    bases += ((Distances,) if o.has_distances else ()) + (Criterion,)
    return type(o.class_name, bases, {"__doc__": document(o), "__init__": __init__, "forward": forward,
                                      "objective": o, "_parameter_names": parameters,
                                      "__signature__": own, "__module__": __name__})


def __getattr__(name: str) -> type:
    """Classes of objectives that a plug-in brought after the import."""
    if name == "VosQueues":  # of pickles
        from ood.compat.pytorch_ood.loss.vos import VosQueues
        return VosQueues
    for o in objectives().values():
        if o.class_name == name:
            globals()[name] = make_class(o)
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [o.class_name for o in objectives().values()]
for _name in __all__:
    __getattr__(_name)
