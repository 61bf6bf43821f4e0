"""What objectives there are, as the library's own registry has it."""
import functools
import json
import keyword
from dataclasses import dataclass
from typing import Dict, List, Union

from ood._library import ops


def python_name(name: str) -> str:
    return name + "_" if keyword.iskeyword(name) else name


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str  #: "real", "whole" or "flag"
    default: Union[float, int, bool]
    help: str
    source: str
    training_only: bool  #: steers a training of the program; not an argument of the classes

    @property
    def type(self) -> type:
        return {"real": float, "whole": int, "flag": bool}[self.kind]

    @property
    def python_name(self) -> str:
        return python_name(self.name)


@dataclass(frozen=True)
class State:
    """A tensor that an objective keeps."""
    name: str
    role: str  #: "parameter", "buffer", or "exact": a buffer that a conversion leaves as it is
    in_loss: bool
    training_only: bool
    fixed_by: str
    python_holder: str

    @property
    def key(self) -> str:
        """Its key in a state_dict."""
        own = ".".join(map(python_name, self.name.split(".")))
        return f"{self.python_holder}.{own}" if self.python_holder else own


@dataclass(frozen=True)
class Objective:
    name: str
    class_name: str
    summary: str
    formula: str
    paper: str
    score: str
    ood_labels: str
    input: str
    balance: str
    per_row: bool       #: whether reduction "none" and "sum" exist
    formula_op: bool    #: whether `ops.loss` computes it
    logits_alone: bool  #: whether it is a formula of logits and nothing else
    extras: tuple
    parameters: tuple
    inputs: tuple       #: names of what its class takes before the target
    target: str
    sizes: tuple        #: "classes", "dimension": what its state is made for
    state: tuple
    draws: str          #: what a training step draws: "nothing", "input" or "outliers"
    updates_each_step: bool
    updates_first: bool  #: before the loss of a step, not after it
    has_distances: bool
    further_outputs: int
    exclusions: dict    #: tests it cannot take part in, and why

    @property
    def arguments(self) -> tuple:
        """The parameters that its class takes."""
        return tuple(p for p in self.parameters if not p.training_only)


@functools.lru_cache(maxsize=1)
def _entries(text: str) -> Dict[str, Objective]:
    return {e["name"]: _entry(e) for e in json.loads(text)}


def objectives() -> Dict[str, Objective]:
    """All objectives by name.

        >>> ood.objectives()["logit_norm"].parameters[0].default
        0.04
    """
    return dict(_entries(ops.objectives_json()))


def parameter(p: dict) -> Parameter:
    convert = {"real": float, "whole": int, "flag": bool}[p["kind"]]
    return Parameter(p["name"], p["kind"], convert(p["default"]), p["help"], p["source"], p["training_only"])


def _entry(e: dict) -> Objective:
    sizes = tuple(s for s in ("classes", "dimension") if e["by_class" if s == "classes" else "by_dimension"])
    return Objective(e["name"], e["class"], e["summary"], e["formula"], e["paper"], e["score"], e["ood_labels"],
                     e["input"], e["balance"], e["per_row"], e["formula_op"], e["logits_alone"], tuple(e["extras"]),
                     tuple(map(parameter, e["parameters"])), tuple(e["inputs"]), e["target"], sizes,
                     tuple(State(**s) for s in e["state"]), e["draws"], e["updates_each_step"], e["updates_first"],
                     e["has_distances"],
                     e["further_outputs"], {x["test"]: x["reason"] for x in e["excluded_from_tests"]})


def parameter_values(objective: Objective, given: dict) -> List[float]:
    """The values in the table's order, defaults where none is given."""
    known = [p.python_name for p in objective.parameters]
    unknown = set(given) - set(known)
    if unknown:
        raise TypeError(f"{objective.class_name}: unknown parameter {sorted(unknown)[0]}; expected "
                        f"{', '.join(known) or 'none'}")
    return [float(given.get(p.python_name, p.default)) for p in objective.parameters]
