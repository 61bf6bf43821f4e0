"""What objectives there are, as the library's own registry has it."""
import json
import keyword
from dataclasses import dataclass
from typing import Dict, List

from ood._library import ops


@dataclass(frozen=True)
class Parameter:
    name: str
    default: float
    help: str
    source: str

    @property
    def python_name(self) -> str:
        return self.name + "_" if keyword.iskeyword(self.name) else self.name


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
    per_row: bool      #: whether reduction "none" and "sum" exist
    formula_op: bool   #: whether `ops.loss` computes it
    extras: tuple
    parameters: tuple
    exclusions: dict   #: tests it cannot take part in, and why


def objectives() -> Dict[str, Objective]:
    """All objectives by name.

        >>> ood.objectives()["logit_norm"].parameters[0].default
        0.04
    """
    return {e["name"]: _entry(e) for e in json.loads(ops.objectives_json())}


def _entry(e: dict) -> Objective:
    parameters = tuple(Parameter(p["name"], p["default"], p["help"], p["source"]) for p in e["parameters"])
    return Objective(e["name"], e["class"], e["summary"], e["formula"], e["paper"], e["score"], e["ood_labels"],
                     e["input"], e["balance"], e["per_row"], e["formula_op"], tuple(e["extras"]), parameters,
                     {x["test"]: x["reason"] for x in e["excluded_from_tests"]})


def parameter_values(objective: Objective, given: dict) -> List[float]:
    """The values in the table's order, defaults where none is given."""
    known = [p.python_name for p in objective.parameters]
    unknown = set(given) - set(known)
    if unknown:
        raise TypeError(f"{objective.class_name}: unknown parameter {sorted(unknown)[0]}; expected "
                        f"{', '.join(known) or 'none'}")
    return [float(given.get(p.python_name, p.default)) for p in objective.parameters]
