"""Defaults that train on little data of any kind, and runs that did not learn."""
import json
import re
import shutil
import signal
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch

import ood
from conftest import ROOT
from test_runs import PROGRAM, checkpoints, run, wait_until, weights

sys.path.insert(0, str(ROOT / "tests"))
from shapes import shapes  # noqa: E402

ONE_CLASS = ("deep_svdd", "deep_sad")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("drawn") / "drawn"
    where.mkdir()
    x, y = shapes(32)
    np.save(where / "train.npy", x)
    np.save(where / "train_labels.npy", y)
    return where


TASK = ["--known", "0-2", "--outliers", 3, "--unknown", 4]


def results(out):
    return {o["objective"]: o for o in json.loads((out / "results.json").read_text())["objectives"]}


def test_every_objective_learns_little_data_by_its_defaults(folder, tmp_path):
    r = run("compare", "--data", folder, *TASK, "--objectives", "all", "--out", tmp_path)
    assert r.returncode == 0, r.stderr
    of = results(tmp_path)
    assert set(of) == set(ood.registry.objectives())
    least = of["cross_entropy"]["accuracy"] - .12  # of 36 test samples, four
    low = {n: o["accuracy"] for n, o in of.items() if n not in ONE_CLASS and o["accuracy"] < least}
    assert not low and of["cross_entropy"]["accuracy"] > .9
    assert not {n: o["failure_signs"] for n, o in of.items() if n not in ONE_CLASS and o["failure_signs"]}


def config(out):
    return dict(l.split(" = ") for l in (out / "config.toml").read_text().splitlines() if " = " in l)


def test_what_is_not_given_follows_the_data(folder, tmp_path):
    assert run("train", "--data", folder, *TASK, "--out", tmp_path / "a").returncode == 0
    c = config(tmp_path / "a")
    assert c["batch-size"] == "16" and int(c["epochs"]) > 50 and c["clip"] == "1.0"
    r = run("train", "--data", folder, *TASK, "--epochs", 2, "--batch-size", 500, "--out", tmp_path / "b")
    assert r.returncode == 0 and "--batch-size 500 is more than the 130 training samples" in r.stderr, r.stderr


def test_margins_that_are_not_given_are_measured(folder, tmp_path):
    def margins(name, *flags):
        r = run("train", "--data", folder, *TASK, "--objective", "energy_regularized", "--epochs", 3, "--out",
                tmp_path / name, *flags)
        assert r.returncode == 0, r.stderr
        c = config(tmp_path / name)
        return float(c["margin_in"]), float(c["margin_out"])
    low, high = margins("measured")
    assert -20 < low < high < 0
    assert margins("again") == (low, high)
    assert margins("given", "--objective.margin_in", -9, "--objective.margin_out", -3) == (-9, -3)
    assert margins("half", "--objective.margin_in", -9) == (-9, high)


def test_weights_of_sums_over_classes_are_divided(folder, tmp_path):
    assert run("train", "--data", folder, *TASK, "--objective", "mchad", "--epochs", 1, "--out", tmp_path).returncode == 0
    assert float(config(tmp_path)["weight_oe"]) == pytest.approx(1 / 3)


def test_what_did_not_learn_says_so_and_comes_last(folder, tmp_path):
    r = run("compare", "--data", folder, *TASK, "--objectives", "cross_entropy,outlier_exposure", "--epochs", 20,
            "--outlier_exposure.alpha", 1e6, "--out", tmp_path)
    assert r.returncode == 0, r.stderr
    first, last = json.loads((tmp_path / "results.json").read_text())["objectives"]
    assert (first["objective"], last["objective"]) == ("cross_entropy", "outlier_exposure")
    assert first["failure_signs"] == [] and any("chance" in s for s in last["failure_signs"])
    assert "warning: outlier_exposure did not learn: accuracy" in r.stderr
    assert "outlier_exposure did not learn: accuracy" in r.stdout
    page = (tmp_path / "report.html").read_text()
    assert "<b>outlier_exposure did not learn:</b>" in page
    rows = page[page.index("How well OOD inputs are detected"):].split("<tr>")
    row = next(t for t in rows if "class=\"bad\"" in t)
    assert "class=\"best\"" not in row[:row.index("</tr>")]


