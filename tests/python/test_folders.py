"""Folders of pictures as people have them: links, hidden files, other formats, parts in capitals, numbers as names."""
import json
import os
import shutil
import struct
import subprocess

import numpy as np
import pytest

from test_runs import PROGRAM, Image, one_line, pictures, run, write_png

QUICK = ["--epochs", 1, "--batch-size", 16]


@pytest.fixture
def folder(tmp_path):
    where = tmp_path / "pictures"
    x, y = pictures(80, side=8)
    write_png(where, x, y)
    return where


def train(folder, tmp_path, *flags, known="class0,class1", unknown="class2"):
    out = tmp_path / "run"
    r = run("train", "--data", folder, "--known", known, "--unknown", unknown, *QUICK, "--overwrite", "--out", out, *flags)
    assert r.returncode == 0, r.stderr
    return json.loads((out / "results.json").read_text()), r.stderr


def test_links_to_classes_are_followed(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for c in folder.iterdir():
        (linked / c.name).symlink_to(c)
    assert train(linked, tmp_path)[0]["train_samples"] == train(folder, tmp_path)[0]["train_samples"]


def test_a_link_round_in_circles_is_named(folder, tmp_path):
    (folder / "class0" / "again").symlink_to(folder)
    line = run("train", "--data", folder, "--known", "0,1", "--unknown", 2, "--out", tmp_path / "run")
    assert line.returncode == 3 and str(folder / "class0" / "again") in line.stderr, line.stderr


def test_hidden_files_and_folders_are_no_data(folder, tmp_path):
    expected = train(folder, tmp_path)[0]
    (folder / ".thumbnails").mkdir()
    (folder / "class0" / "._0000.png").write_bytes(b"resource fork")
    (folder / "class0" / ".cache").mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "class0" / ".cache" / "x.png")
    got = train(folder, tmp_path)[0]
    assert got["known"] == expected["known"] and got["data_fingerprint"] == expected["data_fingerprint"]


def test_other_formats_are_counted(folder, tmp_path):
    for i, end in enumerate(["gif", "HEIC", "gif", "bmp"]):
        (folder / "class0" / f"other{i}.{end}").write_bytes(b"x")
    assert "left out, for their format is not read: 1 .bmp, 2 .gif, 1 .heic" in train(folder, tmp_path)[1]
    r = run("train", "--data", folder, "--strict", "--out", tmp_path / "strict")
    assert r.returncode == 3 and "other3.bmp: expected PNG, JPEG, WebP or TIFF, got another format (--strict refuses it)" in r.stderr


def divided(tmp_path, *parts):
    where = tmp_path / "divided"
    for i, part in enumerate(parts):
        x, y = pictures(40, side=8, seed=i)
        write_png(where / part, x, y)
    return where


def test_parts_in_capitals_are_parts(tmp_path):
    results, _ = train(divided(tmp_path, "Train", "TEST"), tmp_path)
    assert results["known"] == ["class0", "class1"] and results["objectives"][0]["test_samples"] == 20


def test_val_is_held_out_where_there_is_a_test(tmp_path):
    where = divided(tmp_path, "train", "val", "test")
    results, _ = train(where, tmp_path)
    assert results["train_samples"] == 20  # nothing of it is held out
    assert results["objectives"][0]["validation_accuracy"] is not None
    results, told = train(divided(tmp_path / "b", "train", "val"), tmp_path)
    assert results["train_samples"] == 18 and "val is the test data, as there is no other" in told


