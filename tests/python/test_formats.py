"""Data as it comes: every format gives the training of the folder of the same pictures."""
import gzip
import io
import json
import os
import shutil
import tarfile

import numpy as np
import pytest

from test_runs import Image, one_line, pictures, run, write_png
from test_streams import same

N = 80
TASK = ["--known", "class0,class1,class2", "--unknown", "class3", "--epochs", 2, "--batch-size", 8]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Without a division of its own: every fifth picture of a class is test data."""
    where = tmp_path_factory.mktemp("whole")
    x, y = pictures(N)
    write_png(where / "folder", x, y)
    return where, x, y, trained(where / "folder", where / "run")


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    where = tmp_path_factory.mktemp("divided")
    parts = {part: pictures(n, seed=i) for i, (part, n) in enumerate((("train", 60), ("val", 20), ("test", 24)))}
    for part, (x, y) in parts.items():
        write_png(where / "folder" / part, x, y)
    return where, parts, trained(where / "folder", where / "run")


def trained(data, out, *more):
    r = run("train", "--data", data, *TASK, "--out", out, *more)
    assert r.returncode == 0, r.stderr
    return out


def as_folder(run_folder, data, out, *more):
    same(run_folder, trained(data, out, *more))


@pytest.mark.parametrize("end", ["csv", "jsonl"])
@pytest.mark.parametrize("cache", [0, 256])
def test_lists(whole, divided, tmp_path, end, cache):
    for where, run_folder, parts in ((whole[0], whole[3], [""]), (divided[0], divided[2], ["train", "val", "test"])):
        rows = [(f"{p.relative_to(where)}", p.parent.name, part) for part in parts
                for p in sorted((where / "folder" / part).rglob("*.png"), reverse=True)]
        path = where / f"list-{cache}.{end}"
        if end == "csv":
            quoted = [f'"{p}", {s.upper()} ,"{c}"' for p, c, s in rows]
            path.write_text("\n".join(["Path, split,label,more"] + [q + ',"a, ""b"""' for q in quoted]) + "\n")
        else:
            path.write_text("\n".join(json.dumps({"path": p, "label": c, **({"split": s} if s else {}), "more": 1}) for p, c, s in rows))
        as_folder(run_folder, path, tmp_path / where.name, "--cache", cache)


