"""A user's own data in every format, and runs that are interrupted, killed and resumed."""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import time

import numpy as np
import pytest

from conftest import BUILD

PROGRAM = str(BUILD / "bin" / "ood")
Image = pytest.importorskip("PIL.Image")


def run(*arguments, **more):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, **more)


def one_line(result, status):
    assert result.returncode == status, result.stderr
    lines = [l for l in result.stderr.splitlines() if l]
    assert len(lines) == 1, result.stderr
    return lines[0]


def checkpoints(out):
    return sorted((out / "checkpoints").glob("*.safetensors"))


def wait_until(holds, process):
    """Fails where the process ends before it does."""
    while not holds():
        ended = process.poll() is not None
        assert not ended or holds(), f"ended with status {process.returncode} before"
        time.sleep(.005)


def pictures(n, classes=4, side=32, channels=3, seed=0):
    """Pictures whose class is a colour and a stripe, all different."""
    g = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    x = g.integers(0, 60, (n, channels, side, side))
    for i, c in enumerate(labels):
        x[i, c % channels, c * 4:c * 4 + 8] += 120
    return x.astype(np.uint8), labels.astype(np.int64)


def write_png(folder, x, labels, end="png"):
    for i, (p, c) in enumerate(zip(x, labels)):
        where = folder / f"class{c}"
        where.mkdir(parents=True, exist_ok=True)
        array = p.transpose(1, 2, 0) if len(p) == 3 else p[0]
        Image.fromarray(array).save(where / f"{i:04}.{end}")


def write_idx(path, array):
    path.write_bytes(struct.pack(">BBBB", 0, 0, 8, array.ndim) +
                     b"".join(struct.pack(">I", s) for s in array.shape) + array.astype(np.uint8).tobytes())