def fnv1a(data):
    h = 14695981039346656037
    for byte in data:
        h = (h ^ byte) * 1099511628211 % 2**64
    return h


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("train", "test")], ids=["val", "held out of train"])
def test_eval_does_not_decode_what_was_trained_on(tmp_path, parts):
    """It believes the index, also one that says that the pictures are others."""
    where, out, cache = divided(tmp_path, *parts), tmp_path / "run", {"env": os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}}
    r = run("train", "--data", where, "--known", "0,1", "--unknown", 2, "--validation", .5, *QUICK, "--out", out, **cache)
    assert r.returncode == 0, r.stderr
    [expected] = json.loads((out / "results.json").read_text())["objectives"]
    [index] = (tmp_path / "cache" / "ood").iterdir()
    known = np.load(index)
    assert len(known) == 40 + 1  # of the training pictures alone, and a checksum

    def evaluated():
        r = run("eval", out, **cache)
        assert r.returncode == 0, r.stderr
        [got] = json.loads((out / "eval.json").read_text())["objectives"]
        assert got["ood"] == expected["ood"] and got["threshold"] == expected["threshold"]

    evaluated()
    others = known.copy()
    others[:-1, 4:6] ^= 1
    others[-1, 0] = np.uint64(fnv1a(others[:-1].tobytes())).astype(np.int64)
    np.save(index, others)
    r = run("eval", out, **cache)
    assert r.returncode == 3 and "are not those that the run was trained with" in r.stderr, r.stderr
    for file in (where / "train").glob("*/*.png"):  # what was changed is read again
        os.utime(file)
    evaluated()
    index.unlink()
    evaluated()


def test_a_run_without_a_damaged_picture_is_evaluated_without_it(tmp_path):
    where, cache = divided(tmp_path, "train", "test"), {"env": os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}}
    common = ["train", "--data", where, "--known", "0,1", "--unknown", 2, *QUICK]
    assert run(*common, "--out", tmp_path / "whole", **cache).returncode == 0
    damaged = sorted((where / "train" / "class0").iterdir())[-1]
    damaged.write_bytes(bytes(damaged.stat().st_size))
    [index] = (tmp_path / "cache" / "ood").iterdir()
    known, now = np.load(index), damaged.stat()
    [row] = np.flatnonzero(known[:-1, 0].astype(np.uint64) == fnv1a(str(damaged).encode()))
    times = struct.pack("<4q", *divmod(now.st_mtime_ns, 10**9), *divmod(now.st_ctime_ns, 10**9))
    known[row, 1:3] = now.st_size, np.uint64(fnv1a(times)).astype(np.int64)  # as if only reading it failed
    known[-1, 0] = np.uint64(fnv1a(known[:-1].tobytes())).astype(np.int64)
    np.save(index, known)
    r = run("eval", tmp_path / "whole", **cache)
    assert r.returncode == 3 and "do not decode" not in r.stderr, r.stderr  # the index is believed
    r = run(*common, "--out", tmp_path / "without", **cache)
    assert r.returncode == 0 and "1 of 40 pictures do not decode" in r.stderr, r.stderr
    r = run("eval", tmp_path / "without", **cache)
    assert r.returncode == 0 and "1 of 40 pictures do not decode" in r.stderr, r.stderr
    assert run("eval", tmp_path / "whole", **cache).returncode == 3


def test_a_folder_that_may_not_be_read_is_named(folder, tmp_path):
    # Nor may root, without what lets it read anything.
    plain = [] if os.geteuid() != 0 else ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if plain and shutil.which(plain[0]) is None:
        pytest.skip("root reads any folder")
    (folder / "class0").chmod(0)
    r = subprocess.run([*plain, PROGRAM, "train", "--data", folder, "--known", "0,1", "--unknown", "2", "--out", tmp_path / "run"],
                       capture_output=True, text=True)
    (folder / "class0").chmod(0o755)
    line = r.stderr.splitlines()[-1]
    assert r.returncode == 3 and f"{folder / 'class0'}: Permission denied" in line, r.stderr


def test_a_folder_without_a_division_says_what_is_test_data(folder, tmp_path):
    assert "every 5th sample of a class is that" in train(folder, tmp_path)[1]


def test_test_samples_that_were_trained_with_are_told(tmp_path):
    where = divided(tmp_path, "train", "test")
    for c in (where / "train").iterdir():
        for p in list(c.iterdir())[:3]:
            (where / "test" / c.name / f"copy-{p.name}").write_bytes(p.read_bytes())
    assert "test samples are also training samples" in train(where, tmp_path)[1]


def renamed(folder, names):
    for i, name in enumerate(names):
        (folder / f"class{i}").rename(folder / name)
    return folder