def packed(path, members, form=tarfile.PAX_FORMAT):
    """members: of names, bytes or, of a link, the name that it leads to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.LNKTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("cache", [0, 256])
def test_a_packed_folder(whole, divided, tmp_path, form, cache):
    """As `tar` packs it, in any order, with folders above it, names of any length and links."""
    for where, run_folder in ((whole[0], whole[3]), (divided[0], divided[2])):
        files = sorted((where / "folder").rglob("*.png"), key=lambda p: p.stem)
        deep = 10 if form == tarfile.USTAR_FORMAT else 30  # which has room for 100 characters
        above = "./" + "deep/" * deep
        members = [(above + p.relative_to(where).as_posix(), p.read_bytes()) for p in files]
        first, again = members[0], members[1][0].replace(".png", "x.png")
        members = [*members, (above + "._x.png", b"of another system"), (above + "notes.txt", b"none")]
        as_folder(run_folder, packed(tmp_path / where.name / "set.tar", members, form), tmp_path / f"run-{where.name}", "--cache", cache)
    with_link = packed(tmp_path / "link.tar", [*members, (again, first[0])], form)
    r = run("score", run_folder, with_link)
    rows = [l.split(",") for l in r.stdout.splitlines()[1:]]
    assert r.returncode == 0 and len(rows) == len(files) + 1, r.stderr
    names = {l[0]: l[1:] for l in rows}
    root = f"{with_link}/{'deep/' * deep}"
    assert names[root + again[len(above):]] == names[root + first[0][len(above):]]
    alone = {l.split(",")[0]: l.split(",")[1:] for l in run("score", run_folder, where / "folder").stdout.splitlines()[1:]}
    assert names[root + f"folder/{files[0].relative_to(where / 'folder')}"] == alone[str(files[0])]


@pytest.mark.parametrize("label", ["cls", "json"])
@pytest.mark.parametrize("cache", [0, 256])
def test_shards(divided, tmp_path, label, cache):
    """As WebDataset has them; a mask beside a picture is none of the data."""
    where, _, run_folder = divided
    for part in ("train", "val", "test"):
        files = sorted((where / "folder" / part).rglob("*.png"))
        for shard in range(2):
            members = []
            for i, p in enumerate(files):
                if i % 2 == shard:
                    content = f"{p.parent.name}\n" if label == "cls" else json.dumps({"width": 32, "label": p.parent.name})
                    members += [(f"{i:06}.png", p.read_bytes()), (f"{i:06}.seg.png", b"mask"), (f"{i:06}.{label}", content.encode())]
            packed(tmp_path / "set" / f"pictures-{part}-{shard:06}.tar", members)
    as_folder(run_folder, tmp_path / "set", tmp_path / "run", "--cache", cache)
    rows = run("score", run_folder, tmp_path / "set" / "pictures-test-000001.tar").stdout.splitlines()[1:]
    assert len(rows) == 12 and not any(",," in l for l in rows)


def test_names_and_links_in_archives(whole, tmp_path):
    """Rooted names, links also to what follows, a name that comes twice, names with dots, hidden ones and other files beside shards."""
    where, _, _, run_folder = whole
    files = sorted((where / "folder").rglob("*.png"))
    members = [(f"/data/{p.relative_to(where / 'folder')}", p.read_bytes()) for p in files]
    members[0] = (members[0][0], b"replaced by what comes last")
    last, stored = members.pop()[0], files[-1].read_bytes()
    first, second = files[0].read_bytes(), members.pop(1)[0]
    members += [(last, "/data/.store/b.bin"), ("/data/.store/b.bin", "/data/.store/a.bin"), ("/data/.store/a.bin", stored), ("../data/class0/.x.png", b"none"),
                (files[0].relative_to(where / "folder").as_posix().join(["../data/", ""]), first),
                (second, files[1].read_bytes()), ("data/class0/lost.png", "data/nowhere.png"), ("data/class0/0000.mask.png", b"none")]
    archive = packed(tmp_path / "set" / "images-of-all.tar", members)
    (tmp_path / "set" / "._images-of-all.tar").write_bytes(b"of another system")
    (tmp_path / "set" / "old.tar").mkdir()
    for cache in (0, 256):
        as_folder(run_folder, archive.parent, tmp_path / f"run{cache}", "--cache", cache)
    r = run("score", run_folder, archive.parent)
    assert r.returncode == 0 and "1 pictures are links to what the archive does not hold" in r.stderr, r.stderr
    assert len(r.stdout.splitlines()) == len(files) + 1 and r.stdout.splitlines()[1].startswith(str(archive))


def test_what_comes_last_of_a_name_stays_also_behind_a_link(whole, tmp_path):
    where, _, _, run_folder = whole
    files = sorted((where / "folder").rglob("*.png"))
    name = lambda p: p.relative_to(where / "folder").as_posix()
    members = [(name(files[0]), name(files[-1])), *((name(p), p.read_bytes()) for p in files)]
    as_folder(run_folder, packed(tmp_path / "set.tar", members), tmp_path / "run")


def test_what_an_archive_is_called_is_no_part_of_one_alone(whole, tmp_path):
    where, _, _, _ = whole
    members = [(p.relative_to(where / "folder").as_posix(), p.read_bytes()) for p in sorted((where / "folder").rglob("*.png"))]
    archive = packed(tmp_path / "one" / "images-test.tar", members)
    (archive.parent / "loop").symlink_to(archive.parent)  # is none of the data
    out = tmp_path / "run"
    assert run("train", "--data", archive.parent, *TASK, "--out", out).returncode == 0
    assert "would promise nothing" in one_line(run("threshold", out, "--data", archive), 2)
    r = run("embed", out, archive.parent, "--out", tmp_path / "all.npy")
    assert r.returncode == 0 and np.load(tmp_path / "all.npy").shape[0] == len(members), r.stderr


def test_folders_in_archives_say_more_than_their_names(divided, tmp_path):
    """Which archive is test data is what the reader makes of it."""
    where, _, _ = divided
    def members(part):
        return [(p.relative_to(where / "folder").as_posix(), p.read_bytes()) for p in sorted((where / "folder" / part).rglob("*.png"))]
    named, val = tmp_path / "named", tmp_path / "val"
    packed(named / "x-test.tar", members("train")), packed(named / "other.tar", members("test"))
    packed(val / "x-train.tar", members("train")), packed(val / "x-val.tar", members("val"))
    for data, learned, test in (named, "x-test.tar", "other.tar"), (val, "x-train.tar", "x-val.tar"):
        out = tmp_path / f"run-{data.name}"
        assert run("train", "--data", data, *TASK, "--out", out).returncode == 0
        assert "would promise nothing" in one_line(run("threshold", out, "--data", data / learned), 2)
        assert run("threshold", out, "--data", data / test, "--false-alarms", .5).returncode == 0


def test_labelled_pictures_keep_the_part_of_their_folder(divided, tmp_path):
    where, _, run_folder = divided
    members = [m for p in sorted((where / "folder").rglob("*.png")) for part, c in [p.relative_to(where / "folder").parts[:2]]
               for m in ((f"{part}/{c}-{p.stem}.rgb.png", p.read_bytes()), (f"{part}/{c}-{p.stem}.cls", c.encode()))]
    as_folder(run_folder, packed(tmp_path / "set.tar", members), tmp_path / "run")


def test_archives_that_cannot_be_read(tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "png")
    whole_file = packed(tmp_path / "whole.tar", [(f"class{c}/{i}.png", picture.getvalue()) for c in range(2) for i in range(9)]).read_bytes()
    cases = {"cut": (whole_file[:len(whole_file) // 2 + 700], "expected a TAR archive"), "packed": (gzip.compress(whole_file), "is compressed"),
             "empty": (b"", "expected"), "text": (b"no archive " * 100, "expected a TAR archive")}
    for name, (content, why) in cases.items():
        (tmp_path / f"{name}.tar").write_bytes(content)
        assert why in one_line(run("train", "--data", tmp_path / f"{name}.tar", "--out", tmp_path / "run"), 3), name
    packed(tmp_path / "bare.tar", [("a.png", picture.getvalue())])
    assert "expected a class" in one_line(run("train", "--data", tmp_path / "bare.tar", "--out", tmp_path / "run"), 3)
    packed(tmp_path / "stray.tar", [("set/a.png", picture.getvalue()), ("set/b/a.png", picture.getvalue()), ("set/c/a.png", picture.getvalue())])
    assert "set/a.png: lies beside the folders of 2 others" in one_line(run("train", "--data", tmp_path / "stray.tar", "--out", tmp_path / "run"), 3)
    packed(tmp_path / "long.tar", [("a.png", picture.getvalue()), ("a.json", bytes(5 << 20))])
    assert "expected a label in at most" in one_line(run("train", "--data", tmp_path / "long.tar", "--out", tmp_path / "run"), 3)
    packed(tmp_path / "part.tar", [("train/a/a.png", picture.getvalue()), ("b/a.png", picture.getvalue())])
    assert "expected a part train, val or test" in one_line(run("train", "--data", tmp_path / "part.tar", "--out", tmp_path / "run"), 3)


def test_arrays_in_one_file(divided, tmp_path):
    where, parts, run_folder = divided
    for i, (inputs, labels) in enumerate([("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("{}", "{}_targets")]):
        arrays = {}
        for part, (x, y) in parts.items():
            arrays[inputs.format(part)] = x.transpose(0, 2, 3, 1)  # as pictures mostly are in files
            arrays[labels.format(part)] = y[:, None].astype(np.uint8)  # as MedMNIST has them
        save = np.savez_compressed if i else np.savez
        save(tmp_path / f"{i}.npz", **arrays)
        r = run("train", "--data", tmp_path / f"{i}.npz", "--known", "0,1,2", "--unknown", "3", *TASK[4:], "--out", tmp_path / f"r{i}")
        assert r.returncode == 0, r.stderr
        same_weights(run_folder, tmp_path / f"r{i}")


def same_weights(a, b):
    """The names of classes may be others."""
    from ood.runs import read_safetensors
    (one, _), (two, _) = (read_safetensors(x / "model.safetensors") for x in (a, b))
    assert list(one) == list(two) and all(one[k].equal(two[k]) for k in one)


def test_an_array_a_class(whole, tmp_path):
    """As QuickDraw has them: flat rows, the class in the name of the file."""
    where, x, y, run_folder = whole
    colour, grey = tmp_path / "colour", tmp_path / "grey"
    for folder in (colour, grey):
        folder.mkdir()
    for c in range(4):
        np.save(colour / f"class{c}.npy", x[y == c])
        np.save(grey / f"full_numpy_bitmap_class{c}.npy", x[y == c][:, 0].reshape(-1, 32 * 32))
    as_folder(run_folder, colour, tmp_path / "run")
    write_png(tmp_path / "as_pictures", x[:, :1], y)
    as_folder(trained(tmp_path / "as_pictures", tmp_path / "g1"), grey, tmp_path / "g2")


def test_arrays_are_sorted_as_folders_are(tmp_path):
    x, y = pictures(80)
    (tmp_path / "arrays").mkdir()
    for c, name in enumerate(["house plant", "house", "house-boat", "a"]):
        np.save(tmp_path / "arrays" / f"{name}.npy", x[y == c])
        (tmp_path / "folder" / name).mkdir(parents=True)
        for i, p in enumerate(x[y == c]):
            Image.fromarray(p.transpose(1, 2, 0)).save(tmp_path / "folder" / name / f"{i:04}.png")
    results = []
    for kind in ("arrays", "folder"):
        r = run("train", "--data", tmp_path / kind, "--unknown", "a", "--epochs", 1, "--out", tmp_path / f"run-{kind}")
        assert r.returncode == 0, r.stderr
        results.append(json.loads((tmp_path / f"run-{kind}" / "results.json").read_text())["known"])
    assert results[0] == results[1] == ["house", "house plant", "house-boat"]
    same_weights(tmp_path / "run-arrays", tmp_path / "run-folder")


def test_four_channels_are_no_rows(tmp_path, whole):
    """RGBA, as Pillow gives it: [N, H, W, 4] was taken for H channels of W x 4 pixels."""
    _, _, _, run_folder = whole
    x = np.zeros((8, 16, 16, 4), np.uint8)
    np.save(tmp_path / "train.npy", x)
    np.save(tmp_path / "train_labels.npy", np.arange(8) % 2)
    assert "[N, H, W, C] of 1 or 3 channels, got [8, 16, 16, 4]" in one_line(run("train", "--data", tmp_path, "--out", tmp_path / "run"), 3)
    np.save(tmp_path / "rows.npy", np.zeros((8, 4, 32, 32), np.uint8))
    for command in (["score", run_folder, tmp_path / "rows.npy"], ["eval", run_folder, "--ood-data", f"rows={tmp_path / 'rows.npy'}"]):
        r = run(*command)
        assert r.returncode == 3 and "expected pictures of 3 channels, got 4" in r.stderr.splitlines()[-1], r.stderr


def test_a_name_with_images_is_no_idx(whole, tmp_path):
    where, x, y, run_folder = whole
    shutil.copytree(where / "folder", tmp_path / "pictures")
    (tmp_path / "pictures" / "images.txt").write_text("what they are\n")
    as_folder(run_folder, tmp_path / "pictures", tmp_path / "run")
    (tmp_path / "flat").mkdir()
    Image.fromarray(x[0].transpose(1, 2, 0)).save(tmp_path / "flat" / "images_0.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "flat" / "pipe.png").symlink_to(tmp_path / "pipe")
    r = run("score", run_folder, tmp_path / "flat", timeout=60)
    assert r.returncode == 0 and "images_0.png" in r.stdout and "cannot be opened" in r.stdout, (r.stdout, r.stderr)


def test_nested_folders(whole, tmp_path):
    """Folders below a class are its own; sorted by path they come in the same order here."""
    where, x, y, run_folder = whole
    for path in (where / "folder").rglob("*.png"):
        deeper = tmp_path / "nested" / path.parent.name / path.stem[:2] / path.stem[2:]
        deeper.mkdir(parents=True)
        shutil.copy(path, deeper / "p.png")
    as_folder(run_folder, tmp_path / "nested", tmp_path / "run")


def test_names_that_sort_otherwise_as_texts(tmp_path):
    """a/x.png before a-1/x.png, as folders are sorted, in lists as well."""
    x, y = pictures(80)
    for i, (p, c) in enumerate(zip(x, y)):
        where = tmp_path / "folder" / f"class{c}" / ("a" if i % 3 else "a-1")
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(p.transpose(1, 2, 0)).save(where / f"{i}.png")
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{p.relative_to(tmp_path)},{p.parts[-3]}\n" for p in tmp_path.rglob("*.png")))
    as_folder(trained(tmp_path / "folder", tmp_path / "run"), tmp_path / "list.csv", tmp_path / "again")


def test_a_list_is_scored_in_its_order(whole, tmp_path):
    where, _, _, run_folder = whole
    paths = sorted((where / "folder").rglob("*.png"), reverse=True)[:7]
    (tmp_path / "damaged.png").write_bytes(b"none")
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({"path": str(p)}) + "\n" for p in [*paths, tmp_path / "damaged.png"]))
    r = run("score", run_folder, tmp_path / "list.jsonl")
    assert r.returncode == 0, r.stderr
    rows = [l.split(",") for l in r.stdout.splitlines()[1:]]
    assert [l[0] for l in rows] == [str(p) for p in paths] + [str(tmp_path / "damaged.png")] and "got something else" in rows[-1][-1]


def test_arrays_without_labels_are_no_classes(tmp_path):
    x, y = pictures(80)
    (tmp_path / "parts").mkdir()
    for part in ("train", "test"):
        np.save(tmp_path / "parts" / f"{part}.npy", x)
    assert "expected train.npy with train_labels.npy, or a .npy a class; got test.npy alone" in one_line(
        run("train", "--data", tmp_path / "parts", "--out", tmp_path / "run"), 3)
    # A folder of pictures stays one.
    write_png(tmp_path / "pictures", x, y)
    np.save(tmp_path / "pictures" / "features.npy", np.zeros((5, 3), np.float32))
    assert run("train", "--data", tmp_path / "pictures", *TASK, "--out", tmp_path / "run").returncode == 0


def test_validation_arrays_are_the_test_where_there_is_no_other(divided, tmp_path):
    _, parts, _ = divided
    for part in ("train", "val"):
        np.save(tmp_path / f"{part}.npy", parts[part][0])
        np.save(tmp_path / f"{part}_labels.npy", parts[part][1])
    r = run("train", "--data", tmp_path, "--known", "0-2", "--unknown", "3", "--epochs", 1, "--out", tmp_path / "run")
    assert r.returncode == 0 and "val.npy: val is the test data, as there is no other" in r.stderr, r.stderr


def test_lists_as_ood_data(whole, tmp_path):
    """Without labels."""
    where, x, y, _ = whole
    (where / "ood.csv").write_text("path\n" + "".join(f"folder/class3/{p.name}\n" for p in (where / "folder" / "class3").iterdir()))
    r = run("eval", whole[3], "--ood-data", f"list={where / 'ood.csv'}", "--ood-data", f"folder={where / 'folder' / 'class3'}")
    assert r.returncode == 0, r.stderr
    figures = [l.split()[3:] for l in r.stdout.splitlines() if " list " in l or " folder " in l]
    assert len(figures) == 2 and figures[0] == figures[1], r.stdout


@pytest.mark.parametrize("name, content, expected", [
    ("a.csv", "file,label\na.png,x\n", "a.csv:2: file: expected a finite number, got \"a.png\"; a class stands in a column label, the file of a picture in a column path"),
    ("a.csv", "f,F\n1,2\n", "a.csv:1: expected a name of its own for each column, got \"f\" twice"),
    ("a.csv", "1.5,2\n1,2\n", "a.csv:1: expected a line of column names, got numbers: 1.5"),
    ("a.csv", "", "a.csv: expected a line of column names, then rows of numbers or, in a list of pictures, with a column path; got none"),
    ("a.csv", "label\nx\n", "got none"), ("a.csv", "a,b\n1,2\n", "a.csv: expected a column label, with the name of each row's class"),
    ("a.csv", "a,label\n1,\n", "a.csv:2: expected a label, got none"), ("a.csv", "a,label\n1e99,x\n", "a.csv:2: a: expected a finite number, got \"1e99\""),
    ("a.csv", "a,label\nnan,x\n", "a.csv:2: a: expected a finite number"), ("a.csv", "a,label,split\n1,x,\n2,x,test\n", "a.csv:3: expected a split train, val or test in every row or none"),
    ("a.csv", "a,label,split\n1,x,train\n2,x,best\n", "a.csv:3: expected a split train, val or test in every row or none, got \"best\""),
    ("a.csv", "path,label\na.png\n", "a.csv:2: expected 2 fields, as the first line has, got 1"),
    ("a.csv", 'path,label\n"a.png,x\n', "a.csv:2: a quoted field does not end"),
    ("a.csv", "path,label\na.png,\n", "a.csv:2: expected a label, got none"),
    ("a.csv", "path,label\n,x\n", "a.csv:2: expected a path, got none"),
    ("a.csv", "path,label\n", "a.csv: expected pictures, got an empty list"),
    ("a.csv", "path,label,split\na.png,x,dev\n", 'a.csv:2: expected a split train, val or test, got "dev"'),
    ("a.csv", "path,label\nnone.png,x\n", "expected at least 5 pictures in a class, so that one can be test data"),
    ("a.jsonl", '{"path": "a.png"\n', "a.jsonl:1: expected a JSON object"),
    ("a.jsonl", '{"path": ["a.png"]}\n', 'a.jsonl:1: path: expected a text, got ["a.png"]'),
    ("a.npz", "no zip", "a.npz: expected arrays (.npz): Not a zip archive"),
    ("a.parquet", "", "expected a folder of training and test data, a list or table (.csv, .jsonl), arrays (.npz) or an archive (.tar), got another file"),
])
def test_mistakes_are_named(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content)
    line = one_line(run("train", "--data", tmp_path / name, "--out", tmp_path / "run"), 3)
    assert expected in line, line


def test_damaged_arrays_are_named(divided, tmp_path):
    where, parts, _ = divided
    x, y = parts["train"]
    np.savez_compressed(tmp_path / "a.npz", train=x, train_labels=y)
    content = (tmp_path / "a.npz").read_bytes()
    for i, damaged in enumerate([content[:len(content) // 2], content[:1000] + bytes(50) + content[1050:]]):
        (tmp_path / "b.npz").write_bytes(damaged)
        assert "b.npz" in one_line(run("train", "--data", tmp_path / "b.npz", "--out", tmp_path / "run"), 3)
    np.savez(tmp_path / "d.npz", train=np.zeros((5, 0), np.float32), train_labels=np.zeros(5, int))
    assert "expected rows of numbers, got rows of none" in one_line(run("train", "--data", tmp_path / "d.npz", "--out", tmp_path / "run"), 3)
    np.savez(tmp_path / "c.npz", x=x)
    assert "expected arrays train and train_labels" in one_line(run("train", "--data", tmp_path / "c.npz", "--out", tmp_path / "run"), 3)


def test_classes_are_drawn_equally_often(tmp_path):
    """A class with a tenth of the pictures: said, and drawn as often as the others where that is asked for."""
    x, y = pictures(300, classes=3, seed=3)
    keep = (y != 2) | (np.arange(len(y)) % 60 == 2)
    write_png(tmp_path / "data" / "train", x[keep], y[keep])
    x, y = pictures(60, classes=3, seed=4)
    write_png(tmp_path / "data" / "test", x, y)
    for name, more in (("as it is", []), ("balanced", ["--class-balance"]), ("again", ["--class-balance", "--cache", 0])):
        r = run("train", "--data", tmp_path / "data", "--epochs", 1, "--batch-size", 16, "--out", tmp_path / name, *more)
        assert r.returncode == 0, r.stderr
        assert ("--class-balance draws them equally often" in r.stderr) == (name == "as it is"), r.stderr
    same(tmp_path / "balanced", tmp_path / "again")
    assert (tmp_path / "as it is" / "model.safetensors").read_bytes() != (tmp_path / "again" / "model.safetensors").read_bytes()
