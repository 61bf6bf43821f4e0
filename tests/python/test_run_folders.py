"""What a run folder holds is not lost, and not taken for another's."""
import fcntl
import json
import random
import shutil
import signal
import subprocess
import time

import pytest

from test_runs import PROGRAM, checkpoints, data, one_line, pictures, run, wait_until, write_png  # noqa: F401  (data is a fixture)

TASK = ["--known", "0,1", "--outliers", "2", "--unknown", "3"]


def train(data, out, *flags):  # noqa: F811
    return run("train", "--data", data / "idx", *TASK, "--epochs", 1, "--out", out, *flags)


def test_a_finished_run_is_not_overwritten(data, tmp_path):  # noqa: F811
    out = tmp_path / "run"
    assert train(data, out).returncode == 0
    assert run("eval", out).returncode == 0 and run("threshold", out, "--false-alarms", 0.3).returncode == 0
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    line = train(data, out, "--seed", 1)
    assert line.returncode == 2 and "holds a finished training" in line.stderr and "--overwrite" in line.stderr
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()} == before
    assert train(data, out, "--seed", 1, "--overwrite").returncode == 0
    assert not (out / "eval.json").exists() and not (out / "threshold.json").exists()
    assert (out / "model.safetensors").read_bytes() != before["model.safetensors"]


def test_a_comparison_does_not_overwrite_other_settings(data, tmp_path):  # noqa: F811
    compare = ["compare", "--data", data / "idx", *TASK, "--epochs", 1, "--objectives", "cross_entropy", "--out", tmp_path]
    assert run(*compare).returncode == 0
    r = run(*compare, "--seed", 1)
    assert r.returncode == 2 and "other settings or data" in r.stderr and "--overwrite" in r.stderr
    r = run(*compare)
    assert r.returncode == 0 and "finished before" in r.stderr
    assert run(*compare, "--seed", 1, "--overwrite").returncode == 0
    r = run(*compare, "--objectives", "cross_entropy,cross_entropy")
    assert r.returncode == 2