def test_unbalanced_classes_and_the_accuracy_of_each(folder, tmp_path):
    x, y = np.load(folder / "train.npy"), np.load(folder / "train_labels.npy")
    keep = (y != 1) | (np.cumsum(y == 1) <= 5)
    few = tmp_path / "few"
    few.mkdir()
    np.save(few / "train.npy", x[keep])
    np.save(few / "train_labels.npy", y[keep])
    r = run("train", "--data", few, *TASK, "--epochs", 2, "--out", tmp_path / "run")
    assert r.returncode == 0 and "warning: the classes are unbalanced: 0 has" in r.stderr, r.stderr
    file = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [c["test"] for c in file["classes"]] == [12, 1, 12]
    accuracy = file["objectives"][0]["class_accuracy"]
    weighted = sum(a * c["test"] for a, c in zip(accuracy, file["classes"])) / 25
    assert weighted == pytest.approx(file["objectives"][0]["accuracy"])
    assert "Known classes" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("objective, model, rate", [("deep_svdd", "linear", .001), ("deep_sad", "mlp", .01),
                                                    ("mchad", "mlp", .1), ("cross_entropy", "linear", .1)])
def test_embeddings_of_one_kind_alone_keep_what_tells_others_from_them(tmp_path, objective, model, rate):
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(5), 120)
    np.save(tmp_path / "train.npy", (random.normal(size=(5, 64))[y] + random.normal(size=(600, 64))).astype(np.float32))
    np.save(tmp_path / "train_labels.npy", y)
    out = tmp_path / "run"
    r = run("compare", "--data", tmp_path, "--known", "0,1", "--outliers", 2, "--unknown", "3,4", "--objectives", objective, "--out", out)
    assert r.returncode == 0, r.stderr
    config = tomllib.loads((out / objective / "config.toml").read_text())
    assert config["model"] == model and config["lr"] == rate
    if objective == "deep_svdd":
        assert results(out)[objective]["scores"]["knn"]["unknown"]["auroc"] > .9


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    where, random = tmp_path_factory.mktemp("clusters"), np.random.default_rng(0)
    y = np.repeat(np.arange(4), 150)
    np.save(where / "train.npy", (random.normal(size=(4, 32))[y] + random.normal(size=(600, 32))).astype(np.float32))
    np.save(where / "train_labels.npy", y)
    assert run("train", "--data", where, "--known", "0-2", "--unknown", 3, "--epochs", 2, "--out", where / "run").returncode == 0
    return where


def config_of(run_folder):
    return tomllib.loads((run_folder / "config.toml").read_text())


def test_what_a_run_starts_from_has_not_seen_what_it_holds_out(clusters, tmp_path):
    more = ["train", "--data", clusters, "--unknown", 3, "--epochs", 2, "--init", clusters / "run", "--seed", 5]
    r = run(*more, "--known", "0-2", "--out", tmp_path / "same")
    assert r.returncode == 0 and "were learned by" not in r.stderr, r.stderr
    first, second = config_of(clusters / "run"), config_of(tmp_path / "same")
    assert second["data_fingerprint"] == first["data_fingerprint"] and second["split-seed"] == 0 and first["split-seed"] == -1
    assert run("eval", tmp_path / "same").returncode == 0
    for name, flags in {"share": ["--known", "0-2", "--validation", .4], "classes": ["--known", "0,2"],
                        "division": ["--known", "0-2", "--split-seed", 5]}.items():
        r = run(*more, *flags, "--out", tmp_path / name)
        assert r.returncode == 0 and "held-out samples were learned by the run of --init" in r.stderr, (name, r.stderr)
    more[-1] = 0
    compared = ["compare", *more[1:], "--known", "0-2", "--objectives", "cross_entropy", "--seeds", 2, "--out", tmp_path / "seeds"]
    r = run(*compared)
    assert r.returncode == 0 and "were learned by" not in r.stderr, r.stderr
    assert {config_of(tmp_path / "seeds" / f"seed-{s}" / "cross_entropy")["data_fingerprint"] for s in (0, 1)} == {first["data_fingerprint"]}
    assert "finished before" in run(*compared).stderr


def test_a_run_is_found_behind_other_names_of_its_data_and_model(clusters, tmp_path):
    (tmp_path / "link").symlink_to(clusters)
    for i, (data, init) in enumerate([(f"{clusters}/", clusters / "run"), (tmp_path / "link", clusters / "run" / "model.safetensors")]):
        out = tmp_path / f"run{i}"
        r = run("train", "--data", data, "--known", "0-2", "--unknown", 3, "--epochs", 1, "--init", init, "--seed", 5, "--out", out)
        assert r.returncode == 0 and config_of(out)["data_fingerprint"] == config_of(clusters / "run")["data_fingerprint"], r.stderr


