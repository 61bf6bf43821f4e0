"""Nothing is lost and nothing is taken on trust: names, outputs, limits and signals."""
import json
import os
import pathlib
import re
import signal
import stat
import struct
import subprocess
import zlib

import numpy as np
import pytest

from conftest import ROOT
from test_runs import PROGRAM, checkpoints, data, one_line, run, wait_until, write_idx  # noqa: F401  (data is a fixture)

TASK = ["--known", "0,1", "--unknown", "3"]
QUICK = [*TASK, "--epochs", 1]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):  # noqa: F811
    out = tmp_path_factory.mktemp("trained") / "run"
    assert run("train", "--data", data / "folder", *QUICK, "--out", out).returncode == 0
    return out


def test_a_name_that_is_not_utf8_is_refused_before_the_training(data, tmp_path):  # noqa: F811
    where = os.fsencode(tmp_path / "pictures")
    os.mkdir(where)
    for c in (data / "folder" / "train").iterdir():
        os.symlink(c, os.path.join(where, os.fsencode(c.name)))
    os.rename(os.path.join(where, b"class0"), os.path.join(where, b"caf\xe9"))
    r = subprocess.run([PROGRAM, "train", "--data", where, "--known", "0,1", "--unknown", "2", "--out", tmp_path / "run"],
                       capture_output=True)
    assert r.returncode == 3 and b"class caf\\xe9: expected a name in UTF-8" in r.stderr, r.stderr
    r = subprocess.run([PROGRAM, "train", "--data", data / "folder", *map(str, QUICK), "--ood-data", b"caf\xe9=" + where, "--out",
                        tmp_path / "run"], capture_output=True)
    assert r.returncode == 3 and b"expected a name in UTF-8" in r.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_written_file_keeps_what_it_was(data, tmp_path):  # noqa: F811
    """A link stays a link, a mode a mode, and a link at a temporary's name is not followed."""
    out = tmp_path / "run"
    assert run("train", "--data", data / "folder", *QUICK, "--out", out).returncode == 0
    (tmp_path / "private.json").write_text("")
    os.chmod(tmp_path / "private.json", 0o600)
    (out / "eval.json").symlink_to(tmp_path / "private.json")
    (tmp_path / "victim").write_text("precious")
    (out / "eval.json.tmp").symlink_to(tmp_path / "victim")
    assert run("eval", out).returncode == 0
    assert (out / "eval.json").is_symlink() and stat.S_IMODE((tmp_path / "private.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "private.json").read_text())["objectives"]
    assert (tmp_path / "victim").read_text() == "precious"


def test_two_at_once_do_not_share_a_temporary(trained):
    all_ = [subprocess.Popen([PROGRAM, "eval", trained, "--threads", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(6)]
    assert [p.communicate() and p.returncode for p in all_] == [0] * 6
    assert json.loads((trained / "eval.json").read_text())["objectives"]
    assert not list(trained.glob("*.ood-tmp"))


def test_a_comparison_locks_its_folder(data, tmp_path):  # noqa: F811
    """As a whole: another of other objectives would overwrite its results."""
    command = ["compare", "--data", data / "idx", *TASK, "--out", tmp_path, "--objectives"]
    p = subprocess.Popen([PROGRAM, *map(str, command), "cross_entropy", "--epochs", "300"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "cross_entropy").exists, p)
    r = run(*command, "center", "--epochs", 1)
    assert r.returncode == 3 and "another ood is at work" in r.stderr.splitlines()[-1]
    p.kill()
    p.wait()


def damaged_checkpoint(run_folder, position):
    """position: a text in place of it, or another step."""
    import ood
    file = checkpoints(run_folder)[-1]
    tensors, metadata = ood.runs.read_safetensors(file)
    if not isinstance(position, str):
        position = json.dumps({**json.loads(metadata["position"]), "step": position})
    metadata["position"] = position
    ood.runs.write_safetensors(file, tensors, metadata)


@pytest.mark.parametrize("position", ["{", "[]", '"x"', "[" * 100000, -5, 10 ** 15, None])
def test_resume_falls_back_on_whatever_is_wrong(data, tmp_path, position):  # noqa: F811
    command = ["train", "--data", str(data / "idx"), *TASK, "--epochs", "10", "--batch-size", "16", "--checkpoint", "20", "--threads", "1"]
    assert run(*command, "--out", tmp_path / "whole").returncode == 0
    out = tmp_path / "run"
    p = subprocess.Popen([PROGRAM, *command, "--out", str(out)], stderr=subprocess.DEVNULL)
    wait_until(lambda: len(checkpoints(out)) > 1, p)
    p.kill()
    p.wait()
    if position is None:  # a step that its name does not have
        newest = checkpoints(out)[-1]
        newest.rename(newest.with_name("step-000000039.safetensors"))
    else:
        damaged_checkpoint(out, position)
    r = run("train", "--resume", out)
    assert r.returncode == 0 and "trying the checkpoint before it" in r.stderr, r.stderr
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_a_checkpoint_of_other_settings_is_not_used(data, tmp_path):  # noqa: F811
    for seed in (0, 1):
        p = subprocess.Popen([PROGRAM, "train", "--data", str(data / "idx"), *TASK, "--epochs", "20", "--batch-size", "16", "--checkpoint", "20",
                              "--seed", str(seed), "--out", str(tmp_path / str(seed))], stderr=subprocess.DEVNULL)
        wait_until(lambda: len(checkpoints(tmp_path / str(seed))) > 1, p)
        p.kill()
        p.wait()
    (tmp_path / "0" / "config.toml").write_bytes((tmp_path / "1" / "config.toml").read_bytes())
    r = run("train", "--resume", tmp_path / "0")
    assert "is of a training with other settings or data" in r.stderr and "resuming at step 0" in r.stderr


def bomb_png(side):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    row = zlib.compressobj(9)
    packed = b"".join(row.compress(bytes(side + 1)) for _ in range(side)) + row.flush()
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)) + chunk(b"IDAT", packed)
            + chunk(b"IEND", b""))


def test_pictures_that_are_too_large_are_named(trained, tmp_path):
    (tmp_path / "bomb.png").write_bytes(bomb_png(11000))
    r = run("score", trained, tmp_path / "bomb.png")
    assert r.returncode == 3 and "11000x11000 pixels; expected at most 100000000 (--max-pixels)" in r.stdout
    Image = pytest.importorskip("PIL.Image")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "small.jpg", progressive=True)
    b = bytearray((tmp_path / "small.jpg").read_bytes())
    at = b.index(b"\xff\xc2") + 5
    b[at:at + 4] = struct.pack(">HH", 40000, 40000)
    (tmp_path / "bomb.jpg").write_bytes(b)
    r = run("score", trained, tmp_path / "bomb.jpg")
    assert r.returncode == 3 and "40000x40000 pixels" in r.stdout
    assert run("score", trained, tmp_path / "bomb.png", "--max-pixels", 121000000).returncode == 0