def files_of(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_mistake_beside_overwrite_costs_nothing(data, tmp_path):  # noqa: F811
    """Whatever is wrong with the training to come is said while the one before is still there."""
    out = tmp_path / "all" / "cross_entropy"
    assert train(data, out).returncode == 0
    shutil.copytree(out, tmp_path / "all" / "center")
    step = out / "checkpoints" / "step-000000001.safetensors"
    step.parent.mkdir()
    shutil.copy(out / "model.safetensors", step)

    def there():
        return {p: c for p, c in files_of(tmp_path).items() if p.name != ".lock"}
    before = there()
    for flags, part in ((("--init", tmp_path / "none"), "none"), (("--accumulate", 1000000), "--accumulate: expected at most the"),
                        (("--weights", step), "--weights: expected another one than that of"),
                        (("--weights", data / "none.safetensors"), "none.safetensors"),
                        (("--patience", 3, "--validation", 0), "--patience: expected held-out data")):
        for r in (train(data, out, "--overwrite", *flags),
                  run("compare", "--data", data / "idx", *TASK, "--epochs", 1, "--objectives", "cross_entropy,center", "--out",
                      tmp_path / "all", "--overwrite", *flags)):
            assert r.returncode in (2, 3) and part in r.stderr.splitlines()[-1], r.stderr
            assert there() == before, r.stderr


def test_a_comparison_drops_no_run_that_is_at_work(data, tmp_path):  # noqa: F811
    """Nor another one before it has seen that."""
    compare = ["compare", "--data", data / "idx", *TASK, *COMPARE, "--out", tmp_path]
    assert run(*compare).returncode == 0
    before = files_of(tmp_path)
    with open(tmp_path / "energy_regularized" / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        r = run(*compare, "--overwrite")
    assert r.returncode == 3 and "another ood is at work" in r.stderr
    assert files_of(tmp_path) == before


def test_a_comparison_goes_on_as_it_says(data, tmp_path):  # noqa: F811
    """After the first of its seeds, and where it replaces one of more objectives."""
    compare = ["compare", "--data", data / "idx", *TASK, "--objectives"]
    seeds, fewer = tmp_path / "seeds", tmp_path / "fewer"
    assert run(*compare, "cross_entropy", "--seeds", 2, "--epochs", 1, "--out", seeds).returncode == 0
    whole = without_time(json.loads((seeds / "results.json").read_text()))
    # As after the first seed alone.
    results = json.loads((seeds / "results.json").read_text())
    for figures in results["objectives"][0]["over_seeds"].values():
        del figures["runs"][1:]
    (seeds / "results.json").write_text(json.dumps(results))
    shutil.rmtree(seeds / "seed-1")
    r = run(*compare, "cross_entropy", "--seeds", 2, "--epochs", 1, "--out", seeds)
    assert r.returncode == 0, r.stderr
    assert without_time(json.loads((seeds / "results.json").read_text())) == whole
    assert run(*compare, "cross_entropy,logit_norm", "--epochs", 1, "--out", fewer).returncode == 0
    command = [*compare, "cross_entropy", "--epochs", 40, "--batch-size", 16, "--out", fewer]
    p = subprocess.Popen([PROGRAM, *map(str, command), "--overwrite"], stderr=subprocess.DEVNULL)
    # The old one is dropped before the new one's settings are written.
    config = fewer / "cross_entropy" / "config.toml"
    wait_until(lambda: config.exists() and "epochs = 40" in config.read_text(), p)
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert not (fewer / "cross_entropy" / "results.json").exists()
    r = run(*command)
    assert r.returncode == 0, r.stderr


def test_a_model_without_results_is_not_replaced(data, tmp_path):  # noqa: F811
    assert train(data, tmp_path / "all" / "cross_entropy").returncode == 0
    (tmp_path / "all" / "cross_entropy" / "results.json").unlink()
    before = files_of(tmp_path)
    compare = ["compare", "--data", data / "idx", *TASK, *COMPARE, "--out", tmp_path / "all"]
    r = run(*compare, "--seed", 1)
    assert r.returncode == 2 and "holds a training with other settings or data (" in r.stderr
    assert {p: c for p, c in files_of(tmp_path).items() if p in before} == before
    # One in the folder itself is no comparison's, and is not dropped for one.
    for flags in ((), ("--overwrite",)):
        r = run("compare", "--data", data / "idx", *TASK, *COMPARE, "--out", tmp_path / "all" / "cross_entropy", *flags)
        assert r.returncode == 2 and "holds a training, not a comparison; choose another folder" in r.stderr
    assert {p: c for p, c in files_of(tmp_path).items() if p in before} == before
    # Of the same settings it is a training that was killed while it was tested.
    assert run(*compare).returncode == 0
    again = tmp_path / "all" / "cross_entropy" / "model.safetensors"
    assert again.read_bytes() == before[again]


COMPARE = ["--epochs", 1, "--objectives", "cross_entropy,energy_regularized"]


def test_a_comparison_keeps_what_its_folder_has(data, tmp_path):  # noqa: F811
    compare = ["compare", "--data", data / "idx", *TASK, *COMPARE]
    out = tmp_path / "both"
    margins = ["--energy_regularized.margin_in", -9, "--energy_regularized.margin_out", -3]
    assert run(*compare, *margins, "--out", out).returncode == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}

    def refused(out, *flags):
        r = run(*compare, "--out", out, *flags)
        assert r.returncode == 2, r.stderr
        return r.stderr.splitlines()[-1]
    assert "margin_in" in refused(out) or "measured" in refused(out)  # given once, to be measured now
    assert "a comparison with one seed" in refused(out, *margins, "--seeds", 2)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    # Where the data is and how it is named are no settings.
    r = run(*compare[:2], f"{data}/idx/", "--known", "0-1", *TASK[2:], *COMPARE, *margins, "--threads", 1, "--max-pixels", 10**6, "--out", out)
    assert r.returncode == 0 and r.stderr.count("finished before") == 2, r.stderr
    assert train(data, tmp_path / "run").returncode == 0
    assert "holds a training" in refused(tmp_path / "run")


def test_a_later_seed_is_checked_before_the_first_is_trained(data, tmp_path):  # noqa: F811
    compare = ["compare", "--data", data / "idx", *TASK, "--objectives", "cross_entropy", "--out", tmp_path]
    assert run(*compare, "--epochs", 1, "--seeds", 2).returncode == 0
    shutil.rmtree(tmp_path / "seed-0")
    (tmp_path / "results.json").unlink()
    r = run(*compare, "--epochs", 2, "--seeds", 2)
    assert r.returncode == 2 and "epochs = 1, asked for epochs = 2" in r.stderr and not (tmp_path / "seed-0").exists()
    r = run(*compare, "--epochs", 1, "--seeds", 2)
    assert r.returncode == 0 and r.stderr.count("finished before") == 1


def test_a_model_of_another_training_is_not_tested(data, tmp_path):  # noqa: F811
    one, other = tmp_path / "one", tmp_path / "other"
    assert train(data, one).returncode == 0 and train(data, other, "--seed", 1).returncode == 0
    (one / "config.toml").write_bytes((other / "config.toml").read_bytes())
    assert "is of another training than config.toml" in one_line(run("eval", one), 3)
    (one / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    assert "belongs to another training than the model" in one_line(run("eval", one), 3)


def test_scores_are_not_fitted_to_other_data(data, tmp_path):  # noqa: F811
    assert train(data, tmp_path / "run").returncode == 0
    before = (tmp_path / "run" / "scores.safetensors").read_bytes()
    r = run("fit", tmp_path / "run", "--data", data / "npy")
    assert r.returncode == 3 and "expected 3 numbers a row, as the network has constants for, got 64" in r.stderr.splitlines()[-1]
    x, y = pictures(240, seed=9)
    write_png(tmp_path / "other" / "train", x, y)
    write_png(tmp_path / "other" / "test", *pictures(80, seed=1))
    r = run("fit", tmp_path / "run", "--data", tmp_path / "other")
    assert r.returncode == 3 and "are not those that the run was trained with" in r.stderr.splitlines()[-1]
    assert (tmp_path / "run" / "scores.safetensors").read_bytes() == before


def test_a_resumed_run_needs_no_more_what_it_started_from(data, tmp_path):  # noqa: F811
    assert train(data, tmp_path / "first").returncode == 0
    p = subprocess.Popen([PROGRAM, "train", "--data", str(data / "idx"), *TASK, "--epochs", "40", "--batch-size", "16", "--checkpoint", "5",
                          "--init", str(tmp_path / "first"), "--out", str(tmp_path / "run")], stderr=subprocess.DEVNULL)
    wait_until(lambda: checkpoints(tmp_path / "run"), p)
    p.send_signal(signal.SIGKILL)
    p.wait()
    shutil.rmtree(tmp_path / "first")
    assert not (tmp_path / "run" / "results.json").exists()
    r = run("train", "--resume", tmp_path / "run")
    assert r.returncode == 0 and "resuming at step" in r.stderr, r.stderr


def test_init_survives_a_kill_before_the_first_checkpoint(data, tmp_path):  # noqa: F811
    r = run("train", "--data", data / "idx", *TASK, "--epochs", 20, "--out", tmp_path / "first")
    assert r.returncode == 0
    tuned = tmp_path / "tuned"
    assert train(data, tuned, "--init", tmp_path / "first").returncode == 0
    whole = (tuned / "model.safetensors").read_bytes()
    for name in ("results.json", "model.safetensors", "scores.safetensors", "report.html"):
        (tuned / name).unlink()
    assert run("train", "--resume", tuned).returncode == 0
    assert (tuned / "model.safetensors").read_bytes() == whole


def without_time(value):
    if isinstance(value, dict):
        return {k: without_time(v) for k, v in value.items() if k != "seconds"}
    return [without_time(v) for v in value] if isinstance(value, list) else value


def test_a_comparison_that_is_killed_five_times_goes_on(data, tmp_path):  # noqa: F811
    def command(out):
        return ["compare", "--data", data / "idx", *TASK, "--epochs", 30, "--batch-size", 16, "--objectives",
                "cross_entropy,energy_regularized,outlier_exposure,center", "--out", out]
    assert run(*command(tmp_path / "undisturbed")).returncode == 0

    def lines(out):  # of all trainings, a line a step
        return sum(p.read_bytes().count(b"\n") for p in out.glob("*/metrics.jsonl"))
    whole, out = lines(tmp_path / "undisturbed"), tmp_path / "killed"
    choose = random.Random(3)
    kills = 0
    # By how much is done, not by the clock: how fast the machine is may change.
    for moment in sorted(choose.uniform(.05, .9) * whole for _ in range(5)):
        p = subprocess.Popen([PROGRAM, *map(str, command(out))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while p.poll() is None and lines(out) < moment:
            time.sleep(.002)
        kills += p.poll() is None
        p.send_signal(signal.SIGKILL)
        p.wait()
    r = run(*command(out))
    assert r.returncode == 0 and kills == 5, (r.stderr, kills)
    one, other = (without_time(json.loads((tmp_path / n / "results.json").read_text())) for n in ("undisturbed", "killed"))
    assert one == other
    for name in ("cross_entropy", "energy_regularized", "outlier_exposure", "center"):
        a, b = ((tmp_path / n / name / "model.safetensors").read_bytes() for n in ("undisturbed", "killed"))
        assert a == b, name


def test_ctrl_c_in_a_comparison_says_how_to_go_on(data, tmp_path):  # noqa: F811
    p = subprocess.Popen([PROGRAM, "compare", "--data", str(data / "idx"), *TASK, "--epochs", "2000", "--objectives",
                          "cross_entropy,center", "--out", str(tmp_path)], stderr=subprocess.PIPE, text=True)
    wait_until((tmp_path / "cross_entropy" / "metrics.jsonl").exists, p)
    time.sleep(.3)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130 and "repeat the command to go on" in err.splitlines()[-1]


def test_a_run_is_evaluated_from_anywhere_and_on_moved_data(data, tmp_path):  # noqa: F811
    assert run("train", "--data", "idx", *TASK, "--epochs", 1, "--out", tmp_path / "run", cwd=data).returncode == 0
    r = run("eval", "run", "--ood-data", "again=idx", cwd=tmp_path)
    assert r.returncode == 3 and "idx: no such file" in r.stderr  # that path is the caller's
    assert run("eval", "run", cwd=tmp_path).returncode == 0
    moved = tmp_path / "moved"
    moved.symlink_to(data / "idx")
    assert run("eval", "run", "--data", "moved", cwd=tmp_path).returncode == 0


def test_a_resumed_run_wants_its_data(data, tmp_path):  # noqa: F811
    where = tmp_path / "copy"
    where.mkdir()
    for p in (data / "idx").iterdir():
        (where / p.name).write_bytes(p.read_bytes())
    p = subprocess.Popen([PROGRAM, "train", "--data", str(where), *TASK, "--epochs", "2000", "--checkpoint", "1", "--out",
                          str(tmp_path / "run")], stderr=subprocess.DEVNULL)
    wait_until(lambda: checkpoints(tmp_path / "run"), p)
    p.send_signal(signal.SIGKILL)
    p.wait()
    images = next(where.glob("train-images*"))
    b = bytearray(images.read_bytes())
    b[20] ^= 1  # the first pixel of the first picture
    images.write_bytes(b)
    r = run("train", "--resume", tmp_path / "run")
    assert r.returncode == 3 and "are not those that the training was begun with" in r.stderr


def test_without_held_out_data_the_training_warns(data, tmp_path):  # noqa: F811
    r = train(data, tmp_path / "run", "--validation", 0)
    assert r.returncode == 0 and "warning: nothing is held out" in r.stderr