def test_other_data_at_the_place_of_a_run_are_said(tmp_path):
    random = np.random.default_rng(1)
    x, y = random.normal(size=(300, 16)).astype(np.float32), np.repeat(np.arange(3), 100)
    common = ["train", "--data", tmp_path, "--known", "0,1", "--unknown", 2, "--epochs", 1]
    for out, n, more in (("first", 299, []), ("second", 300, ["--init", tmp_path / "first"])):
        np.save(tmp_path / "train.npy", x[-n:])
        np.save(tmp_path / "train_labels.npy", y[-n:])
        r = run(*common, *more, "--out", tmp_path / out)
        assert r.returncode == 0, r.stderr
    assert "the data have changed since the run of --init" in r.stderr, r.stderr


def test_pictures_that_were_read_otherwise_are_said(folder, tmp_path):
    common = ["train", "--data", folder, "--known", "0,1", "--unknown", 4, "--epochs", 1]
    assert run(*common, "--out", tmp_path / "run").returncode == 0
    r = run(*common, "--init", tmp_path / "run", "--image-size", 16, "--out", tmp_path / "smaller")
    assert r.returncode == 0 and "whose pictures were read otherwise" in r.stderr, r.stderr


def test_embedding_what_a_run_was_trained_with_says_what_that_means(clusters, tmp_path):
    r = run("embed", clusters / "run", clusters, "--out", tmp_path / "features")
    assert r.returncode == 0 and "is not new to the network" in r.stderr, r.stderr


def test_a_file_that_is_called_as_a_run_s_may_be_another_program_s(clusters, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "config.toml").write_text("[server]\nport = 80\n")
    model = tmp_path / "models" / "model.safetensors"
    model.write_bytes((clusters / "run" / "model.safetensors").read_bytes())
    r = run("train", "--data", clusters, "--known", "0-2", "--unknown", 3, "--epochs", 1, "--init", model, "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr


def test_networks_of_pictures_take_no_embeddings(clusters, tmp_path):
    r = run("train", "--data", clusters, "--known", "0-2", "--unknown", 3, "--model", "resnet-18", "--out", tmp_path / "run")
    assert r.returncode == 2 and "--model: expected mlp, linear or a file of your own for embeddings, got resnet-18" in r.stderr, r.stderr


def test_a_score_that_is_not_joint_is_said(clusters, tmp_path):
    common = ["train", "--data", clusters, "--known", "0-2", "--unknown", 3, "--epochs", 1, "--out", tmp_path / "run", "--overwrite"]
    assert "the run's score is msp, for the 36 held-out samples are too few for a joint one, which takes 118" in run(*common).stderr
    assert "too few for a joint one" not in run(*common, "--validation", .4).stderr


def one_kind(data, more={}):
    """A training of one class; None is the value of a flag that has none."""
    flags = {"--data": data, "--known": 0, "--unknown": 1, "--objective": "deep_svdd", "--epochs": 2} | more
    return ["train", *(a for flag, value in flags.items() for a in ([flag] if value is None else [flag, value]))]


def autoencoder_errors(stderr):
    return [float(e) for e in re.findall(r"deep_svdd, autoencoder: \d+/\d+, error ([\d.e+-]+)", stderr)]


def test_one_class_begins_as_an_autoencoder_of_pictures(folder, clusters, tmp_path):
    out = tmp_path / "run"
    r = run(*one_kind(folder), "--out", out)
    errors = autoencoder_errors(r.stderr)
    assert r.returncode == 0 and len(errors) == 10 and errors[-1] < .7 * errors[0], r.stderr
    steps = [json.loads(l)["step"] for l in (out / "metrics.jsonl").read_text().splitlines() if '"step"' in l]
    assert int(config(out)["pretrain"]) > 2 and len(steps) == results_of(out)["steps"] == steps[-1]
    for name, more in {"told not to": {"--pretrain": 0}, "embeddings": {"--data": clusters}, "weights": {"--init": out},
                       "outliers": {"--objective": "deep_sad", "--outliers": 3}}.items():
        r = run(*one_kind(folder, more), "--out", tmp_path / name)
        assert r.returncode == 0 and "autoencoder" not in r.stderr and config(tmp_path / name)["pretrain"] == "0", (name, r.stderr)
    torch.jit.script(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 8))).save(str(tmp_path / "net.pt"))
    r = run(*one_kind(folder), "--pretrain", 2, "--model", tmp_path / "net.pt", "--out", tmp_path / "own")
    assert r.returncode == 0 and [float(config(tmp_path / "own")[f]) for f in ("lr", "backbone-lr")] == pytest.approx([.03, .003]), r.stderr
    r = run("train", "--data", folder, *TASK, "--epochs", 1, "--pretrain", 2, "--model", "mlp", "--out", tmp_path / "ce")
    assert r.returncode == 0 and "cross_entropy, autoencoder" in r.stderr, r.stderr


