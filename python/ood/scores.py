"""Scores of trained networks: one number a sample, higher means rather OOD.

Every score of the library is a class, on tensors of anybody's network; what it is fitted to is ID training data:

    >>> knn = ood.scores.KNN(k=5).fit(features=torch.randn(100, 8))
    >>> knn(features=torch.randn(3, 8)).shape
    torch.Size([3])

`msp`, `max_logit`, `energy`, `entropy` and `margin` are functions as well, of logits [N, C] or [N, C, ...].
docs/scores.md has formulas, papers and defaults.
"""
import functools
import json
from typing import Optional, Sequence

import torch

from ood._library import ops
from ood.registry import Parameter, parameter


def msp(logits: torch.Tensor) -> torch.Tensor:
    """Minus the maximum softmax probability (Hendrycks and Gimpel 2017)."""
    return ops.msp_score(logits)


def max_logit(logits: torch.Tensor) -> torch.Tensor:
    """Minus the maximum logit (Hendrycks et al. 2022)."""
    return ops.max_logit_score(logits)


def energy(logits: torch.Tensor) -> torch.Tensor:
    """The energy, -logsumexp (Liu et al. 2020)."""
    return ops.energy_score(logits)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """The entropy of the softmax (Chan et al. 2021)."""
    return ops.entropy_score(logits)


def margin(logits: torch.Tensor) -> torch.Tensor:
    """The second largest probability less the largest."""
    return ops.margin_score(logits)


class Score:
    """A score by its entry in the library's list. Parameters are keywords; see docs/scores.md."""
    name: str
    uses: tuple  #: of "logits" and "features": what a call takes
    needs: tuple  #: what fit() takes, of "logits", "features", "labels", "weight", "held_out"; () needs none
    parameters: Sequence[Parameter]

    def __init__(self, **parameters):
        known = {p.name: p for p in self.parameters}
        for name in parameters:
            if name not in known:
                raise TypeError(f"{type(self).__name__}: unknown parameter {name}; expected "
                                f"{', '.join(known) or 'none'}")
        self._values = [float(parameters.get(n, p.default)) for n, p in known.items()]
        self._state: Optional[list] = None if self.needs else []

    def fit(self, *, logits: Optional[torch.Tensor] = None, features: Optional[torch.Tensor] = None,
            labels: Optional[torch.Tensor] = None, weight: Optional[torch.Tensor] = None,
            bias: Optional[torch.Tensor] = None, held_out_logits: Optional[torch.Tensor] = None,
            held_out_labels: Optional[torch.Tensor] = None) -> "Score":
        """Fits to ID training data: logits [N, K], features [N, D], labels [N], weight [K, D] and bias [K] of the last
        layer, logits and labels of held-out ID data; `needs` says which of them. Returns the score. A ValueError says
        what is missing or why the data do not do."""
        given = [logits, features, labels, weight, bias, held_out_logits, held_out_labels]
        self._state = ops.score_fit([self.name], self._values, *[t if t is None else t.detach() for t in given])
        return self

    def __call__(self, *, logits: Optional[torch.Tensor] = None,
                 features: Optional[torch.Tensor] = None) -> torch.Tensor:
        """float64 [N] of logits [N, K] or features [N, D], as `uses` says."""
        if self._state is None:
            raise RuntimeError(f"{type(self).__name__}: expected fit() before a call")
        return ops.score_compute(self.name, self._values, logits, features, self._state)

    @property
    def state(self) -> dict:
        """What was learned, by name."""
        return dict(zip(self.state_names, self._state or []))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{p.name}={v:g}' for p, v in zip(self.parameters, self._values))})"


@functools.lru_cache(maxsize=1)
def _entries() -> dict:
    return {e["name"]: e for e in json.loads(ops.scores_json())}


def _made(entry: dict) -> type:
    table = [parameter(p) for p in entry["parameters"]]
    doc = [entry["summary"], "", f"    {entry['formula']}", "", f"{entry['paper']}.", entry["pitfalls"], "",
           *(f"{p.name}: {p.help}; default {p.default} ({p.source})." for p in table)]
    return type(entry["class"], (Score,), {
        "__doc__": "\n".join(doc).strip(), "__module__": __name__, "name": entry["name"],
        "uses": tuple(entry["uses"]), "needs": tuple(entry["fit"]), "state_names": tuple(entry["state"]),
        "parameters": table})


def scores() -> dict:
    """The class of every score by name.

        >>> sorted(ood.scores.scores())[:3]
        ['ash', 'ctm', 'energy']
    """
    return {e["name"]: globals()[e["class"]] for e in _entries().values()}


def fit_all(names: Sequence[str], **training_data: torch.Tensor) -> dict:
    """Scores of these names with their default parameters, fitted together: what several need, such as covariances, is
    computed once. The keywords are those of Score.fit."""
    made = {name: globals()[_entries()[name]["class"]]() for name in names}
    order = ("logits", "features", "labels", "weight", "bias", "held_out_logits", "held_out_labels")
    unknown = set(training_data) - set(order)
    if unknown:
        raise TypeError(f"fit_all: unknown argument {sorted(unknown)[0]}; expected {', '.join(order)}")
    given = [training_data.get(k) for k in order]
    state = ops.score_fit(list(names), [v for s in made.values() for v in s._values],
                          *[t if t is None else t.detach() for t in given])
    for score in made.values():
        count = len(score.state_names) if score.needs else 0
        score._state, state = state[:count], state[count:]
    return made


globals().update({e["class"]: _made(e) for e in _entries().values()})


def p_values(scores: torch.Tensor, held_out: torch.Tensor) -> torch.Tensor:
    """Conformal p-values [N] of scores [N] among those of held-out ID data [M]: (1 + how many of these are at least as
    high) / (1 + M). Of ID data exchangeable with the held-out one, at most a share a has a p-value at or below a."""
    return ops.p_values(scores, held_out)


class Joint:
    """Several scores joined through their p-values on held-out ID data; higher means rather OOD.

    `method`: "fisher_tail", -2 sum log p, the p-values of the highest tenth of the held-out scores continued by an
    exponential tail, so that no two scores tie; "fisher", the same of plain ones; "bonferroni", -m min p; "benjamini_hochberg", -min over i of m p_(i) / i
    (Magesh, Veeravalli, Roy, Jha 2022). A threshold needs further held-out data, since these define the score.

        >>> joint = ood.scores.Joint().fit([torch.rand(100), torch.rand(100)])
        >>> joint([torch.rand(3), torch.rand(3)]).shape
        torch.Size([3])
    """

    def __init__(self, method: str = "fisher_tail"):
        self.method = method
        self._held_out: Optional[list] = None

    def fit(self, held_out: Sequence[torch.Tensor]) -> "Joint":
        """held_out: the scores [M] of every member on held-out ID data."""
        self._held_out = [h.detach().clone() for h in held_out]
        return self

    def __call__(self, scores: Sequence[torch.Tensor]) -> torch.Tensor:
        if self._held_out is None:
            raise RuntimeError("Joint: expected fit() before a call")
        return ops.joint_score(list(scores), self._held_out, self.method)
