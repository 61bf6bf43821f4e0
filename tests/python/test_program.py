"""The program as a user runs it: results, files, and one line for every mistake."""
import gzip
import json
import os
import pathlib
import re
import struct
import subprocess

import pytest

import ood
from conftest import BUILD, OUT_OF_TREE, REGISTRY, ROOT, SHARED
from ood.runs import read_safetensors

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
TASK = ["--known", "0,1,2,3,4,8", "--outliers", "5,6", "--unknown", "7,9"]
SMALL = ["--limit-train", "512", "--limit-test", "200", "--epochs", "1", "--batch-size", "64"]
needs_fashion = pytest.mark.skipif(not FASHION.exists(), reason="dataset-fashion-mnist is not installed")


def one_line(result, status):
    assert result.returncode == status, result.stderr
    lines = [l for l in result.stderr.splitlines() if l]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr and "terminate" not in result.stderr
    return lines[0]


def idx(shape, value=0):
    size = 1
    for s in shape:
        size *= s
    data = bytes(value if value is not None else i % 256 for i in range(size))
    return struct.pack(">BBBB", 0, 0, 8, len(shape)) + b"".join(struct.pack(">I", s) for s in shape) + data


@pytest.fixture
def dataset(tmp_path):
    """Four classes that differ in brightness; small and learnt at once."""
    folder = tmp_path / "data"
    folder.mkdir()
    for part, n in (("train", 240), ("t10k", 80)):
        labels = bytes(i % 4 for i in range(n))
        pictures = b"".join(bytes([min(255, 60 * l + (j + len(part)) % 9) for j in range(64)]) for l in labels)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">BBBBIII", 0, 0, 8, 3, n, 8, 8) + pictures)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, n) + labels)
    return folder


QUICK = ["--known", "0,1", "--outliers", "2", "--unknown", "3", "--epochs", "1", "--batch-size", "16"]