@pytest.mark.parametrize("content,part", [
    (struct.pack(">BBBBIII", 0, 0, 8, 3, 0, 16401, 857624126), "a side of 857624126"),
    (struct.pack(">BBBBIII", 0, 0, 8, 3, 4000000, 60, 60), "truncated: the header promises 14400000000"),
    (struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 4, 4) + bytes(33), "bytes beyond the 32"),
])
def test_idx_files_are_bounded_and_complete(trained, tmp_path, content, part):
    import gzip
    (tmp_path / "x").write_bytes(content)
    assert part in one_line(run("score", trained, tmp_path / "x"), 3)
    whole = gzip.compress(struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 4, 4) + bytes(32))
    (tmp_path / "y").write_bytes(whole[:-6])
    assert "truncated or damaged" in one_line(run("score", trained, tmp_path / "y"), 3)


def npy(shape, descr="<f4", content=b"", version=1, header=None):
    text = header or f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(118) + "\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text.encode() + content


@pytest.mark.parametrize("file,part", [
    (npy("(-40, 1)", content=bytes(160)), "expected a shape such as (2, 3), got (-40, 1"),
    (npy("(1, 1)", content=bytes(4), version=0), "version 1, 2 or 3"),
    (npy("(1, 1)", content=bytes(4), version=9), "version 1, 2 or 3"),
    (npy("(1, 1)", content=bytes(9)), "bytes beyond the 4"),
    (npy("(0, 3744073751614, 73709551615)"), "asks for more than a file can hold"),
])
def test_arrays_are_what_their_header_says(trained, tmp_path, file, part):
    (tmp_path / "x.npy").write_bytes(file)
    assert part in one_line(run("score", trained, tmp_path / "x.npy"), 3)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64])