def test_numbers_as_names_mean_the_names(folder, tmp_path):
    renamed(folder, ["1", "2", "10", "20"])
    assert train(folder, tmp_path, known="1-2", unknown="10")[0]["known"] == ["1", "2"]
    assert train(folder, tmp_path, known="2,20", unknown="10")[0]["known"] == ["2", "20"]
    r = run("train", "--data", folder, "--known", "1,3", "--unknown", "10", "--out", tmp_path / "no")
    assert r.returncode == 2 and "--known: expected classes 1, 10, 2, 20, got 3" in r.stderr
    r = run("train", "--data", folder, "--known", "2-1", "--unknown", "10", "--out", tmp_path / "no")
    assert r.returncode == 2 and "range from low to high" in r.stderr


def test_a_comma_in_a_name(folder, tmp_path):
    renamed(folder, ["red, dark", "blue"])
    assert train(folder, tmp_path, known="red\\, dark,blue")[0]["known"] == ["red, dark", "blue"]


def test_a_class_stands_above_a_folder_of_its_name(folder, tmp_path):
    renamed(folder, ["a", "b", "c", "big horse"])
    (tmp_path / "big horse").mkdir()
    out = tmp_path / "here"
    r = run("train", "--data", folder, "--known", "a,b", "--unknown", "c", "--outliers", "big horse", *QUICK, "--out", out,
            "--objective", "outlier_exposure", cwd=tmp_path)
    assert r.returncode == 0 and json.loads((out / "results.json").read_text())["outlier_samples"] > 0, r.stderr


def test_sixteen_bits_are_not_taken_for_linear_light(tmp_path):
    """The same grey in 8 and 16 bits."""
    for name, dtype, factor in (("eight", np.uint8, 1), ("sixteen", np.uint16, 257)):
        for c in range(3):
            (tmp_path / name / f"c{c}").mkdir(parents=True)
            for i in range(10):
                ramp = (np.arange(64).reshape(8, 8) * 2 + 10 * i + c).astype(dtype) * dtype(factor)
                Image.fromarray(ramp).save(tmp_path / name / f"c{c}" / f"{i}.png")
    prints = [train(tmp_path / name, tmp_path, known="c0,c1", unknown="c2")[0]["data_fingerprint"]
              for name in ("eight", "sixteen")]
    assert prints[0] == prints[1]


def test_flattened_pictures_are_not_strips(folder, tmp_path):
    np.save(tmp_path / "cat.npy", np.zeros((30, 1, 784), np.uint8))
    r = run("train", "--data", folder, "--known", "0,1", "--ood-data", f"doodle={tmp_path}/cat.npy", "--out", tmp_path / "run")
    assert r.returncode == 3 and "rows of 1x784" in r.stderr and "save them as [N, H, W]" in r.stderr
    np.save(tmp_path / "cat.npy", np.zeros((30, 28, 28), np.uint8))
    r = run("train", "--data", folder, "--known", "0,1", "--ood-data", f"doodle={tmp_path}/cat.npy", *QUICK,
            "--out", tmp_path / "run")
    assert r.returncode == 0 and "28x28 are brought to 8x8" in r.stderr, r.stderr


def test_one_class_trains_scores_and_detects(tmp_path):
    x, y = pictures(200, classes=2, side=16)
    write_png(tmp_path / "all", x, y)
    good = tmp_path / "parts"
    good.mkdir()
    (tmp_path / "all" / "class0").rename(good / "good")
    out = tmp_path / "run"
    r = run("train", "--objective", "deep_svdd", "--data", good, "--known", "good", "--epochs", 10, "--out", out)
    assert r.returncode == 0, r.stderr
    assert "no OOD samples to test on" in r.stderr and "no OOD samples were tested" in r.stdout
    assert "No OOD samples were tested" in (out / "report.html").read_text()
    r = run("eval", out, "--ood-data", f"bad={tmp_path}/all")
    assert r.returncode == 0, r.stderr
    assert json.loads((out / "eval.json").read_text())["objectives"][0]["ood"]["bad"]["auroc"] > .9
    rows = run("score", out, tmp_path / "all").stdout.splitlines()[1:]
    assert len(rows) == 100 and all(row.split(",")[1] == "" for row in rows)
    r = run("train", "--data", good, "--known", "good", "--out", tmp_path / "ce")
    assert r.returncode == 2 and "deep_sad, deep_svdd" in r.stderr.splitlines()[-1]