def results_of(out):
    return json.loads((out / "results.json").read_text())["objectives"][0]


def test_a_comparison_of_before_there_was_pretraining_goes_on(folder, tmp_path):
    compare = ["compare", "--data", folder, *TASK, "--objectives", "cross_entropy,deep_sad", "--epochs", 1, "--out", tmp_path / "runs"]
    assert run(*compare).returncode == 0
    for path in (tmp_path / "runs").rglob("config.toml"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(l for l in lines if not l.startswith("pretrain")))
    shutil.rmtree(tmp_path / "runs" / "deep_sad")
    r = run(*compare)
    assert r.returncode == 0 and "deep_sad: " in r.stderr and "cross_entropy: 1/" not in r.stderr, r.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_an_autoencoder_that_diverges_is_named_by_every_process(folder, tmp_path, processes):
    class Poisoned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.l = torch.nn.Linear(3 * 32 * 32, 8)

        def forward(self, x):
            features = self.l(x.flatten(1))
            return torch.log(features - features.max()) if self.training else features

    torch.jit.script(Poisoned()).save(str(tmp_path / "net.pt"))
    launch = ["launch", "-n", processes] if processes > 1 else []
    r = run(*launch, *one_kind(folder), "--model", tmp_path / "net.pt", "--pretrain", 1, "--out", tmp_path / "run")
    assert r.returncode == 4 and r.stderr.count("the autoencoder's loss is NaN") == processes and "no sign of life" not in r.stderr, r.stderr
    assert not checkpoints(tmp_path / "run")


@pytest.mark.parametrize("flags, error", [
    ({"--pretrain": -2}, "--pretrain: expected -1 to 1000000, got -2"),
    ({"--pretrain": 1, "--objective": "cross_entropy", "--known": "0,2", "--model": "linear"},
     "--pretrain: expected a network whose features are learned, got linear"),
    ({"--pretrain": 1, "--freeze": None, "--init": "run"}, "--pretrain: expected a network that learns, got one that stays as it is"),
    ({"--pretrain": 1, "--data": "clusters"}, "--pretrain: expected pictures to give back, got embeddings")])
def test_what_cannot_be_an_autoencoder(folder, clusters, tmp_path, flags, error):
    more = {f: {"clusters": clusters, "run": clusters / "run"}.get(v, v) for f, v in flags.items()}
    r = run(*one_kind(folder, more), "--out", tmp_path / "run")
    assert r.returncode == 2 and error in r.stderr.splitlines()[-1], r.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_an_interrupted_pretraining_begins_anew_and_a_finished_one_does_not(folder, tmp_path):
    def start(out):
        return subprocess.Popen([PROGRAM, *map(str, one_kind(folder)), "--out", str(out)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    whole = start(tmp_path / "whole")
    assert whole.wait() == 0

    def resumed(out):
        r = run("train", "--resume", out)
        assert r.returncode == 0, r.stderr
        assert weights(out) == weights(tmp_path / "whole")
        return r.stderr

    process = start(tmp_path / "early")
    while "autoencoder" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    last = process.communicate()[1].splitlines()[-1]
    assert process.returncode == 130 and last.endswith(f"begin it anew with: ood train --resume {tmp_path / 'early'}"), last
    assert len(autoencoder_errors(resumed(tmp_path / "early"))) == 10

    out = tmp_path / "late"
    process = start(out)
    wait_until(lambda: checkpoints(out), process)
    process.kill()
    process.wait()
    if not (out / "results.json").exists():
        assert not autoencoder_errors(resumed(out))