def test_labels_without_sign(data, tmp_path, dtype):  # noqa: F811
    where = tmp_path / "npy"
    where.mkdir()
    for p in (data / "npy").iterdir():
        a = np.load(p)
        np.save(where / p.name, a.astype(dtype) if "labels" in p.name else a)
    runs = [tmp_path / "a", tmp_path / "b"]
    for folder, out in zip((where, data / "npy"), runs):
        assert run("train", "--data", folder, *QUICK, "--threads", 1, "--out", out).returncode == 0
    one, other = (json.loads((r / "results.json").read_text())["data_fingerprint"] for r in runs)
    assert one == other


def test_threads_are_bounded(data, trained):  # noqa: F811
    assert "0 to 4096" in one_line(run("score", trained, data / "folder", "--threads", 100000000), 2)


def test_lists_of_classes_are_bounded(data, tmp_path):  # noqa: F811
    r = run("train", "--data", data / "folder", "--known", "0-999999999", "--unknown", 3, "--out", tmp_path / "x")
    assert r.returncode == 2, r.stderr


@pytest.mark.parametrize("more", [b"x", bytes(8)])
def test_bytes_behind_a_model_are_damage(trained, data, tmp_path, more):  # noqa: F811
    import shutil
    shutil.copytree(trained, tmp_path / "run")
    with open(tmp_path / "run" / "model.safetensors", "ab") as model:
        model.write(more)
    assert "model.safetensors" in one_line(run("score", tmp_path / "run", data / "folder"), 3)


def test_configurations_are_bounded(tmp_path):
    (tmp_path / "deep.toml").write_text("[" + ".".join("a" * 100000) + "]\n")
    assert "nested deeper" in one_line(run("train", "--config", tmp_path / "deep.toml"), 3)
    assert "expected a file" in one_line(run("train", "--config", tmp_path), 3)
    assert "no such file" in one_line(run("train", "--config", tmp_path / "nowhere.toml"), 3)


@pytest.mark.parametrize("line", ["[" * 100000, '{"step":' + "[" * 100000 + "]" * 100000 + "}"])
def test_metrics_that_are_nested_deeply_are_passed_over(data, tmp_path, line):  # noqa: F811
    out = tmp_path / "run"
    p = subprocess.Popen([PROGRAM, "train", "--data", str(data / "idx"), *TASK, "--epochs", "20", "--batch-size", "16",
                          "--checkpoint", "20", "--out", str(out)], stderr=subprocess.DEVNULL)
    wait_until(lambda: checkpoints(out), p)
    p.kill()
    p.wait()
    log = out / "metrics.jsonl"
    log.write_text(line + "\n" + log.read_text())
    assert run("train", "--resume", out).returncode == 0