def test_a_run_folder_holds_what_was_promised(program, dataset, tmp_path):
    out = tmp_path / "run"
    r = program("train", "--data", dataset, *QUICK, "--objective", "outlier_exposure",
                "--objective.alpha", "0.25", "--out", out)
    assert r.returncode == 0, r.stderr
    assert "outlier_exposure" in r.stdout and "loss" not in r.stdout
    assert "loss" in r.stderr
    results = json.loads((out / "results.json").read_text())
    o, = results["objectives"]
    assert o["objective"] == "outlier_exposure" and o["own_score"] == "msp" and o["seconds"] > 0
    assert o["parameters"] == {"alpha": .25}
    assert set(o["ood"]) == {"unknown"}
    assert {"auroc", "aupr_in", "aupr_out", "fpr95"} <= set(o["ood"]["unknown"])
    assert set(o["scores"]) | set(o["unavailable_scores"]) == set(ood.scores.scores()) | ({"joint"} if o["score"] == "joint" else set())
    lines = [json.loads(l) for l in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [l for l in lines if "step" in l]
    assert [l["step"] for l in steps] == list(range(1, len(steps) + 1))
    for l in steps:
        assert l["loss"] == pytest.approx(l["cross_entropy"] + l["outlier_exposure"], abs=1e-5)
        assert {"epoch", "lr"} <= set(l)
    assert sum("validation_accuracy" in l for l in lines) == 1
    config = (out / "config.toml").read_text()
    assert "alpha = 0.25" in config and "lr = 0.1" in config
    page = (out / "report.html").read_text()
    assert "<svg" in page and "http" not in page and "<script" not in page
    safetensors = (out / "model.safetensors").read_bytes()
    assert "fc.weight" in json.loads(safetensors[8:8 + struct.unpack("<Q", safetensors[:8])[0]])


def test_the_same_seed_gives_the_same_weights(program, dataset, tmp_path):
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        r = program("train", "--data", dataset, *QUICK, "--seed", seed, "--threads", 1, "--out", tmp_path / name)
        assert r.returncode == 0, r.stderr
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_eval_repeats_the_figures_of_the_training(program, dataset, tmp_path):
    out = tmp_path / "run"
    assert program("train", "--data", dataset, *QUICK, "--out", out).returncode == 0
    r = program("eval", out, "--ood-data", f"again={dataset}")
    assert r.returncode == 0, r.stderr
    trained = json.loads((out / "results.json").read_text())["objectives"][0]
    tested = json.loads((out / "eval.json").read_text())["objectives"][0]
    assert tested["ood"]["unknown"] == trained["ood"]["unknown"]
    assert tested["accuracy"] == trained["accuracy"]
    assert set(tested["ood"]) == {"unknown", "again"}


def test_compare_ranks_several(program, dataset, tmp_path):
    out = tmp_path / "both"
    r = program("compare", "--data", dataset, *QUICK, "--objectives", "cross_entropy,entropic_open_set",
                "--entropic_open_set.unknown_weight", "0.5", "--out", out)
    assert r.returncode == 0, r.stderr
    results = json.loads((out / "results.json").read_text())["objectives"]
    assert {o["objective"] for o in results} == {"cross_entropy", "entropic_open_set"}
    first, second = (o["ood"]["unknown"]["auroc"] for o in results)
    assert first >= second
    assert {o["objective"]: o["parameters"] for o in results}["entropic_open_set"] == {"unknown_weight": .5}
    assert (out / "report.html").exists() and (out / "entropic_open_set" / "model.safetensors").exists()


def test_differences_are_of_the_same_samples(program, dataset, tmp_path):
    """The interval of the report's bold figures against one computed here of the stored scores."""
    out = tmp_path / "both"
    r = program("compare", "--data", dataset, *QUICK, "--objectives", "cross_entropy,outlier_exposure,logit_norm", "--out", out)
    assert r.returncode == 0, r.stderr
    first, *others = json.loads((out / "results.json").read_text())["objectives"]
    assert "behind_best" not in first["ood"]["unknown"]

    def scores(name):
        tensors, _ = ood.runs.read_safetensors(out / name / "test_scores.safetensors")
        return tensors["id"], tensors["ood.unknown"]
    assert len(scores("logit_norm")[0]) == 40 and len(scores("logit_norm")[1]) == 20
    page = (out / "report.html").read_text()
    for o in others:
        d = o["ood"]["unknown"]["behind_best"]
        assert d["objective"] == first["objective"] and d["low"] <= d["high"]
        gap = first["ood"]["unknown"]["auroc"] - o["ood"]["unknown"]["auroc"]
        assert d["low"] - 1e-9 <= gap <= d["high"] + 1e-9
        row = next(t for t in page.split("<tr>") if f'data-name="objective">{o["objective"]}' in t)
        assert ('class="best"' in row[:row.index("</tr>")]) == (d["low"] <= 0 and not o["failure_signs"])


def test_a_comparison_goes_on_without_what_diverges(program, dataset, tmp_path):
    r = program("compare", "--data", dataset, *QUICK, "--objectives", "outlier_exposure,cross_entropy",
                "--outlier_exposure.alpha", "1e39", "--out", tmp_path)
    assert r.returncode == 4 and "going on without it" in r.stderr, r.stderr
    assert [o["objective"] for o in json.loads((tmp_path / "results.json").read_text())["objectives"]] == ["cross_entropy"]
    assert "cross_entropy" in r.stdout and "cross_entropy" in (tmp_path / "report.html").read_text()


def test_many_lines_and_a_spike_stay_readable(program, dataset, tmp_path):
    """Beyond ten objectives lines are dashed; a loss that starts far above the rest does not flatten it."""
    some = sorted(n for n in REGISTRY if n != "energy_regularized")[:11]
    r = program("compare", "--data", dataset, *QUICK[:6], "--epochs", 20, "--objectives", ",".join([*some, "energy_regularized"]),
                "--energy_regularized.margin_out", 30, "--out", tmp_path)
    assert r.returncode in (0, 4), r.stderr
    page = (tmp_path / "report.html").read_text()
    assert 'stroke-dasharray="6 3"' in page and "<h3>OOD set: unknown</h3>" in page
    assert "(peak " in page
    roc = page[page.index(">ROC</text>"):]
    assert ">OOD inputs rejected</text>" in roc and ">loss</text>" in roc
    lines = re.findall(r'<path d="M[^"]*" fill="none" stroke="([^"]*)"[^>]*?(?:stroke-dasharray="([^"]*)")?/>', roc[:roc.index("</svg>")])
    assert len(lines) == len(set(lines)) >= 11, lines


def test_a_score_below_a_half_is_said_wherever_it_stands(program, dataset, tmp_path):
    """Two classes that differ in brightness: what is brighter than both is more familiar than they are."""
    r = program("train", "--data", dataset, "--known", "0,1", "--unknown", "3", "--model", "linear", "--epochs", 20, "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    assert "cross_entropy, unknown: AUROC below 0.5, the score ranks OOD inputs as more familiar" in r.stdout
    page = (tmp_path / "run" / "report.html").read_text()
    assert "AUROC below 0.5: cross_entropy, unknown" in page
    assert "<title>OOD report: data</title>" in page and "resemble each other" not in page


def test_outliers_that_are_not_drawn_are_told(program, dataset, tmp_path):
    r = program("train", "--data", dataset, *QUICK, "--objective", "outlier_exposure", "--outlier-ratio", 0, "--out", tmp_path / "run")
    assert r.returncode == 0 and "learns from outliers, and --outlier-ratio 0 takes none of them" in r.stderr, r.stderr


@pytest.mark.skipif(BUILD.resolve() != ROOT / "build" / "dev", reason="./dev builds into build/dev")
def test_the_front_door_keeps_the_users_folder(dataset, tmp_path):
    r = subprocess.run([ROOT / "dev", "ood", "train", "--data", dataset.name, *QUICK, "--out", "run"], cwd=tmp_path,
                       capture_output=True, text=True)
    assert r.returncode == 0 and (tmp_path / "run" / "model.safetensors").exists(), r.stderr


def test_objectives_lists_the_registry(program):
    listed = json.loads(program("objectives", "--json").stdout)
    assert {e["name"] for e in listed} == set(REGISTRY)
    assert sum(len(e["excluded_from_tests"]) for e in listed) <= 5
    assert all(x["reason"] for e in listed for x in e["excluded_from_tests"])
    text = program("objectives").stdout
    assert all(name in text for name in REGISTRY)


def test_the_documentation_of_the_objectives_is_what_the_program_writes(program):
    documented = (pathlib.Path(__file__).parents[2] / "docs" / "objectives.md").read_text()
    assert documented == program("objectives", "--markdown").stdout, "run: ood objectives --markdown > docs/objectives.md"


def test_the_documentation_of_the_scores_is_what_the_program_writes(program):
    documented = (pathlib.Path(__file__).parents[2] / "docs" / "scores.md").read_text()
    assert documented == program("scores", "--markdown").stdout, "run: ood scores --markdown > docs/scores.md"
    assert json.loads(program("scores", "--json").stdout) == json.loads(ood._library.ops.scores_json())
    assert all(name in program("scores").stdout for name in ood.scores.scores())


def test_every_objective_trains(program, dataset, tmp_path):
    out = tmp_path / "all"
    r = program("compare", "--data", dataset, *QUICK, "--objectives", "all", "--out", out)
    assert r.returncode == 0, r.stderr
    results = {o["objective"]: o for o in json.loads((out / "results.json").read_text())["objectives"]}
    assert set(results) == set(REGISTRY)
    ranked = [(bool(o["failure_signs"]), -o["ood"]["unknown"]["auroc"]) for o in results.values()]
    assert ranked == sorted(ranked)
    table = [line.split()[0] for line in r.stdout.splitlines() if line.split()[0] in REGISTRY and "did not" not in line]
    assert table == list(results)
    for name, o in results.items():
        own = REGISTRY[name]["score"]
        assert o["own_score"] == own and {own, o["score"]} <= set(o["scores"])
        one_class = name in ("deep_svdd", "deep_sad")
        assert (o["accuracy"] is None) == one_class
        # What is computed from logits of classes stands only where there are such.
        assert {"msp", "max_logit", "energy"} - {own} <= set(o["unavailable_scores" if one_class else "scores"])
        assert set(o["scores"]) | set(o["unavailable_scores"]) == set(ood.scores.scores()) | {own, o["score"]}
        lines = [json.loads(l) for l in (out / name / "metrics.jsonl").read_text().splitlines()]
        assert all(set(REGISTRY[name]["terms"]) <= set(l) for l in lines if "step" in l)
    # State of the objectives is part of the run: the test of a loaded run gives the same figures.
    for name in ("cac", "ii", "mchad", "deep_sad", "center"):
        r = program("eval", out / name)
        assert r.returncode == 0, r.stderr
        tested = json.loads((out / name / "eval.json").read_text())["objectives"][0]
        compared = {k: v for k, v in results[name]["ood"]["unknown"].items() if k != "behind_best"}
        assert tested["ood"]["unknown"] == compared, name


def test_seeds_are_summed_up(program, dataset, tmp_path):
    out = tmp_path / "out"
    r = program("compare", "--data", dataset, *QUICK, "--objectives", "cross_entropy,logit_norm", "--seeds", 3, "--out", out)
    assert r.returncode == 0, r.stderr
    for o in json.loads((out / "results.json").read_text())["objectives"]:
        f = o["over_seeds"]["unknown"]
        each = [json.loads((out / f"seed-{s}" / o["objective"] / "results.json").read_text())["objectives"][0]["ood"]["unknown"]["auroc"]
                for s in range(3)]
        assert f["runs"] == each and f["mean"] == pytest.approx(sum(each) / 3)
        assert f["sd"] == pytest.approx((sum((v - f["mean"]) ** 2 for v in each) / 2) ** .5)
        assert f"AUROC over 3 seeds: {f['mean']:.4f}" in r.stdout
    entries = json.loads((out / "results.json").read_text())["objectives"]
    assert entries == sorted(entries, key=lambda o: (bool(o["failure_signs"]), -o["over_seeds"]["unknown"]["mean"]))
    ranked = [(o["objective"], o["over_seeds"]["unknown"]["mean"]) for o in entries]
    shown = [line.split() for line in r.stdout.splitlines()[1:3]]
    assert [(row[0], row[4]) for row in shown] == [(name, f"{mean:.4f}") for name, mean in ranked]
    report = (out / "report.html").read_text()
    cells = re.findall(r'<td[^>]*data-name="AUROC">([0-9.]+) ', report)
    assert "Over seeds" in report and cells[:2] == [f"{mean:.3f}" for _, mean in ranked]
    r = program("compare", "--data", dataset, *QUICK, "--seeds", 0, "--out", tmp_path / "none")
    assert r.returncode == 2 and "--seeds: expected at least 1, got 0" in r.stderr


def test_a_network_without_anything_to_train_is_named(program, dataset, tmp_path):
    only_features = ["--objective", "ii", "--objective.cross_entropy", "0"]
    r = program("train", "--data", dataset, *QUICK, *only_features, "--model", "linear", "--out", tmp_path / "linear")
    warning, error = r.stderr.splitlines()[-2:]
    assert r.returncode == 2 and "nothing that makes the network's features is trained" in warning and "--model mlp" in warning
    assert "expected a loss that depends on weights" in error and "linear" in error
    r = program("train", "--data", dataset, *QUICK, *only_features, "--model", "mlp", "--out", tmp_path / "mlp")
    assert r.returncode == 0, r.stderr
    results = json.loads((tmp_path / "mlp" / "results.json").read_text())["objectives"][0]
    assert {"center_distance", "knn"} <= set(results["scores"])
    assert not {"msp", "energy", "react"} & set(results["scores"])  # the last layer was not trained
    assert "trains no logits" in results["unavailable_scores"]["msp"]


@pytest.mark.parametrize("flag", ["--mixup", "--cutmix"])
def test_mixing(program, dataset, tmp_path, flag):
    r = program("train", "--data", dataset, *QUICK, flag, "1", "--objective", "outlier_exposure",
                "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    line = one_line(program("train", "--data", dataset, *QUICK, flag, "1", "--objective", "deep_svdd",
                            "--out", tmp_path / "run2"), 2)
    assert "uses labels" in line
    line = one_line(program("train", "--data", dataset, *QUICK, "--mixup", "1", "--cutmix", "1",
                            "--out", tmp_path / "run3"), 2)
    assert "got both" in line


def test_the_mlp_learns_too(program, dataset, tmp_path):
    r = program("train", "--data", dataset, *QUICK, "--model", "mlp", "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr


def test_an_out_of_tree_objective_is_listed_and_trains(program, dataset, tmp_path):
    listed = json.loads(program("--plugin", OUT_OF_TREE, "objectives", "--json").stdout)
    assert "logit_sphere" in {e["name"] for e in listed}
    r = program("--plugin", OUT_OF_TREE, "train", "--data", dataset, *QUICK, "--objective", "logit_sphere",
                "--objective.xi", "5", "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["objectives"][0]["parameters"]["xi"] == 5
    r = program("objectives", "--json", env={**os.environ, "OOD_PLUGINS": OUT_OF_TREE})
    assert "logit_sphere" in r.stdout


def test_the_score_of_the_guide_is_fitted_and_used(program, dataset, tmp_path):
    code = (ROOT / "docs" / "adding-a-score.md").read_text().split("```cpp\n// ood/scores/norm.cc\n")[1].split("```")[0]
    assert (ROOT / "tests" / "out_of_tree" / "norm.cc").read_text().split("\n", 1)[1] == code
    plugin = ["--plugin", OUT_OF_TREE.replace("logit_sphere", "norm")]
    assert "norm" in {s["name"] for s in json.loads(program(*plugin, "scores", "--json").stdout)}
    r = program(*plugin, "train", "--data", dataset, *QUICK, "--score", "norm", "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["objectives"][0]["score"] == "norm"
    r = program(*plugin, "score", tmp_path / "run", dataset)
    assert r.returncode == 0 and "nan" not in r.stdout, r.stderr


@needs_fashion
def test_fashion_mnist_by_name(program, tmp_path):
    r = program("train", *TASK, *SMALL, "--objective", "outlier_exposure", "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["unknown"] == ["sneaker", "boot"] and results["outliers"] == ["sandal", "shirt"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "(sandal, shirt) and the unknown classes (sneaker, boot) are classes of the same data set" in page
    assert "<title>OOD report: fashion-mnist</title>" in page


@needs_fashion
@pytest.mark.skipif(not (SHARED / "data" / "mnist").exists(), reason="trial pictures are not here")
def test_digits_and_letters_as_far_ood(program, tmp_path):
    r = program("train", *TASK, *SMALL, "--out", tmp_path / "run",
                "--ood-data", f"digits={SHARED}/data/mnist",
                "--ood-data", f"letters={SHARED}/data/omniglot/omniglot28-images-idx3-ubyte.gz")
    assert r.returncode == 0, r.stderr
    ood = json.loads((tmp_path / "run" / "results.json").read_text())["objectives"][0]["ood"]
    assert list(ood) == ["unknown", "digits", "letters"]


@pytest.mark.parametrize("level", ["scalar", "sse4", "avx2", "avx512", "", "avx1024"])
def test_simd_level_by_environment(program, level):
    r = program("objectives", "--json", env={**os.environ, "OOD_SIMD": level})
    if level == "avx1024":
        assert "avx1024" in one_line(r, 2) and "sse4" in r.stderr
    else:
        assert r.returncode == 0 or "does not have it" in one_line(r, 2)


# Mistakes: each with its status and what the line must say.

MISTAKES = [
    (["trian"], 2, ["unknown command trian", "did you mean train"]),
    ([], 2, ["expected a command"]),
    (["train", "--epoch", "3"], 2, ["unknown flag --epoch", "--epochs"]),
    (["score", "--outt", "x.csv"], 2, ["unknown flag --outt", "--out"]),
    (["train", "--epochs", "many"], 2, ["--epochs", "many"]),
    (["train", "--epochs", "-1"], 2, ["--epochs", "0 to 1000000", "got -1"]),
    (["train", "--epochs", "1", "--epochs", "2"], 2, ["--epochs: is given 2 times; expected it once"]),
    (["train", "--lr", "abc"], 2, ["--lr: expected a number, got abc"]),
    (["train", "--epochs", "1.5"], 2, ["--epochs: expected a whole number, got 1.5"]),
    (["train", "--lr", "inf"], 2, ["--lr: expected a finite number, at least 0, got inf"]),
    (["train", "--known", ","], 2, ["--known: expected a class between the commas", '","']),
    (["train", "--known", "0,0"], 2, ["--known: class 0 is given twice"]),
    (["compare", "--objectives", "cac,cac", *QUICK], 2, ["cac is listed twice"]),
    (["compare", "--objectives", "cac", "--known", "0,1"], 2, ["--unknown", "--ood-data"]),
    (["train", "--lr", "-1"], 2, ["--lr", "at least 0", "got -1"]),
    (["train", "--objective", "outlier_exposur"], 2, ["outlier_exposur", "did you mean"]),
    (["train", "--objective", "logit_norm", "--objective.alpha", "1"], 2, ["alpha", "tau"]),
    (["train", "--objective", "logit_norm", "--objective.tau", "0"], 2, ["tau", "above 0", "got 0"]),
    (["train", "--model", "resnet9000", *QUICK], 2, ["resnet9000", "small-cnn"]),
    (["train", "--known", "0,1", "--unknown", "1"], 2, ["class 1", "--known", "--unknown"]),
    (["train", "--known", "0,1", "--unknown", "9"], 2, ["--unknown", "0 to 3", "got 9"]),
    (["train", "--known", "0;1"], 2, ["--known", "0;1"]),
    (["train", "--known", "0,1", "--ood-data", "x"], 2, ["--ood-data", "NAME=PATH"]),
    (["train", "--known", "0,1", "--ood-data", "x=/nowhere"], 3, ["/nowhere", "no such file"]),
    (["compare", "--objectives", "cross_entropy,nothing", *QUICK], 2, ["nothing"]),
    (["compare", "--objectives", "cross_entropy", "--logit_norm.tau", "1", *QUICK], 2, ["logit_norm", "not among"]),
    (["train", ""], 2, ["unexpected argument"]),
    (["eval", "/nowhere"], 3, ["/nowhere", "config.toml"]),
    (["--plugin", "/nowhere.so", "objectives"], 2, ["--plugin", "/nowhere.so"]),
]


@pytest.mark.parametrize("arguments,status,parts", MISTAKES, ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else None)
def test_mistakes(program, dataset, tmp_path, arguments, status, parts):
    if arguments and arguments[0] in ("train", "compare"):
        arguments = [*arguments, "--data", str(dataset), "--out", str(tmp_path / "run")]
    line = one_line(program(*arguments), status)
    for part in parts:
        assert part in line, line


@pytest.mark.parametrize("name,damage,parts", [
    ("train-images-idx3-ubyte", lambda b: b[:-100], ["truncated", "promises 15360", "15260"]),
    ("train-images-idx3-ubyte", lambda b: b[:7], ["truncated"]),
    ("train-images-idx3-ubyte", lambda b: b"\x89PNG" + b, ["expected an idx file"]),
    ("train-labels-idx1-ubyte", lambda b: idx((239,)), ["240 pictures", "239 labels"]),
    ("t10k-labels-idx1-ubyte", lambda b: idx((80, 1)), ["expected labels (1 dimension)"]),
    ("t10k-images-idx3-ubyte", lambda b: gzip.compress(b)[:-30], ["truncated"]),
    ("t10k-images-idx3-ubyte", lambda b: None, ["t10k-images"]),
])
def test_damaged_data(program, dataset, tmp_path, name, damage, parts):
    file = dataset / name
    damaged = damage(file.read_bytes())
    file.unlink() if damaged is None else file.write_bytes(damaged)
    line = one_line(program("train", "--data", dataset, *QUICK, "--out", tmp_path / "run"), 3)
    for part in parts:
        assert part in line, line


def test_an_output_folder_that_cannot_be_written(program, dataset, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    line = one_line(program("train", "--data", dataset, *QUICK, "--out", blocked / "run"), 3)
    assert str(blocked) in line


def test_a_diverging_training_says_so_and_leaves_its_log(program, dataset, tmp_path):
    out = tmp_path / "run"
    r = program("train", "--data", dataset, *QUICK, "--lr", "1e30", "--warmup", "0", "--out", out)
    assert r.returncode == 4
    last = r.stderr.splitlines()[-1]
    assert "the loss is" in last and "--lr" in last
    lines = [json.loads(l) for l in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] is None and lines[0]["loss"] is not None
    assert not (out / "model.safetensors").exists() and (out / "config.toml").exists()


def test_a_damaged_model_is_named(program, dataset, tmp_path):
    out = tmp_path / "run"
    assert program("train", "--data", dataset, *QUICK, "--out", out).returncode == 0
    model = out / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-50])
    assert "truncated or damaged" in one_line(program("eval", out), 3)


def test_threads_that_wait_leave_the_processor_soon(monkeypatch):
    """Unless the user says how; OpenMP has read its environment by then, see apps/waiting."""
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)

    def turns(**environment):
        shown = subprocess.run([BUILD / "bin" / "ood", "--version"], capture_output=True, text=True,
                               env={**os.environ, "OMP_DISPLAY_ENV": "verbose", **environment}).stderr
        return re.search(r"GOMP_SPINCOUNT = '(\d+)'", shown)[1]
    assert turns() == "5000"
    assert turns(GOMP_SPINCOUNT="7") == "7" and turns(OMP_WAIT_POLICY="passive") == "0"


@pytest.mark.parametrize("command", ["train", "eval", "compare", "objectives"])
def test_help_has_an_example(program, command):
    r = program(command, "--help")
    assert r.returncode == 0 and f"Example:\n  ood {command}" in r.stdout


def test_a_narrow_terminal_gets_a_bar_that_fits(dataset, tmp_path):
    """Under `script`, stderr is a terminal; 40 columns."""
    if subprocess.run(["which", "script"], capture_output=True).returncode:
        pytest.skip("no `script` to make a terminal with")
    command = f"stty cols 40; {BUILD}/bin/ood train --data {dataset} {' '.join(QUICK)} --out {tmp_path}/run"
    r = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm", "LC_ALL": "C"})
    bars = [p for p in r.stdout.replace("\n", "\r").split("\r") if "%" in p and "loss" in p]
    assert bars and all(len(b) <= 40 for b in bars), bars


def test_what_the_threshold_rejects_is_shown(program, dataset, tmp_path):
    out = tmp_path / "run"
    r = program("train", "--data", dataset, *QUICK, "--objective", "cross_entropy", "--out", out)
    assert r.returncode == 0, r.stderr
    [o] = json.loads((out / "results.json").read_text())["objectives"]
    of_test = read_safetensors(out / "test_scores.safetensors")[0]
    for got, scores in ((o["test_rejected"], of_test["id"]), (o["ood"]["unknown"]["rejected"], of_test["ood.unknown"])):
        assert got == (scores > o["threshold"]).double().mean().item()
    assert r.stdout.splitlines()[1].split()[-2:] == [f"{v:.4f}" for v in (o["ood"]["unknown"]["rejected"], o["test_rejected"])]
    assert "rejected" in (out / "report.html").read_text()


def test_a_comparison_is_no_run(program, dataset, tmp_path):
    out = tmp_path / "all"
    assert program("compare", "--data", dataset, *QUICK, "--objectives", "cross_entropy,logit_norm", "--out", out).returncode == 0
    for command in (["score", out, dataset], ["threshold", out], ["eval", out], ["fit", out]):
        r = program(*command)
        assert r.returncode == 3 and f"is a comparison; expected one of its runs, such as {out / 'cross_entropy'}" in r.stderr, r.stderr
    r = program("compare", "--data", dataset, *QUICK, "--objectives", "cross_entropy,logit_norm", "--ood-data", f"more={dataset}", "--out", out)
    assert r.returncode == 2 and "other test data; ood eval tests a finished training on further" in r.stderr.replace("`", ""), r.stderr
