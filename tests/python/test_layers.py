"""The floors of the library: a file includes only floors above its own, and no floor but the objectives' own names one."""
import pathlib
import re

import pytest

import ood
from conftest import ROOT

# From the top down: (folder, what it is). docs/design.md has this table.
FLOORS = [
    ("ood/kernels", "row statistics, distances and gradients on pointers, levels chosen at run time; no torch"),
    ("ood/formula", "dual numbers, vocabulary, evaluation of a formula on a block of rows"),
    ("ood/registry", "card, typed parameters, state, the list of objectives; options, listener, text"),
    ("ood/ops", "row ops, losses with their gradient written out, distances; any objective by name"),
    ("ood/objectives", "one objective = one slice: its formula or functions, and its entry"),
    ("ood/nn", "the torch::nn module of any objective"),
    ("ood/scores", "one score = one file, what they are fitted to, neighbours, p-values and the joint score"),
    ("ood/metrics", "detection, open set, calibration, intervals, thresholds with a promise"),
    ("ood/augment", "mixup, CutMix, from one random stream"),
    ("ood/distributed", "processes that train together: meeting, rows of a batch, gradients, batch normalisation"),
    ("ood/data", "readers of each format, open-set task"),
    ("ood/models", "networks with logits and features"),
    ("ood/train", "the loop, run folders, evaluation, detector"),
    ("ood/report", "tables and HTML"),
    ("apps/ood", "the program: flags, exit statuses, printing; one file a sub-command"),
]
ORDER = {folder: i for i, (folder, _) in enumerate(FLOORS)}
# Headers that stand beside the floors: no floor's code is in them.
BESIDE = {"ood/errors.h", "ood/torch.h", "ood/version.h"}


def floor_of(path):
    return next((f for f in ORDER if str(path).startswith(f + "/")), None)


def violations(includes):
    """(file, included file) pairs that go up."""
    return [(a, b) for a, b in includes if b not in BESIDE and (
        floor_of(b) is None or floor_of(b) != floor_of(a) and ORDER[floor_of(b)] > ORDER[floor_of(a)])]


def all_includes():
    for path in sorted(p for d in ("ood", "apps") for e in ("*.h", "*.cc") for p in (ROOT / d).rglob(e)):
        file = str(path.relative_to(ROOT))
        if floor_of(file) is None:
            continue  # the umbrella header
        for included in re.findall(r'#include "((?:ood|apps)/[^"]+)"', path.read_text()):
            yield file, included


def test_no_include_goes_up():
    includes = list(all_includes())
    assert len(includes) > 200
    assert not violations(includes)


def test_an_include_turned_round_is_found():
    turned = [(b, a) for a, b in all_includes() if b not in BESIDE and floor_of(a) != floor_of(b)]
    assert violations(turned) == turned


def test_the_table_of_the_design_is_this_list():
    table = "| folder | what |\n|---|---|\n" + "".join(f"| `{folder}` | {what} |\n" for folder, what in FLOORS)
    assert table in (ROOT / "docs" / "design.md").read_text(), table


def test_every_folder_has_a_floor():
    for folder in (ROOT / "ood").iterdir():
        if folder.is_dir():
            assert f"ood/{folder.name}" in ORDER, folder


# Where an objective may be named outside of its slice, and why.
MAY_NAME = {
    "ood/ops/loss.cc": "cross-entropy is what other objectives are built on",
    "ood/train/objective.cc": "the term of an added cross-entropy",
    "ood/train/run_options.h": "the default of a flag",
    "ood/train/recipe.cc": "the warm-up is a training with it",
    "ood/metrics/threshold.cc": "the statistical term",
    "ood/train/threshold_rule.cc": "the statistical term",
    "python/ood/runs.py": "the statistical term",
    "apps/ood/score.cc": "the statistical term",
    "apps/ood/doctor.cc": "computes one loss to see whether the library works",
    "python/ood/nn/_methods.py": "methods that classes had before the registry made them; their names stay",
    "python/ood/__init__.py": "an example in a docstring",
    "python/ood/registry.py": "an example in a docstring",
    "python/ood/nn/__init__.py": "modules that pickles name",
    "python/ood/nn/functional.py": "an example in a docstring",
    "python/ood/nn/criterion.pyi": "made from the registry",
}


def names_in(text, is_python):
    code = re.sub(r"//[^\n]*", "", text) if not is_python else text
    names = ood.objectives().values()
    quoted = [o.name for o in names if re.search(rf"[\"'.]{o.name}[\"'.(\s]", code)]
    classes = [o.class_name for o in names if re.search(rf"\b{o.class_name}\b", code)]
    types = re.findall(r"struct (\w+) \{\n  static constexpr Card", "".join(
        p.read_text() for p in (ROOT / "ood" / "objectives").glob("*.h")))
    used = [] if is_python else [t for t in types if re.search(rf"(?<![\w:]){t}(?:::|\{{|\(|>|&| \w+;)", code)]
    return quoted + classes + used


def files_to_search():
    for folder, endings in (("ood", "*.h *.cc"), ("apps", "*.h *.cc"), ("python", "*.py *.pyi")):
        for ending in endings.split():
            for path in (ROOT / folder).rglob(ending):
                file = str(path.relative_to(ROOT))
                if not file.startswith(("ood/objectives/", "python/ood/compat/")):
                    yield file, path.read_text()


def test_no_file_names_an_objective():
    naming = {f: names_in(text, f.startswith("python")) for f, text in files_to_search()}
    assert not {f: n for f, n in naming.items() if n and f not in MAY_NAME}
    stale = [f for f in MAY_NAME if not naming.get(f)]
    assert not stale, f"no longer needed: {stale}"


@pytest.mark.parametrize("text", ['if (entry.name == "logit_norm") return;', "nn::MCHADLoss loss(options);", "Confidence{}.start(s);"])
def test_a_name_is_found(text):
    assert names_in(text, False)