def write_cifar(folder, train, test):
    folder.mkdir()
    half = len(train[1]) // 2
    parts = {"data_batch_1.bin": (train[0][:half], train[1][:half]),
             "data_batch_2.bin": (train[0][half:], train[1][half:]), "test_batch.bin": test}
    for name, (x, y) in parts.items():
        (folder / name).write_bytes(b"".join(bytes([c]) + p.tobytes() for p, c in zip(x, y)))
    (folder / "batches.meta.txt").write_text("".join(f"class{c}\n" for c in range(4)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The same pictures as folder of PNG, CIFAR binary and idx."""
    root = tmp_path_factory.mktemp("formats")
    train, test = pictures(240), pictures(80, seed=1)
    write_png(root / "folder" / "train", *train)
    write_png(root / "folder" / "test", *test)
    write_cifar(root / "cifar", train, test)
    (root / "idx").mkdir()
    for part, (x, y) in (("train", train), ("t10k", test)):
        write_idx(root / "idx" / f"{part}-images-idx4-ubyte", x)
        write_idx(root / "idx" / f"{part}-labels-idx1-ubyte", y)
    (root / "npy").mkdir()
    for part, (x, y) in (("train", train), ("test", test)):
        np.save(root / "npy" / f"{part}.npy", x.reshape(len(x), -1)[:, ::48].astype(np.float32))
        np.save(root / "npy" / f"{part}_labels.npy", y)
    return root


TASK = ["--known", "0,1,2", "--unknown", "3", "--batch-size", "16", "--threads", "1"]


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_the_same_pictures_give_the_same_weights_in_every_format(data, tmp_path):
    for kind in ("folder", "cifar", "idx"):
        r = run("train", "--data", data / kind, *TASK, "--epochs", 1, "--out", tmp_path / kind)
        assert r.returncode == 0, r.stderr
        results = json.loads((tmp_path / kind / "results.json").read_text())
        assert results["known"] == (["0", "1", "2"] if kind == "idx" else ["class0", "class1", "class2"])

    def tensors(kind):  # the names of the classes stand in the header
        raw = weights(tmp_path / kind)
        return raw[8 + struct.unpack("<Q", raw[:8])[0]:]

    assert tensors("folder") == tensors("cifar") == tensors("idx")


def test_classes_by_name(data, tmp_path):
    r = run("train", "--data", data / "cifar", "--known", "class0,class2", "--unknown", "class3", "--epochs", 1,
            "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["known"] == ["class0", "class2"]
    line = one_line(run("train", "--data", data / "cifar", "--known", "clas0", "--out", tmp_path / "x"), 2)
    assert "--known" in line and "did you mean class0" in line


def test_a_head_on_embeddings_and_its_scores(data, tmp_path):
    out = tmp_path / "run"
    r = run("train", "--data", data / "npy", *TASK, "--epochs", 20, "--out", out)
    assert r.returncode == 0, r.stderr
    assert json.loads((out / "results.json").read_text())["objectives"][0]["accuracy"] > .9
    r = run("score", out, data / "npy" / "test.npy", "--out", tmp_path / "scores.csv")
    assert r.returncode == 0, r.stderr
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[0] == "input,class,score,p_value,accepted,error" and len(lines) == 81
    assert {l.split(",")[4] for l in lines[1:]} <= {"accept", "reject"}


def test_a_table_of_numbers_is_embeddings(data, tmp_path):
    """Shuffled, as a spreadsheet writes it: the run is that of the same numbers as arrays."""
    rows, unlabelled = [], []
    for part in ("train", "test"):
        x, y = (np.load(data / "npy" / f"{part}{end}.npy") for end in ("", "_labels"))
        rows += [[*map(repr, map(float, r)), str(c), part] for r, c in zip(x, y)]
        unlabelled += [",".join(map(str, r)) for r in x] if part == "test" else []
    random.Random(0).shuffle(rows)
    header = [f"f{i}" for i in range(len(rows[0]) - 2)]
    table, new = tmp_path / "parts.csv", tmp_path / "new.csv"
    table.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(",".join(r) for r in [['"Label"', *header, "split"], *([r[-2], *r[:-2], r[-1]] for r in rows)]).encode())
    new.write_text("\n".join([",".join(header), *unlabelled]))
    for name, source in ("arrays", data / "npy"), ("table", table):
        assert run("train", "--data", source, *TASK, "--epochs", 2, "--out", tmp_path / name).returncode == 0
    assert weights(tmp_path / "table") == weights(tmp_path / "arrays")
    scores = {source.name: run("score", tmp_path / "table", source) for source in (data / "npy" / "test.npy", new, table)}
    assert scores["new.csv"].stdout == scores["test.npy"].stdout and len(scores["new.csv"].stdout.splitlines()) == 81
    assert "is a data set; takes its test data, 80" in scores["parts.csv"].stderr
    assert sorted(l.split(",", 1)[1] for l in scores["parts.csv"].stdout.splitlines()) == sorted(l.split(",", 1)[1] for l in scores["new.csv"].stdout.splitlines())
    # Its own rows set no threshold: they may stand elsewhere now, and those of unknown classes are among them.
    assert "would promise nothing" in one_line(run("threshold", tmp_path / "table", "--data", table), 2)
    # As pandas writes it, with an index, and as spreadsheets do where the comma is that of a number.
    new.write_text("\n".join([";" + ";".join(header), *(f"{i};" + l.replace(",", ";") for i, l in enumerate(unlabelled))]))
    r = run("score", tmp_path / "table", new)
    assert r.stdout == scores["test.npy"].stdout and "column 1 has no name and is left out, as an index" in r.stderr, r.stderr
    # Without a split every fifth row of a class is test data; rows of another width are named.
    undivided = tmp_path / "undivided.csv"
    undivided.write_text("\n".join(",".join(r[:-1]) for r in [[*header, "label", ""], *rows]))
    r = run("train", "--data", undivided, *TASK, "--epochs", 1, "--out", tmp_path / "fifth")
    assert r.returncode == 0 and "every 5th sample of a class is that" in r.stderr, r.stderr
    assert len(run("score", tmp_path / "fifth", undivided).stdout.splitlines()) == 321
    # Labels as pandas writes them, with blanks; numbers beyond float32's small ones.
    again = tmp_path / "again.csv"
    again.write_text("\n".join([",".join([*header, " Label "])] + [",".join(["+1e-60" if float(v) == 0 else f" {v}" for v in r[:-2]] + [f" {r[-2]}.0 "]) for r in rows]))
    assert run("train", "--data", again, *TASK, "--epochs", 1, "--out", tmp_path / "again").returncode == 0
    assert weights(tmp_path / "again") == weights(tmp_path / "fifth")
    narrow = tmp_path / "narrow.csv"
    narrow.write_text("a,b\n1,2\n")
    assert "of 2 numbers" in one_line(run("eval", tmp_path / "table", "--ood-data", f"narrow={narrow}"), 3)
    assert "got embeddings of 2 numbers" in one_line(run("score", tmp_path / "table", narrow), 3)


def test_thresholds_change_without_training(data, tmp_path):
    out = tmp_path / "run"
    assert run("train", "--data", data / "npy", *TASK, "--epochs", 2, "--validation", .5, "--out", out).returncode == 0

    def rejected(*flags):
        r = run("score", out, data / "npy" / "test.npy", *flags)
        assert r.returncode == 0, r.stderr
        return sum(",reject," in l for l in r.stdout.splitlines()), r.stderr
    assert rejected("--false-alarms", .3)[0] >= rejected("--false-alarms", .1)[0]
    assert rejected("--tpr", .7)[0] == rejected("--false-alarms", .3)[0]
    assert "excludes" in run("score", out, data / "npy" / "test.npy", "--tpr", .7, "--false-alarms", .3).stderr
    r = run("threshold", out, "--false-alarms", .3)
    assert r.returncode == 0 and "at most 30 % of ID inputs rejected, confidence 95 %" in r.stdout, r.stderr
    n, line = rejected()
    assert n == rejected("--false-alarms", .3)[0] and "at most 30 %" in line
    import torch
    import ood
    loaded = ood.load_run(out)
    value = float(next(l for l in r.stdout.splitlines() if l.startswith("threshold")).split()[1].rstrip(";"))
    assert loaded.threshold() == pytest.approx(value) and loaded.threshold(.9) >= loaded.threshold()
    assert not loaded.detect(torch.zeros(0, *loaded.mean.shape[1:2]))[2].numel()
    line = one_line(run("threshold", out, "--false-alarms", .0001), 3)
    assert "expected at least 29956 held-out scores to promise it" in line
    assert json.loads((out / "results.json").read_text())["objectives"][0]["false_alarms"] < .3
    assert run("eval", out).returncode == 0  # by the stored rule
    assert json.loads((out / "eval.json").read_text())["objectives"][0]["false_alarms"] == .3
    assert "--tpr: expected a share between 0 and 1, got 1" in one_line(run("threshold", out, "--tpr", 1), 2)
    line = one_line(run("threshold", out, "--false-alarms", 1.5), 2)
    assert "--false-alarms: expected a share between 0 and 1, got 1.5" in line
    assert run("train", "--data", data / "npy", *TASK, "--epochs", 1, "--out", out, "--overwrite").returncode == 0
    assert not (out / "threshold.json").exists()  # another model, another promise
    # Format 7 had it beside the model, which may lie there still.
    import ood
    (out / "threshold.json").write_text("{")
    assert run("score", out, data / "npy" / "test.npy").returncode == 0
    tensors, metadata = ood.runs.read_safetensors(out / "model.safetensors")
    ood.runs.write_safetensors(out / "model.safetensors", tensors, {**metadata, "format_version": "7"})
    assert "expected false_alarms and confidence" in one_line(run("score", out, data / "npy" / "test.npy"), 3)
    with pytest.raises(ValueError, match="threshold.json: expected false_alarms and confidence"):
        ood.load_run(out)
    (out / "threshold.json").write_text('{"false_alarms": 0.3, "confidence": 0.9}')
    told = run("threshold", out).stdout
    assert "at most 30 % of ID inputs rejected, confidence 90 %" in told
    assert ood.load_run(out).threshold() == pytest.approx(float(value_of("threshold", told).split(";")[0]), rel=1e-9)
    assert not list(out.glob("*ood-tmp"))


def value_of(line, text):
    return next(l for l in text.splitlines() if l.startswith(line)).split(None, 1)[1]


def test_a_run_takes_another_score(data, tmp_path):
    """Fitted with the run, told by `threshold`, `eval` and Python alike, deployed in the one file, and left again."""
    import ood
    import torch
    out, many = tmp_path / "run", tmp_path / "many"
    many.mkdir()
    for part, n, seed in (("train", 800, 1), ("test", 80, 2)):
        x, y = pictures(n, side=16, channels=1, seed=seed)
        np.save(many / f"{part}.npy", x[:, 0, ::2, ::2].reshape(n, -1).astype(np.float32))
        np.save(many / f"{part}_labels.npy", y)
    inputs = many / "test.npy"
    assert run("train", "--data", many, *TASK, "--epochs", 2, "--validation", .3, "--out", out).returncode == 0
    before, joint = run("score", out, inputs).stdout, run("threshold", out).stdout
    assert value_of("score", joint) == "joint"
    r = run("fit", out, "--score", "knn", "--knn.k", 5)
    assert r.returncode == 0 and value_of("the run's score:", r.stdout).endswith("knn"), r.stderr
    told = run("threshold", out).stdout
    assert value_of("score", told) == "knn" and float(value_of("threshold", told).split(";")[0]) > 0
    # A score that learned nothing of the held-out data has all of them for its threshold.
    half, whole = (int(value_of("held-out ID data", t).split()[2].rstrip(",")) for t in (joint, told))
    assert whole in (2 * half, 2 * half - 1)
    alone = tmp_path / "product" / "model.safetensors"
    alone.parent.mkdir()
    alone.write_bytes((out / "model.safetensors").read_bytes())
    r = run("score", alone, inputs)
    rows = [l.split(",") for l in r.stdout.splitlines()[1:]]
    assert r.returncode == 0 and r.stdout != before
    loaded = ood.load_run(alone)
    classes, scores, accepted = loaded.detect(np.load(inputs).astype(np.float32))
    assert loaded.score_name == "knn"
    assert np.allclose(scores.double().numpy(), [float(row[2]) for row in rows], atol=1e-6)
    assert accepted.tolist() == [row[4] == "accept" for row in rows]
    bank = ood.runs.read_safetensors(alone)[0]["scores.knn.bank"]
    logits, features = loaded(np.load(inputs).astype(np.float32))
    by_hand = 2 - 2 * (torch.nn.functional.normalize(features.double(), dim=1) @ bank.double().T).topk(5).values[:, -1]
    assert torch.allclose(by_hand.clamp_min(0).sqrt(), scores.double(), atol=1e-4)
    r = run("eval", out)
    assert r.returncode == 0 and json.loads((out / "eval.json").read_text())["objectives"][0]["score"] == "knn"
    assert float(value_of("threshold", told).split(";")[0]) == pytest.approx(
        json.loads((out / "eval.json").read_text())["objectives"][0]["threshold"], rel=1e-9)
    assert run("fit", out, "--score", "auto").returncode == 0 and run("score", out, inputs).stdout == before
    line = one_line(run("fit", out, "--score", "neighbours"), 2)
    assert "--score: expected auto, own, joint or one of `ood scores`, got neighbours" in line
    line = one_line(run("train", "--data", data / "npy", *TASK, "--score", "neighbours", "--out", tmp_path / "x"), 2)
    assert "got neighbours" in line and not (tmp_path / "x").exists()


def test_what_was_trained_is_kept_where_its_score_cannot_be(data, tmp_path):
    out = tmp_path / "run"
    r = run("train", "--data", data / "npy", *TASK, "--epochs", 1, "--score", "joint", "--validation", .1, "--out", out)
    assert r.returncode == 0 and "warning: --score: joint cannot be computed: too little is held out; the run's score is msp" in r.stderr
    r = run("fit", out, "--score", "joint")
    assert r.returncode == 2 and "joint cannot be computed" in r.stderr.splitlines()[-1]
    assert run("fit", out, "--score", "own").returncode == 0


def test_a_threshold_by_other_data(data, tmp_path):
    """By scores of inputs that the training did not see, without labels; `score`, `eval` and Python use it."""
    import ood
    import torch
    out = tmp_path / "run"
    few = ["--epochs", 2, "--validation", .05, "--out", out]
    assert run("train", "--data", data / "npy", *TASK, *few).returncode == 0
    x, y = np.load(data / "npy" / "test.npy"), np.load(data / "npy" / "test_labels.npy")
    known = x[np.isin(y, [0, 1, 2])]
    np.save(tmp_path / "more.npy", known)
    line = one_line(run("threshold", out, "--false-alarms", .1), 3)
    assert "expected at least 29 held-out scores" in line
    r = run("threshold", out, "--false-alarms", .1, "--data", tmp_path / "more.npy")
    assert r.returncode == 0 and f"{len(known)} of {tmp_path}/more.npy, of which it rejects" in r.stdout, r.stderr
    value = float(value_of("threshold", r.stdout).split(";")[0])
    rows = [l.split(",") for l in run("score", out, tmp_path / "more.npy").stdout.splitlines()[1:]]
    scores = sorted(float(row[2]) for row in rows)
    assert value == pytest.approx(ood.metrics.threshold_for(torch.tensor(scores, dtype=torch.double), .1).value, rel=1e-9)
    assert sum(row[4] == "reject" for row in rows) == sum(s > value + 1e-9 for s in scores) > 0
    assert ood.load_run(out).threshold() == pytest.approx(value, rel=1e-9)
    assert run("eval", out).returncode == 0
    assert json.loads((out / "eval.json").read_text())["objectives"][0]["threshold"] == pytest.approx(value, rel=1e-9)
    # What was learned promises nothing; damage loses nothing.
    model = (out / "model.safetensors").read_bytes()
    for learned in (data / "npy" / "train.npy",):
        assert "a threshold by it would promise nothing" in one_line(run("threshold", out, "--data", learned), 2)
    assert (out / "model.safetensors").read_bytes() == model
    (tmp_path / "bad.npy").write_bytes((tmp_path / "more.npy").read_bytes()[:200])
    assert run("threshold", out, "--data", tmp_path / "bad.npy").returncode == 3
    line = one_line(run("threshold", out, "--data", tmp_path / "more.npy", "--false-alarms", 1e-6), 3)
    assert "held-out scores" in line and (out / "model.safetensors").read_bytes() == model
    # The rule is in the file, wherever that goes.
    alone = tmp_path / "product.safetensors"
    alone.write_bytes(model)
    assert "at most 10 %" in run("threshold", alone).stdout and ood.load_run(alone).threshold() == pytest.approx(value, rel=1e-9)
    assert "at most 10 %" in run("score", alone, tmp_path / "more.npy").stderr
    assert run("threshold", out, "--reset").returncode == 0 and "at most 10 %" not in run("threshold", out).stdout
    assert run("fit", out).returncode == 0 and "of " + str(tmp_path) not in run("threshold", out).stdout


def test_what_a_run_learned_sets_no_threshold(data, tmp_path):
    out = tmp_path / "run"
    assert run("train", "--data", data / "folder", *TASK, "--epochs", 1, "--out", out).returncode == 0
    folder = data / "folder"
    for learned in (folder, folder / "train", folder / "train" / "class0"):
        assert "a threshold by it would promise nothing" in one_line(run("threshold", out, "--data", learned), 2), learned
    assert run("threshold", out, "--data", folder / "test" / "class0", "--false-alarms", .3).returncode == 0
    # Nor what holds it, names it or leads to it.
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"{p}\n" for p in (folder / "train" / "class1").iterdir()))
    (tmp_path / "link").symlink_to(folder / "train")
    for learned in (tmp_path / "list.csv", tmp_path / "link", folder / "train" / "class0" / "0000.png"):
        assert "would promise nothing" in one_line(run("threshold", out, "--data", learned), 2), learned
    # A class is none of the parts, whatever it begins with; without parts all is learned but every fifth picture.
    whole = tmp_path / "whole"
    shutil.copytree(folder / "train", whole)
    (whole / "class0").rename(whole / "testtubes")
    assert run("train", "--data", whole, "--known", "testtubes,class1,class2", "--unknown", "class3", "--epochs", 1,
               "--out", tmp_path / "parts").returncode == 0
    assert "would promise nothing" in one_line(run("threshold", tmp_path / "parts", "--data", whole / "testtubes"), 2)
    fifth = tmp_path / "fifth.csv"
    fifth.write_text("path\n" + "".join(f"{p}\n" for p in sorted((whole / "testtubes").iterdir())[4::5]))
    assert run("threshold", tmp_path / "parts", "--data", fifth, "--false-alarms", .4).returncode == 0
    # The reader of arrays says which are the test part.
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    for path in (data / "npy").glob("*.npy"):
        (arrays / path.name.replace("train", "trainset").replace("test", "testset")).write_bytes(path.read_bytes())
    (arrays / "._trainset.npy").write_bytes(b"of another system")
    arrayed = tmp_path / "arrayed"
    assert run("train", "--data", arrays, *TASK, "--epochs", 1, "--out", arrayed).returncode == 0
    assert run("threshold", arrayed, "--data", arrays / "testset.npy", "--false-alarms", .3).returncode == 0
    assert "would promise nothing" in one_line(run("threshold", arrayed, "--data", arrays / "trainset.npy"), 2)
    classes = tmp_path / "classes"
    classes.mkdir()
    x, y = np.load(data / "npy" / "train.npy"), np.load(data / "npy" / "train_labels.npy")
    for c, name in enumerate(("boots", "crash test", "cups")):
        np.save(classes / f"{name}.npy", x[y == c])
    assert run("train", "--data", classes, "--known", "crash test,cups", "--unknown", "boots", "--epochs", 1, "--out", tmp_path / "cups").returncode == 0
    assert "would promise nothing" in one_line(run("threshold", tmp_path / "cups", "--data", classes / "crash test.npy"), 2)
    # Under another name the model is of its run, too, and a configuration that cannot be read is said.
    (arrayed / "model.bak").write_bytes((arrayed / "model.safetensors").read_bytes())
    config = (arrayed / "config.toml").read_text()
    (arrayed / "config.toml").write_text("# the best run\n\n" + config)
    assert "would promise nothing" in one_line(run("threshold", arrayed / "model.bak", "--data", arrays / "trainset.npy"), 2)
    (arrayed / "config.toml").write_text(config.replace("format = 2", "format = 99"))
    assert "format 99" in one_line(run("train", "--data", arrays, *TASK, "--init", arrayed / "model.safetensors", "--out", tmp_path / "x"), 3)
    assert run("train", *TASK, "--limit-train", 200, "--limit-test", 50, "--epochs", 1, "--out", tmp_path / "fashion").returncode == 0
    images = next(pathlib.Path("/usr/share/datasets/fashion-mnist").glob("train-images*"))
    assert "a threshold by it would promise nothing" in one_line(run("threshold", tmp_path / "fashion", "--data", images), 2)


def test_what_is_taken_of_arrays_is_said(data, tmp_path):
    """Of a whole data set that is scored the test part alone, and val in place of a share of the training data."""
    parts = {f"{a}_{part}": np.load(data / "npy" / f"{part}{end}.npy") for part in ("train", "test") for a, end in (("x", ""), ("y", "_labels"))}
    np.savez(tmp_path / "set.npz", **parts, x_val=parts["x_test"], y_val=parts["y_test"])
    out = tmp_path / "run"
    r = run("train", "--data", tmp_path / "set.npz", *TASK, "--epochs", 1, "--out", out)
    assert r.returncode == 0 and "val is held out; --validation plays no part" in r.stderr, r.stderr
    r = run("score", out, tmp_path / "set.npz")
    assert len(r.stdout.splitlines()) == 81 and "is a data set; takes its test data, 80" in r.stderr
    np.savez(tmp_path / "bad.npz", **parts, x_val=parts["x_test"], y_val=parts["y_test"] - 5)
    assert "expected labels 0 to 99999, got -5" in one_line(run("train", "--data", tmp_path / "bad.npz", *TASK, "--out", tmp_path / "x"), 3)
    assert run("eval", out).returncode == 0
    assert "<h2>Training" in (out / "report.html").read_text()
    assert "<h2>Training" not in (out / "eval.html").read_text() and "0.0 s" not in (out / "eval.html").read_text()
    assert "cannot be written" not in one_line(run("fit", out / "model.safetensors"), 3)


def test_a_picture_beside_arrays_is_none_of_the_data(data, tmp_path):
    out, arrays = tmp_path / "run", tmp_path / "arrays"
    assert run("train", "--data", data / "npy", *TASK, "--epochs", 1, "--out", out).returncode == 0
    arrays.mkdir()
    for path in (data / "npy").glob("*.npy"):
        (arrays / path.name).write_bytes(path.read_bytes())
    (arrays / "plot.gif").write_bytes(b"GIF89a")
    r = run("score", out, arrays)
    assert r.returncode == 0 and r.stdout == run("score", out, data / "npy" / "test.npy").stdout
    assert "is a data set; takes its test data, 80" in r.stderr
    (arrays / "test.npy").chmod(0o644)
    before = (arrays / "test.npy").read_bytes()
    assert "another place than that of the data" in one_line(run("score", out, arrays, "--out", arrays / "test.npy"), 2)
    assert (arrays / "test.npy").read_bytes() == before
    for _ in range(2):
        assert run("score", out, arrays, "--out", arrays / "scores.csv").returncode == 0


def test_scores_and_model_are_of_one_fit(data, tmp_path):
    """A fit that ended between its two files is noticed; one without --score keeps the run's."""
    out = tmp_path / "run"
    assert run("train", "--data", data / "npy", *TASK, "--epochs", 1, "--validation", .3, "--out", out).returncode == 0
    assert run("fit", out, "--score", "knn", "--knn.k", 5).returncode == 0
    model = (out / "model.safetensors").read_bytes()
    r = run("fit", out, "--knn.k", 9)
    assert r.returncode == 0 and "the run's score: knn" in r.stdout
    (out / "model.safetensors").write_bytes(model)
    assert "were not fitted at once" in one_line(run("eval", out), 3)
    # A rule that the held-out data cannot keep is said where it comes about.
    assert run("fit", out, "--score", "own").returncode == 0
    np.save(tmp_path / "more.npy", np.tile(np.load(data / "npy" / "test.npy"), (5, 1)))
    assert run("threshold", out, "--data", tmp_path / "more.npy", "--false-alarms", .01).returncode == 0
    r = run("fit", out)
    assert r.returncode == 0 and f"no longer by {tmp_path}/more.npy" in r.stderr, r.stderr
    assert "warning: `ood score` will refuse this run: --false-alarms 0.01: expected at least 299" in r.stderr


def test_a_run_is_not_changed_by_its_use(data, tmp_path):
    import ood
    import torch
    out = tmp_path / "run"
    assert run("train", "--data", data / "folder", *TASK, "--epochs", 1, "--out", out).returncode == 0
    loaded, x = ood.load_run(out), torch.from_numpy(pictures(16)[0])
    before = loaded.detect(x)[1]
    loaded.train()
    assert loaded.detect(x)[1].equal(before) and loaded.training
    for wrong in (x > 127, x.to(torch.int8), x.int()):
        with pytest.raises(ValueError, match="expected uint8 inputs of shape"):
            loaded.detect(wrong)


def test_a_single_sample_is_trained_with_not_held_out(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (6, 8, 8)).astype(np.uint8)
    for part, rows in (("train", x[:1]), ("test", x[1:])):
        np.save(tmp_path / f"{part}.npy", rows)
        np.save(tmp_path / f"{part}_labels.npy", np.zeros(len(rows), np.int64))
    r = run("train", "--data", tmp_path, "--objective", "deep_svdd", "--known", "0", "--validation", .6, "--epochs", 1,
            "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["train_samples"] == 1


def test_names_of_paths_that_end_in_a_slash(data, tmp_path):
    outliers = tmp_path / "stones"
    write_png(outliers, *pictures(12, seed=5))
    r = run("train", "--data", f"{data / 'folder'}/", *TASK, "--objective", "outlier_exposure", "--outliers", f"{outliers}/",
            "--epochs", 1, "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["outliers"] == ["stones"]


def test_patience_without_an_accuracy_is_said(data, tmp_path):
    r = run("train", "--data", data / "folder", "--known", "0", "--unknown", "3", "--objective", "deep_svdd", "--patience", 1,
            "--epochs", 2, "--out", tmp_path / "run")
    assert r.returncode == 0 and "warning: --patience: deep_svdd classifies nothing" in r.stderr, r.stderr


def test_what_chose_the_epoch_sets_no_threshold(data, tmp_path):
    def held_out(*flags):
        assert run("train", "--data", data / "npy", *TASK, "--epochs", 2, "--validation", .3, "--score", "own", *flags, "--overwrite",
                   "--out", tmp_path / "run").returncode == 0
        return int(value_of("held-out ID data", run("threshold", tmp_path / "run").stdout).split()[2].rstrip(","))
    whole, half = held_out(), held_out("--patience", 2)
    assert half == whole - whole // 2
    assert run("fit", tmp_path / "run").returncode == 0
    assert f"held-out ID data {half}," in run("threshold", tmp_path / "run").stdout


def test_the_data_are_no_output(data, tmp_path):
    assert run("train", "--data", data / "npy", *TASK, "--epochs", 1, "--out", tmp_path / "run").returncode == 0
    mine = tmp_path / "mine.npy"
    mine.write_bytes((data / "npy" / "test.npy").read_bytes())
    assert "another place than that of the data" in one_line(run("score", tmp_path / "run", mine, "--out", mine), 2)
    assert mine.read_bytes() == (data / "npy" / "test.npy").read_bytes()


@pytest.mark.parametrize("command", [["eval", "--limit-test", -5], ["eval", "--threads", -3], ["fit", "--bank", -7], ["fit", "--threads", 5000]])
def test_numbers_out_of_range_are_no_default(data, tmp_path, command):
    assert run("train", "--data", data / "npy", *TASK, "--epochs", 1, "--out", tmp_path / "run").returncode == 0
    assert f"{command[1]}: expected" in one_line(run(command[0], tmp_path / "run", *command[1:]), 2)


def test_scores_without_a_bound_lie_in_the_last_bin(tmp_path):
    g = np.random.default_rng(0)
    for part, n in (("train", 200), ("test", 50)):
        np.save(tmp_path / f"{part}.npy", g.normal(size=(n, 6)).astype(np.float32))
        np.save(tmp_path / f"{part}_labels.npy", np.zeros(n, np.int64))
    np.save(tmp_path / "far.npy", np.full((20, 6), 1e25, np.float32))
    r = run("train", "--data", tmp_path, "--objective", "deep_svdd", "--known", "0", "--ood-data", f"far={tmp_path}/far.npy",
            "--epochs", 1, "--validation", .1, "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    o = json.loads((tmp_path / "run" / "results.json").read_text())["objectives"][0]
    h = o["curves"]["far"]["histogram"] if "histogram" in o["curves"]["far"] else o["histograms"]["far"]
    assert h["high"] is not None and h["ood"][-1] == pytest.approx(1)


def test_a_training_under_nohup_outlives_its_terminal(data, tmp_path):
    out = tmp_path / "run"
    command = [PROGRAM, *map(str, ["train", "--data", data / "npy", *TASK, "--epochs", 3000, "--validation", .3, "--checkpoint", 20, "--out", out])]
    p = subprocess.Popen(["nohup", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_until(lambda: checkpoints(out), p)
    p.send_signal(signal.SIGHUP)
    time.sleep(.5)
    assert p.poll() is None
    p.send_signal(signal.SIGINT)
    assert p.wait(60) == 130


def test_numbers_that_are_not_finite_are_no_input(data, tmp_path):
    """Embeddings that a network with large weights cannot add up."""
    import ood
    import torch
    assert run("train", "--data", data / "npy", *TASK, "--epochs", 1, "--validation", .7, "--out", tmp_path / "run").returncode == 0
    loaded, out = ood.load_run(tmp_path / "run"), tmp_path / "large.safetensors"
    with torch.no_grad():
        next(loaded.network.parameters()).mul_(1e3)
    loaded.save_network(out)
    x = np.load(data / "npy" / "test.npy").astype(np.float32)[:8]
    np.save(tmp_path / "clean.npy", x)
    clean = run("score", out, tmp_path / "clean.npy").stdout.splitlines()
    x[3] = 3e38
    np.save(tmp_path / "huge.npy", x)
    r = run("score", out, tmp_path / "huge.npy")
    lines = r.stdout.splitlines()
    assert r.returncode == 0 and lines[4] == "3,,,,,the network's numbers for it are not finite", r.stderr
    assert "warning: not scored: 1" in r.stderr and "scored 7:" in r.stderr
    assert [l for i, l in enumerate(lines) if i != 4] == [l for i, l in enumerate(clean) if i != 4]
    classes, scores, accepted = ood.load_run(out).detect(x)
    assert classes[3] == -1 and scores[3].isnan() and not accepted[3] and not scores[:3].isnan().any()


def test_all_scores_are_fitted_again_with_other_parameters(data, tmp_path):
    out = tmp_path / "run"
    assert run("train", "--data", data / "folder", *TASK, "--epochs", 1, "--bank", 100, "--out", out).returncode == 0

    def bank():
        raw = (out / "scores.safetensors").read_bytes()
        header = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
        return header["scores.knn.bank"]["shape"][0], json.loads(header["__metadata__"]["scores"])["parameters"]["knn"]
    assert bank() == (100, [50.])
    r = run("fit", out, "--bank", 40, "--knn.k", 7)
    assert r.returncode == 0 and "knn" in r.stdout and bank() == (40, [7.]), r.stderr
    assert run("eval", out).returncode == 0
    line = one_line(run("fit", out, "--knn.q", 7), 2)
    assert "--knn.q" in line and "--knn.k" in line
    assert "mds_pp: expected ridge" in one_line(run("fit", out, "--mds_pp.ridge", -1), 2)
    r = run("fit", out, "--bank", 5)
    assert r.returncode == 0 and "without knn: knn: expected at least k = 50 training rows, got 5" in r.stderr
    (out / "scores.safetensors").unlink()
    assert "scores.safetensors" in one_line(run("eval", out), 3)


def test_scores_of_pictures_name_the_files(data, tmp_path):
    out = tmp_path / "run"
    assert run("train", "--data", data / "folder", *TASK, "--epochs", 3, "--out", out).returncode == 0
    r = run("score", out, data / "folder" / "test" / "class0", "--tpr", ".8")
    assert r.returncode == 0, r.stderr
    rows = [l.split(",") for l in r.stdout.splitlines()[1:]]
    assert len(rows) == 20 and all(row[0].endswith(".png") and row[1].startswith("class") for row in rows)
    # The rule of eval: the accuracy of both must agree.
    accuracy = json.loads((out / "results.json").read_text())["objectives"][0]["accuracy"]
    right = 0
    for c in range(3):
        r = run("score", out, data / "folder" / "test" / f"class{c}")
        right += sum(row.split(",")[1] == f"class{c}" for row in r.stdout.splitlines()[1:])
    assert abs(right / 60 - accuracy) < 1e-9
    assert "the run takes pictures, got embeddings of 64 numbers" in one_line(run("score", out, data / "npy" / "test.npy"), 3)
    assert "no such file" in one_line(run("score", out, tmp_path / "nowhere"), 3)


def test_a_picture_that_does_not_decode_is_a_row_with_its_reason(data, tmp_path):
    out = tmp_path / "run"
    assert run("train", "--data", data / "folder", *TASK, "--epochs", 2, "--out", out).returncode == 0
    new = tmp_path / "new"
    write_png(new, *pictures(100))
    clean = run("score", out, new).stdout
    good = dict(l.split(",", 1) for l in clean.splitlines()[1:])
    (new / "class0" / "empty.png").write_bytes(b"")
    (new / "class0" / "._0000.png").write_bytes(b"resource fork")
    Image.fromarray(np.zeros((9, 9, 4), np.uint8), "CMYK").save(new / "class1" / "cmyk.jpg")
    (new / "class1" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (new / "again").symlink_to(new)
    (new / "class1" / "film.gif").write_bytes(b"GIF89a")
    r = run("score", out, new)
    assert r.returncode == 0 and "warning: not scored: 5; column error says why" in r.stderr, r.stderr
    rows = dict(l.split(",", 1) for l in r.stdout.splitlines()[1:])
    assert {k: v for k, v in rows.items() if k in good} == good and len(rows) == len(good) + 5
    assert rows[f"{new}/class1/film.gif"] == ',,,,"expected PNG, JPEG, WebP or TIFF, got another format"'
    assert rows[f"{new}/class0/empty.png"].startswith(',,,,"expected a PNG, JPEG, WebP or TIFF')
    assert "CMYK" in rows[f"{new}/class1/cmyk.jpg"] and "cannot be opened" in rows[f"{new}/class1/gone.jpg"]
    assert "a link to a folder that it lies in" in rows[f"{new}/again"]
    r = run("score", out, new / "class0" / "empty.png")
    assert r.returncode == 3 and "expected inputs that can be scored, got none" in r.stderr.splitlines()[-1]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_scores_do_not_depend_on_threads_and_go_into_what_is_no_file(data, tmp_path, threads):
    out = tmp_path / "run"
    assert run("train", "--data", data / "folder", *TASK, "--epochs", 2, "--out", out).returncode == 0
    whole = run("score", out, data / "folder", "--threads", 1).stdout
    assert run("score", out, data / "folder", "--threads", threads).stdout == whole
    assert run("score", out, data / "folder", "--threads", threads, "--out", "/dev/null").returncode == 0
    assert not pathlib.Path("/dev/null").is_file()
    line = run("score", out, data / "folder", "--out", "/dev/full").stderr.splitlines()[-1]
    assert "/dev/full: cannot be written: No space left on device" in line
    assert "no/such/folder" in one_line(run("score", out, data / "folder", "--out", tmp_path / "no/such/folder/x.csv"), 3)


def test_accepted_inputs_are_counted_not_wished(data, tmp_path):
    """With ties every input is accepted, and that is what is said."""
    x, y = pictures(240)
    (tmp_path / "same").mkdir()
    for part, rows in (("train", x), ("test", x[:80])):
        np.save(tmp_path / "same" / f"{part}.npy", np.zeros((len(rows), 4), np.float32) + y[:len(rows), None])
        np.save(tmp_path / "same" / f"{part}_labels.npy", y[:len(rows)])
    out = tmp_path / "run"
    assert run("train", "--data", tmp_path / "same", *TASK, "--epochs", 1, "--out", out).returncode == 0
    r = run("score", out, tmp_path / "same" / "test.npy", "--tpr", .7)
    accepted = sum(",accept," in l for l in r.stdout.splitlines())
    assert f"scored 80: {accepted} accepted, {80 - accepted} rejected" in r.stderr
    assert "at most 30 % of ID inputs rejected" in r.stderr


def test_outliers_from_a_path_and_synthetic_ones(data, tmp_path):
    common = ["--data", data / "folder", *TASK, "--epochs", 1, "--objective", "outlier_exposure"]
    x, y = pictures(40, seed=7)
    write_png(tmp_path / "others", x, y)
    r = run("train", *common, "--outliers", tmp_path / "others", "--out", tmp_path / "a")
    assert r.returncode == 0 and "warning" not in r.stderr, r.stderr
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["outlier_samples"] == 36 and results["outliers"] == ["others"]
    r = run("train", *common, "--synthetic-outliers", "noise,blur,patch-shuffle,cutmix", "--out", tmp_path / "b")
    assert r.returncode == 0, r.stderr
    assert "blurr" in one_line(run("train", *common, "--synthetic-outliers", "blurr", "--out", tmp_path / "c"), 2)
    # The same pictures as outliers and as a test set are told.
    r = run("train", *common, "--outliers", tmp_path / "others", "--ood-data", f"x={tmp_path}/others",
            "--out", tmp_path / "d")
    assert r.returncode == 0 and "40 of 40 samples of OOD test set x are also outliers" in r.stderr
    assert "also samples of the known classes" not in r.stderr and "held-out samples are also" not in r.stderr
    (tmp_path / "twice").mkdir()
    known = sorted((data / "folder" / "test" / "class0").iterdir())[:7]
    for f in (*known, *sorted((tmp_path / "others").rglob("*.png"))[:5]):
        (tmp_path / "twice" / f"{f.parent.name}-{f.parents[1].name}-{f.name}").write_bytes(f.read_bytes())
    r = run("train", *common, "--ood-data", f"y={tmp_path}/twice", "--out", tmp_path / "e")
    assert r.returncode == 0 and "7 of 12 samples of OOD test set y are also samples of the known classes" in r.stderr, r.stderr


def test_margins_are_proposed_from_held_out_data(data, tmp_path):
    out = tmp_path / "run"
    common = ["--data", data / "folder", "--known", "0,1", "--outliers", "2", "--unknown", "3", "--epochs", 3]
    assert run("train", *common, "--out", out).returncode == 0
    r = run("margins", out)
    assert r.returncode == 0 and "--objective.margin_in" in r.stdout, r.stderr
    assert run("train", "--data", data / "folder", *TASK, "--epochs", 1, "--out", tmp_path / "none").returncode == 0
    assert "without outliers" in one_line(run("margins", tmp_path / "none"), 2)


def test_fine_tuning_starts_from_a_run(data, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("train", "--data", data / "folder", *TASK, "--epochs", 4, "--out", first).returncode == 0
    r = run("train", "--data", data / "folder", *TASK, "--epochs", 1, "--init", first, "--lr", ".001", "--out", second)
    assert r.returncode == 0, r.stderr
    start = json.loads((second / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    fresh = json.loads((first / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    assert start < .5 * fresh
    r = run("train", "--data", data / "npy", *TASK, "--epochs", 1, "--init", first, "--out", tmp_path / "x")
    assert "--init" in one_line(r, 3)


def last_layer(out):
    import ood
    return ood.runs.read_safetensors(out / "model.safetensors")[0]["fc.weight"]


@pytest.fixture(scope="module")
def plain_training(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain") / "run"
    assert run("train", "--data", data / "folder", *TASK, "--epochs", 2, "--out", out).returncode == 0
    return last_layer(out)


@pytest.mark.parametrize("flags", [
    ["--optimizer", "adamw"], ["--clip", ".01"], ["--accumulate", "3"], ["--precision", "bf16"],
    ["--augment", "flip,crop"], ["--model", "mlp"], ["--image-size", "16"]], ids=lambda f: f[0])
def test_options_of_training(data, tmp_path, plain_training, flags):
    out = tmp_path / "run"
    r = run("train", "--data", data / "folder", *TASK, "--epochs", 2, *flags, "--out", out)
    assert r.returncode == 0, r.stderr
    assert json.loads((out / "results.json").read_text())["objectives"][0]["accuracy"] > .3
    assert not last_layer(out).equal(plain_training)


def test_patience_ends_a_training(data, tmp_path):
    out = tmp_path / "run"
    r = run("train", "--data", data / "folder", *TASK, "--epochs", 40, "--patience", 1, "--validation", .2, "--out", out)
    assert r.returncode == 0, r.stderr
    result = json.loads((out / "results.json").read_text())["objectives"][0]
    assert result["best_step"] < result["steps"] < 40 * 9


def test_every_training_of_a_comparison_shows_how_far_it_is(data, tmp_path):
    """Also one that follows another of its name which ended early."""
    flags = ["--epochs", 20, "--patience", 1, "--validation", .2, "--objectives", "cross_entropy", "--seeds", 2]
    r = run("compare", "--data", data / "npy", *TASK, *flags, "--out", tmp_path)
    assert r.returncode == 0, r.stderr
    seen = [l.split()[1].rstrip(",").split("/") for l in r.stderr.splitlines() if l.startswith("cross_entropy: ")]
    done = [int(a) for a, _ in seen]
    of_first = json.loads((tmp_path / "seed-0" / "cross_entropy" / "results.json").read_text())["objectives"][0]["steps"]
    assert of_first < int(seen[0][1]) and any(b <= a for a, b in zip(done, done[1:])), r.stderr


def test_a_training_that_has_stopped_early_stays_so(data, tmp_path):
    """Where what follows the last epoch fails, as on a full disk, a resume trains no further one."""
    out = tmp_path / "run"
    process = start(data, out, [*TASK, "--epochs", "40", "--patience", "1", "--validation", "0.2"])
    wait_until(lambda: len(checkpoints(out)) > 1, process)
    process.kill()
    process.wait()
    blocked = out / "scores.safetensors" / "in the way"
    blocked.mkdir(parents=True)
    assert run("train", "--resume", out).returncode == 3
    trained = steps_of(out)
    assert len(trained) < 40 * 9
    shutil.rmtree(blocked.parent)
    r = run("train", "--resume", out)
    assert r.returncode == 0, r.stderr
    assert steps_of(out) == trained and json.loads((out / "results.json").read_text())["objectives"][0]["steps"] == len(trained)


def test_configuration_file_below_flags(data, tmp_path):
    config = tmp_path / "my.toml"
    config.write_text(f'data = "{data}/cifar"\nknown = "0,1,2"\nunknown = "3"\nepochs = 2\nobjective = "logit_norm"\n'
                      "batch-size = 16\n[logit_norm]\ntau = 0.5\n")
    r = run("train", "--config", config, "--epochs", 1, "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    result = json.loads((tmp_path / "run" / "results.json").read_text())["objectives"][0]
    assert result["objective"] == "logit_norm" and result["parameters"] == {"tau": .5}
    assert len(steps_of(tmp_path / "run")) == 10  # 180 less 10 % held out, by 16
    config.write_text("epoch = 2\n")
    line = one_line(run("train", "--config", config, "--out", tmp_path / "x"), 2)
    assert "unknown key epoch" in line and "did you mean epochs" in line
    config.write_text("format = 99\n")
    assert "format 99" in one_line(run("train", "--config", config, "--out", tmp_path / "x"), 3)


def test_a_configuration_that_is_not_named_decides_nothing(data, tmp_path):
    """Whatever lies in the folder that the program is called from; a margin that is given is not measured."""
    flags = ["--data", data / "npy", "--known", "0,1", "--outliers", 2, "--unknown", 3, "--epochs", 1, "--objective", "energy_regularized"]
    assert run("train", *flags, "--seed", 1, "--out", tmp_path / "one").returncode == 0
    one = (tmp_path / "one" / "config.toml").read_text()
    assert "measured = [ 'margin_in', 'margin_out' ]" in one
    assert run("train", *flags, "--seed", 2, "--out", tmp_path / "two", cwd=tmp_path / "one").returncode == 0
    assert "split-seed = -1" in (tmp_path / "two" / "config.toml").read_text()  # as --seed
    again = ["train", "--config", tmp_path / "one" / "config.toml", "--out"]
    assert run(*again, tmp_path / "given", "--objective.margin_in", -9).returncode == 0
    assert "measured = [ 'margin_out' ]" in (tmp_path / "given" / "config.toml").read_text()
    other = tmp_path / "other"
    assert run(*again, other, "--objective", "cross_entropy").returncode == 0
    config = (other / "config.toml").read_text()
    assert "measured" not in config
    # One that was begun with it, by a program of before, stays what it is.
    (other / "config.toml").write_text(config.replace("objective = ", "measured = [ 'margin_in', 'margin_out' ]\nobjective = ", 1))
    for name in ("results.json", "model.safetensors"):
        (other / name).unlink()
    assert run("train", "--resume", other).returncode == 0
    assert run("eval", other).returncode == 0
    # The note names what was measured, and no more.
    r = run("train", *flags, "--objective.margin_out", -1, "--out", tmp_path / "half")
    note, = [l for l in r.stderr.splitlines() if "by the energies after a warm-up" in l]
    assert "margin_in" in note and "margin_out" not in note


# Interruptions

RUN = ["--objective", "outlier_exposure", "--known", "0,1,2", "--outliers", "3", "--ood-data", "x={}/npy_pictures.npy",
       "--batch-size", "16", "--threads", "1", "--epochs", "6", "--augment", "flip,crop", "--mixup", ".5"]


def steps_of(folder):
    lines = [json.loads(l) for l in (folder / "metrics.jsonl").read_text().splitlines()]
    return [l["step"] for l in lines if "step" in l]


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    np.save(data / "npy_pictures.npy", pictures(40, seed=9)[0])
    out = tmp_path_factory.mktemp("whole") / "run"
    r = run("train", "--data", data / "folder", *[f.format(data) for f in RUN], "--checkpoint", 1, "--out", out)
    assert r.returncode == 0, r.stderr
    return out


def start(data, out, flags=RUN):
    return subprocess.Popen([PROGRAM, "train", "--data", str(data / "folder"), *[f.format(data) for f in flags],
                             "--checkpoint", "1", "--out", str(out)], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL if flags is not RUN else subprocess.PIPE, text=True)


def resume(out):
    return subprocess.Popen([PROGRAM, "train", "--resume", str(out)], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


def test_twenty_kills_end_with_the_same_weights(data, uninterrupted, tmp_path):
    """kill -9 at random moments, some of them inside a checkpoint write, each followed by --resume."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    flags = ["80" if f == "6" else f for f in RUN]
    assert start(data, whole, flags).wait() == 0
    draw = random.Random(20261122)
    inside = kills = 0
    process = start(data, out, flags)
    while kills < 20:
        checkpoints = out / "checkpoints"
        if kills % 2 == 0:  # as soon as a checkpoint is being written
            deadline = time.time() + 20
            while time.time() < deadline and process.poll() is None:
                if any(checkpoints.glob("*.ood-tmp")):
                    break
        else:
            deadline = time.time() + draw.uniform(.05, 1)
            while time.time() < deadline and process.poll() is None:
                time.sleep(.005)
        finished = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        if finished:
            break
        kills += 1
        inside += any(checkpoints.glob("*.ood-tmp"))
        if not (out / "config.toml").exists() or (not checkpoints.exists() and not (out / "metrics.jsonl").exists()):
            process = start(data, out, flags)
            continue
        process = resume(out)
    _, errors = process.communicate()
    print(f"kills {kills}, inside a checkpoint write {inside}")
    assert process.returncode == 0, errors
    assert kills == 20 and inside >= 5
    assert weights(out) == weights(whole)
    assert steps_of(out) == steps_of(whole) == list(range(1, 801))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_go_on(data, uninterrupted, tmp_path, how):
    out = tmp_path / "run"
    process = start(data, out)
    wait_until(lambda: len(checkpoints(out)) > 1, process)
    process.send_signal(how)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert f"ood train --resume {out}" in errors.splitlines()[-1]
    line = one_line(run("train", "--data", data / "folder", *TASK, "--out", out), 2)
    assert "unfinished" in line and "--resume" in line and "--overwrite" in line
    process = resume(out)
    _, errors = process.communicate()
    assert process.returncode == 0 and "resuming at step" in errors
    assert weights(out) == weights(uninterrupted)
    assert "finished" in one_line(run("train", "--resume", out), 2)


def test_ctrl_c_after_the_last_step_leaves_a_report(data, tmp_path):
    """There is nothing to resume then."""
    out = tmp_path / "run"
    process = start(data, out, [*TASK, "--epochs", "2"])
    wait_until((out / "model.safetensors").exists, process)
    process.send_signal(signal.SIGINT)
    assert process.wait() in (0, 130, -signal.SIGINT)  # while testing, or behind that
    assert (out / "results.json").exists()
    if process.returncode == 130:
        assert (out / "report.html").exists()
    (out / "report.html").unlink(missing_ok=True)
    assert "its report was missing and is there now" in one_line(run("train", "--resume", out), 2)
    assert (out / "report.html").exists()


def test_two_programs_do_not_share_a_run(data, tmp_path):
    out = tmp_path / "run"
    process = start(data, out)
    wait_until((out / "checkpoints").exists, process)
    line = one_line(run("train", "--resume", out), 3)
    process.kill()
    process.wait()
    assert "another ood is at work" in line
    assert "beside --resume" in one_line(run("train", "--resume", out, "--epochs", 9), 2)


def test_a_damaged_checkpoint_is_passed_over(data, uninterrupted, tmp_path):
    out = tmp_path / "run"
    process = start(data, out)
    wait_until(lambda: len(checkpoints(out)) > 1 and len(steps_of(out)) > 3, process)
    process.kill()
    process.wait()
    newest = sorted((out / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    r = run("train", "--resume", out)
    assert r.returncode == 0 and "warning" in r.stderr and newest.name in r.stderr, r.stderr
    assert weights(out) == weights(uninterrupted)


# Faults of data and machine

def broken(folder):
    for path in sorted(folder.rglob("*.png"))[:4]:
        path.write_bytes(path.read_bytes()[:60])


@pytest.fixture
def folder(tmp_path):
    write_png(tmp_path / "f" / "train", *pictures(80))
    write_png(tmp_path / "f" / "test", *pictures(40, seed=1))
    return tmp_path / "f"


def test_pictures_that_do_not_decode(folder, tmp_path):
    broken(folder / "train")
    r = run("train", "--data", folder, *TASK, "--epochs", 1, "--out", tmp_path / "run")
    assert r.returncode == 0
    warning = [l for l in r.stderr.splitlines() if "warning" in l]
    assert len(warning) == 1 and "4 of 80 pictures do not decode" in warning[0] and "0000.png" in warning[0]
    line = one_line(run("train", "--data", folder, *TASK, "--strict", "--epochs", 1, "--out", tmp_path / "x"), 3)
    assert "does not decode as PNG" in line and "--strict" in line


def test_mixed_sizes(folder, tmp_path):
    Image.new("RGB", (40, 20)).save(folder / "train" / "class0" / "zz.png")
    line = one_line(run("train", "--data", folder, *TASK, "--out", tmp_path / "x"), 3)
    assert "40x20" in line and "--image-size" in line
    r = run("train", "--data", folder, *TASK, "--image-size", 24, "--epochs", 1, "--out", tmp_path / "y")
    assert r.returncode == 0, r.stderr


def test_an_empty_class_folder_and_a_class_only_in_the_test(folder, tmp_path):
    (folder / "train" / "class9").mkdir()
    assert "class9" in one_line(run("train", "--data", folder, *TASK, "--out", tmp_path / "x"), 3)
    (folder / "train" / "class9").rmdir()
    x, _ = pictures(8, seed=5)
    write_png(folder / "test", x, [8] * 8)
    line = one_line(run("train", "--data", folder, "--known", "0,1,class8", "--unknown", "3", "--out", tmp_path / "x"), 3)
    assert "class8 has no training" in line
    r = run("train", "--data", folder, "--known", "0,1,2", "--unknown", "class8", "--epochs", 1, "--out", tmp_path / "y")
    assert r.returncode == 0, r.stderr


def test_jpeg_and_grey_pictures_without_a_division(tmp_path):
    x, y = pictures(80, channels=1)
    write_png(tmp_path / "f", np.repeat(x, 1, 1), y, end="jpg")
    r = run("train", "--data", tmp_path / "f", *TASK, "--epochs", 1, "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["objectives"][0]["test_samples"] == 12  # every fifth of 60
    victim = sorted((tmp_path / "f").rglob("*.jpg"))[0]
    victim.write_bytes(victim.read_bytes()[:300])
    r = run("train", "--data", tmp_path / "f", *TASK, "--strict", "--out", tmp_path / "x")
    assert r.returncode == 3 and "does not decode as JPEG" in r.stderr.splitlines()[-1]


@pytest.mark.parametrize("damage,parts", [
    (lambda f: (f / "data_batch_1.bin").write_bytes(b"x" * 100), ["3073", "100"]),
    (lambda f: (f / "test_batch.bin").unlink(), ["test_batch.bin"]),
])
def test_damaged_cifar(tmp_path, damage, parts):
    write_cifar(tmp_path / "c", pictures(40), pictures(20, seed=1))
    damage(tmp_path / "c")
    line = one_line(run("train", "--data", tmp_path / "c", *TASK, "--out", tmp_path / "x"), 3)
    assert all(p in line for p in parts), line


@pytest.mark.parametrize("array,parts", [
    (np.zeros((10, 3), np.complex64), ["little endian"]),
    (np.asfortranarray(np.ones((10, 3), np.float32)), ["Fortran"]),
    (np.full((10, 3), np.nan, np.float32), ["NaN"]),
    (np.zeros((10, 3, 2), np.float32), ["[N, D]", "3 dimensions"]),
    (b"garbage", ["NumPy"]), ("short", ["truncated"])])
def test_damaged_arrays(data, tmp_path, array, parts):
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "train.npy"
    if isinstance(array, str):
        np.save(path, np.zeros((10, 3), np.float32))
        path.write_bytes(path.read_bytes()[:-8])
    elif isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array)
    np.save(tmp_path / "a" / "train_labels.npy", np.arange(10) % 2)
    line = one_line(run("train", "--data", tmp_path / "a", "--known", "0,1", "--ood-data", f"x={path}",
                        "--out", tmp_path / "x"), 3)
    assert all(p in line for p in parts), line


def test_a_full_disk(data, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs")
    try:
        r = run("train", "--data", data / "folder", *TASK, "--epochs", 2, "--checkpoint", 1, "--out", small / "run")
        assert r.returncode == 3
        assert "cannot be" in r.stderr.splitlines()[-1] and "No space left" in r.stderr.splitlines()[-1]
        assert not list((small / "run").rglob("*.ood-tmp"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_read_only_folder(data, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    r = run("train", "--data", data / "folder", *TASK, "--epochs", 1, "--out", locked / "run")
    if os.geteuid() == 0:
        # root may write everywhere; a mount that is read-only holds for root as well
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(locked)], capture_output=True).returncode:
            pytest.skip("root, and may not mount")
        try:
            r = run("train", "--data", data / "folder", *TASK, "--epochs", 1, "--out", locked / "run")
        finally:
            subprocess.run(["umount", str(locked)], check=True)
    assert "Read-only" in one_line(r, 3) or "Permission" in one_line(r, 3)


def test_a_run_folder_of_another_version(data, tmp_path):
    out = tmp_path / "run"
    assert run("train", "--data", data / "folder", *TASK, "--epochs", 1, "--out", out).returncode == 0
    import ood
    tensors, metadata = ood.runs.read_safetensors(out / "model.safetensors")
    ood.runs.write_safetensors(out / "model.safetensors", tensors, {**metadata, "format_version": "9"})
    assert "another format" in one_line(run("eval", out), 3)
    assert "another format" in one_line(run("score", out, data / "folder"), 3)


def test_a_colour_run_with_a_residual_network(data, tmp_path):
    """Three steps of ResNet-18 on CIFAR's format, killed, resumed and tested."""
    out = tmp_path / "run"
    common = ["train", "--data", data / "cifar", "--known", "0,1,2", "--unknown", "3", "--model", "resnet-18",
              "--limit-train", 24, "--limit-test", 8, "--batch-size", 8, "--epochs", 1, "--checkpoint", 1]
    process = subprocess.Popen([PROGRAM, *map(str, common), "--out", str(out)], stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)
    wait_until(lambda: checkpoints(out), process)
    process.kill()
    process.wait()
    assert run("train", "--resume", out).returncode == 0
    assert steps_of(out) == [1, 2, 3]
    assert run("eval", out, "--ood-data", f"again={data}/cifar").returncode == 0
    assert run("train", *common[1:], "--model", "wrn-40-2", "--out", tmp_path / "w").returncode == 2  # given twice
    common[common.index("resnet-18")] = "wrn-40-2"
    r = run(*common, "--out", tmp_path / "w")
    assert r.returncode == 0, r.stderr


@pytest.mark.parametrize("command", ["train", "eval", "compare", "score", "margins", "doctor", "objectives"])
def test_the_example_of_every_help_runs(data, tmp_path, command):
    """As printed, but for the paths of the user's own data and sizes."""
    if not pathlib.Path("/usr/share/datasets/fashion-mnist").exists():
        pytest.skip("dataset-fashion-mnist is not installed")
    text = run(command, "--help").stdout
    example = text[text.index("Example:") + 8:].replace("\\\n", " ").strip().splitlines()[0].split()
    assert example[:2] == ["ood", command]
    quick = ["--limit-train", "256", "--limit-test", "100", "--epochs", "1", "--batch-size", "64"]
    task = ["--known", "0,1,2,3,4,8", "--outliers", "5,6", "--unknown", "7,9"]
    for name in ("oe", "ce"):
        if f"runs/{name}" in example and command != "train":
            assert run("train", *task, *quick, "--out", tmp_path / "runs" / name).returncode == 0
    np.save(tmp_path / "digits.npy", pictures(10, channels=1, side=28)[0])
    write_png(tmp_path / "pictures", *pictures(4, channels=1, side=28))
    arguments = [a.replace("digits=/path/to/mnist", f"digits={tmp_path}/digits.npy")
                 .replace("path/to/pictures", str(tmp_path / "pictures")) for a in example[1:]]
    r = run(*arguments, *(quick if command in ("train", "compare") else []), cwd=tmp_path)
    assert r.returncode == 0, r.stderr


def test_without_a_terminal_and_in_the_c_locale(data, tmp_path):
    r = run("train", "--data", data / "folder", *TASK, "--epochs", 1, "--out", tmp_path / "run",
            env={**os.environ, "LC_ALL": "C", "TERM": ""}, stdin=subprocess.DEVNULL)
    assert r.returncode == 0 and "\x1b" not in r.stdout + r.stderr and "\r" not in r.stderr


@pytest.mark.parametrize("objective,flags", [
    ("virtual_outlier_synthesis", ["--objective.sample_number", "20", "--objective.sample_from", "100", "--objective.start", ".2"]),
    ("confidence", []), ("energy_margin", []), ("vos_reg", ["--optimizer", "adamw"]), ("ii", []), ("center", [])])
def test_objectives_with_state_resume_bit_for_bit(data, tmp_path, objective, flags):
    common = ["train", "--data", data / "folder", "--known", "0,1", "--outliers", "2", "--unknown", "3", "--threads", "1",
              "--batch-size", "16", "--epochs", "20", "--checkpoint", "1", "--objective", objective, "--lr", ".01", *flags]
    assert run(*common, "--out", tmp_path / "whole").returncode == 0
    out = tmp_path / "run"
    process = subprocess.Popen([PROGRAM, *map(str, common), "--out", str(out)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    total = len(steps_of(tmp_path / "whole"))
    while process.poll() is None and not (
            (out / "metrics.jsonl").exists() and len((out / "metrics.jsonl").read_text().splitlines()) > total // 2):
        time.sleep(.002)
    process.kill()
    process.wait()
    r = run("train", "--resume", out)
    assert r.returncode == 0 and "resuming at step" in r.stderr, r.stderr
    assert weights(out) == weights(tmp_path / "whole")


def test_a_queue_that_cannot_fill_is_told(data, tmp_path):
    r = run("train", "--data", data / "folder", *TASK, "--epochs", 2, "--objective", "virtual_outlier_synthesis",
            "--out", tmp_path / "run")
    warning = [l for l in r.stderr.splitlines() if l.startswith("warning")]
    assert r.returncode == 0 and len(warning) == 1 and "3 of 3 queues are not full" in warning[0]
    assert "smaller sample_number (now 1000)" in warning[0]


@pytest.fixture(scope="module")
def embeddings_run(tmp_path_factory):
    """Embeddings of two known classes, a further OOD set beside them, and a run."""
    root = tmp_path_factory.mktemp("embeddings")
    draw = np.random.default_rng(0)
    y = np.arange(600) % 2
    np.save(root / "train.npy", (draw.normal(size=(600, 8)) + 3 * y[:, None]).astype(np.float32))
    np.save(root / "train_labels.npy", y)
    np.save(root / "far.npy", (draw.normal(size=(40, 8)) - 6).astype(np.float32))
    np.save(root / "new.npy", (draw.normal(size=(300, 8)) + 3 * (np.arange(300) % 2)[:, None]).astype(np.float32))
    data = root / "data"
    data.mkdir()
    for name in ("train.npy", "train_labels.npy"):
        (root / name).rename(data / name)
    r = run("train", "--data", data, "--ood-data", f"far={root}/far.npy", "--epochs", 2, "--out", root / "run")
    assert r.returncode == 0, r.stderr
    return root


def copied(root, tmp_path):
    return shutil.copytree(root / "run", tmp_path / "run")


def test_a_threshold_by_what_was_partly_learned_is_warned_of(embeddings_run, tmp_path):
    out, new = copied(embeddings_run, tmp_path), np.load(embeddings_run / "new.npy")
    learned = np.load(embeddings_run / "data" / "train.npy")
    np.save(tmp_path / "mixed.npy", np.concatenate([new, learned]))
    r = run("threshold", out, "--data", tmp_path / "mixed.npy")
    found = re.search(r"warning: --data: the run learned or chose by (\d+) of 900 inputs", r.stderr)
    assert r.returncode == 0 and found and 400 < int(found[1]) < 600, r.stderr  # but for its test part
    assert "warning" not in run("threshold", out, "--data", embeddings_run / "new.npy").stderr


def test_a_threshold_is_finite(embeddings_run, tmp_path):
    """What has no score is rejected by any, so that a promise of none would be false."""
    out, rows = copied(embeddings_run, tmp_path), np.load(embeddings_run / "new.npy")
    rows[::5] = 3e38
    np.save(tmp_path / "large.npy", rows)
    model = (out / "model.safetensors").read_bytes()
    assert "have no finite score" in one_line(run("threshold", out, "--data", tmp_path / "large.npy"), 3)
    assert (out / "model.safetensors").read_bytes() == model


def test_a_run_is_used_where_its_ood_set_went_away(embeddings_run, tmp_path):
    out = copied(embeddings_run, tmp_path)
    config = (out / "config.toml").read_text()
    (out / "config.toml").write_text(config.replace(f"{embeddings_run}/far.npy", "/nowhere/far.npy"))
    assert run("fit", out).returncode == 0
    r = run("eval", out)
    assert r.returncode == 3 and "/nowhere/far.npy: no such file" in r.stderr
    r = run("eval", out, "--ood-data", f"far={embeddings_run}/far.npy")
    assert r.returncode == 0 and list(json.loads((out / "eval.json").read_text())["objectives"][0]["ood"]) == ["far"], r.stderr
    twice = [f"--ood-data=far={embeddings_run}/{name}.npy" for name in ("far", "new")]
    r = run("eval", out, *twice)
    assert r.returncode == 2 and "the name far is given twice" in r.stderr


def test_names_of_columns_stand_in_messages_as_in_the_file(tmp_path):
    (tmp_path / "t.csv").write_text("Temp [K],Label\n1,a\nwarm,b\n")
    assert "Temp [K]: expected a finite number" in one_line(run("train", "--data", tmp_path / "t.csv", "--out", tmp_path / "r"), 3)


def test_names_that_no_line_holds_are_not_embedded(data, tmp_path):
    """A newline in a name would give the classes behind it others' names."""
    folder = tmp_path / "pictures"
    shutil.copytree(data / "folder", folder)
    first = sorted(p for p in (folder / "train").iterdir() if p.is_dir())[0].name
    for part in ("train", "test"):
        (folder / part / first).rename(folder / part / "a\nb")
    out = tmp_path / "run"
    assert run("train", "--data", folder, *TASK, "--epochs", 1, "--out", out).returncode == 0
    r = run("embed", out, folder, "--out", tmp_path / "embedded")
    assert r.returncode == 3 and "expected names of classes that fit into the lines of classes.txt" in r.stderr
    assert not (tmp_path / "embedded").exists()