def test_cells_and_messages_are_harmless(trained, data, tmp_path):  # noqa: F811
    picture = next((data / "folder" / "test").rglob("*.png")).read_bytes()
    for name in ("=cmd.png", "-x.png", "a\rb.png", "plain.png"):
        (tmp_path / name).write_bytes(picture)
    r = subprocess.run([PROGRAM, "score", trained, "."], capture_output=True, cwd=tmp_path)
    assert r.returncode == 0 and b'"./a\rb.png"' in r.stdout
    r = subprocess.run([PROGRAM, "score", trained, "=cmd.png"], capture_output=True, cwd=tmp_path, text=True)
    assert r.stdout.splitlines()[1].startswith("'=cmd.png,")
    assert "\\x1b[31m" in one_line(run("score", trained, tmp_path / "\x1b[31mred"), 3)


def test_a_full_standard_output_is_an_error(trained, data):  # noqa: F811
    for command in (["score", trained, data / "folder"], ["objectives"], ["eval", trained]):
        with open("/dev/full", "w") as full:
            r = subprocess.run([PROGRAM, *map(str, command)], stdout=full, stderr=subprocess.PIPE, text=True)
        assert r.returncode == 3 and "standard output: cannot be written" in r.stderr.splitlines()[-1], command


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_not_end_up_in_files(data, tmp_path, closed):  # noqa: F811
    out = tmp_path / "run"
    command = " ".join(map(str, [PROGRAM, "train", "--data", data / "idx", *QUICK, "--out", out]))
    subprocess.run(["bash", "-c", f"{command} {closed}"])
    for line in (out / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
    assert (out / ".lock").read_bytes() == b"" and (out / "results.json").exists()


def test_a_lost_terminal_saves(data, tmp_path):  # noqa: F811
    out = tmp_path / "run"
    p = subprocess.Popen([PROGRAM, "train", "--data", str(data / "idx"), *TASK, "--epochs", "3000", "--out", str(out)],
                         stderr=subprocess.PIPE, text=True,
                         preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))  # whatever the tests run under
    wait_until(lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size, p)
    p.send_signal(signal.SIGHUP)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130 and "go on with" in err.splitlines()[-1]
    assert checkpoints(out)


def test_a_folder_that_goes_away_is_an_error(data, tmp_path):  # noqa: F811
    out = tmp_path / "run"
    p = subprocess.Popen([PROGRAM, "train", "--data", str(data / "idx"), *TASK, "--epochs", "200", "--out", str(out)],
                         stderr=subprocess.PIPE, text=True)
    wait_until(lambda: checkpoints(out), p)
    import shutil
    out.rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone", ignore_errors=True)
    _, err = p.communicate(timeout=120)
    assert p.returncode == 3 and "cannot be" in err.splitlines()[-1], err


def test_memory_that_is_not_there_is_named(data, tmp_path):  # noqa: F811
    command = f"ulimit -v 1500000; {PROGRAM} train --data {data}/folder --known 0,1 --unknown 3 --image-size 3000 " \
              f"--threads 1 --out {tmp_path}/run"
    r = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert r.returncode == 1 and r.stderr.splitlines()[-1] == (
        "ood train: out of memory; try a smaller --batch-size, --image-size or --limit-train")


def test_the_environments_are_made_of_what_is_pinned_by_content():
    """Each package of the two environments stands in tests/requirements with its version and a hash."""
    from importlib import metadata
    pinned = {}
    for path in (ROOT / "tests" / "requirements").glob("*.txt"):
        for block in re.split(r"\n(?=[\w#])", path.read_text()):
            if not block.startswith("#"):
                name, version = re.match(r"([\w.-]+)==(\S+)", block).groups()
                assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), name
                pinned[re.sub(r"[-_.]+", "-", name).lower()] = version
    there = {re.sub(r"[-_.]+", "-", d.name).lower(): d.version for d in metadata.distributions()}
    there.pop("pip"), there.pop("ood", None)
    assert there.pop("setuptools")  # each environment has one of its own
    assert {n: pinned.get(n) for n in there} == there
