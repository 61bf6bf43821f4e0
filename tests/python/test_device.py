"""Training on a device that is not the CPU: a stand-in that the tests bring along, and CUDA where the machine has it."""
import collections
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from conftest import BUILD, REGISTRY, ROOT

STAND_IN, FOR_PYTHON = (BUILD / "tests" / "device" / f"libstand_in_{place}.so" for place in ("HPU", "PrivateUse1"))
WITH_STAND_IN = {**os.environ, "OOD_PLUGINS": ":".join(filter(None, [os.environ.get("OOD_PLUGINS"), str(STAND_IN)]))}
Device = collections.namedtuple("Device", "flags, env")  # CUDA cannot be beside the stand-in
STAND_IN_DEVICE = Device(["--device", "hpu"], WITH_STAND_IN)
TASK = ["--known", "0-2", "--outliers", 3, "--unknown", 4]
# Less than the defaults where these would not come into play in a short training.
EARLY = {"deep_svdd": ["--objective.nu", .1, "--objective.warmup_epochs", 1],
         "energy_margin": ["--objective.warmup", .3],
         "virtual_outlier_synthesis": ["--objective.sample_number", 10, "--objective.start", .3]}


@pytest.fixture(scope="module", params=["stand-in", "cuda"])
def device(request, program):
    if request.param == "stand-in":
        return STAND_IN_DEVICE
    line = next(l for l in program("doctor").stdout.splitlines() if l.startswith("devices"))
    if "no cuda" in line:
        pytest.skip(line)
    return Device(["--device", "cuda"], {**os.environ})


def five_classes(where, train):
    """Embeddings, so many to train with, and 100 to test."""
    where.mkdir()
    g = np.random.default_rng(0)
    y = np.arange(train + 100) % 5
    x = (g.normal(size=(5, 16)) * 2)[y] + g.normal(size=(len(y), 16))
    for name, rows in (("train", slice(0, train)), ("test", slice(train, None))):
        np.save(where / f"{name}.npy", x[rows].astype(np.float32))
        np.save(where / f"{name}_labels.npy", y[rows])
    return where


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    return five_classes(tmp_path_factory.mktemp("embeddings") / "five", 300)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    where = tmp_path_factory.mktemp("pictures") / "bars"
    where.mkdir()
    g = np.random.default_rng(0)
    for name, n in (("train", 200), ("test", 50)):
        y = np.arange(n) % 5
        x = g.integers(0, 60, (n, 3, 32, 32))
        for i, c in enumerate(y):
            x[i, c % 3, c * 4:c * 4 + 8] += 120
        np.save(where / f"{name}.npy", x.astype(np.uint8))
        np.save(where / f"{name}_labels.npy", y)
    return where


def trained(program, data, out, *flags, device=Device([], {**os.environ}), **more):
    r = program("train", "--data", data, *TASK, *flags, *device.flags, "--out", out,
                env={**device.env, **{k: str(v) for k, v in more.items()}})
    assert r.returncode == 0, r.stderr
    return out


def steps(run):
    return [l for l in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "step" in l]


def same_curves(run, other, tolerance):
    a, b = steps(run), steps(other)
    assert [l["step"] for l in a] == [l["step"] for l in b] and a[0].keys() == b[0].keys()
    for one, two in zip(a, b):
        for name in one:
            assert one[name] == pytest.approx(two[name], rel=tolerance, abs=tolerance), (name, one["step"])


def auroc(run):
    return json.loads((run / "results.json").read_text())["objectives"][0]["ood"]["unknown"]["auroc"]


@pytest.mark.parametrize("objective", REGISTRY)
def test_every_objective_trains_as_on_the_cpu(objective, program, embeddings, device, tmp_path):
    """For long in float64, where what a device rounds otherwise does not grow. Margins that are measured are so in float32."""
    for precision, epochs, tolerance in ("float32", 1, 1e-3), ("float64", 4, 2e-6):
        flags = ["--objective", objective, "--epochs", epochs, "--batch-size", 15, "--patience", 3, "--precision", precision,
                 *EARLY.get(objective, [])]
        here = trained(program, embeddings, tmp_path / f"here.{precision}", *flags)
        there = trained(program, embeddings, tmp_path / f"there.{precision}", *flags, device=device)
        same_curves(here, there, tolerance)
        assert auroc(there) == pytest.approx(auroc(here), abs=5e-3)


@pytest.mark.parametrize("objective", REGISTRY)
def test_no_step_waits_for_the_device(objective, program, embeddings, tmp_path):
    """Twice as many steps of as many epochs wait as often for it: no operation of a step does."""
    waits = []
    for batch in 30, 15:
        log = tmp_path / f"waits.{batch}"
        trained(program, embeddings, tmp_path / str(batch), "--objective", objective, "--epochs", 4, "--batch-size",
                batch, *EARLY.get(objective, []), device=STAND_IN_DEVICE, OOD_TEST_DEVICE_LOG=log)
        waits.append(collections.Counter(log.read_text().splitlines()))
    assert waits[0] and waits[0] == waits[1]


def test_the_stand_in_counts(program, embeddings, tmp_path):
    """What would have it wait is seen, and nothing else."""
    code = f"""
import sys, torch
sys.path.insert(0, {str(ROOT / "tests" / "python")!r})
from on_device import use_stand_in
use_stand_in({str(FOR_PYTHON)!r})
x = torch.arange(3.).to("stand_in")
(x * 2).sum(); x.nonzero(); x[x > 1]; x.max().item(); x.cpu()
"""
    log = tmp_path / "waits"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OOD_TEST_DEVICE_LOG": str(log)})
    assert log.read_text().splitlines() == ["copy from the CPU", "aten::nonzero", "aten::nonzero", "aten::index",
                                            "item", "copy to the CPU"]


@pytest.mark.parametrize("network, tolerance", [("small-cnn", 1e-4), ("resnet-18", 5e-2)])
def test_networks_train_as_on_the_cpu(network, tolerance, program, pictures, device, tmp_path):
    flags = ["--model", network, "--epochs", 1, "--batch-size", 30, "--augment", "flip,crop", "--mixup", .2]
    here = trained(program, pictures, tmp_path / "here", *flags)
    there = trained(program, pictures, tmp_path / "there", *flags, device=device)
    same_curves(here, there, tolerance)


def test_tf32_is_of_a_gpu(program, pictures, device, tmp_path):
    flags = ["--model", "small-cnn", "--epochs", 1, "--batch-size", 30]
    if device is STAND_IN_DEVICE:
        for name, more in ("cpu", []), ("hpu", device.flags):
            r = program("train", "--data", pictures, *TASK, *flags, *more, "--precision", "tf32", "--out", tmp_path / name, env=device.env)
            assert r.returncode == 2 and r.stderr == f"ood train: --precision: expected float32, float64 or bf16 on {name}, got tf32\n"
        return
    here = trained(program, pictures, tmp_path / "here", *flags)
    there = trained(program, pictures, tmp_path / "there", *flags, "--precision", "tf32", device=device)
    same_curves(here, there, 5e-2)
    assert [l["loss"] for l in steps(here)] != pytest.approx([l["loss"] for l in steps(there)], rel=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_killed_training_goes_on_exactly(optimizer, program, embeddings, device, tmp_path):
    flags = ["--objective", "center", "--epochs", 12, "--batch-size", 15, "--checkpoint", 5, "--optimizer", optimizer]
    whole = trained(program, embeddings, tmp_path / "whole", *flags, device=device)
    out = tmp_path / "killed"
    p = subprocess.Popen([str(a) for a in (BUILD / "bin" / "ood", "train", "--data", embeddings, *TASK, *flags,
                                           *device.flags, "--out", out)], env=device.env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while p.poll() is None and len(list((out / "checkpoints").glob("step-*.safetensors"))) < 2:
        time.sleep(.005)
    p.send_signal(signal.SIGKILL)
    p.wait()
    r = program("train", "--resume", out, env=device.env)  # the run knows its device
    assert r.returncode == 0, r.stderr
    if device is STAND_IN_DEVICE:
        assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    same_curves(whole, out, 1e-4)


def test_a_loss_that_is_no_number_names_its_step(program, embeddings, device, tmp_path):
    flags = ["--objective", "energy_regularized", "--lr", 1e18, "--clip", 0, "--warmup", 0, "--epochs", 3]
    here, there = (program("train", "--data", embeddings, *TASK, *flags, *more, "--out", tmp_path / name, env=device.env)
                   for name, more in (("here", []), ("there", device.flags)))
    assert here.returncode == there.returncode == 4
    def what(r):
        return r.stderr.strip().splitlines()[-1].split("; expected")[0]
    assert " at step " in what(here) and what(here) == what(there)


def test_devices_that_are_not_there_are_named(program, embeddings, tmp_path):
    def line(*flags, launch=(), env=None):
        r = program(*launch, "train", "--data", embeddings, *TASK, *flags, "--out", tmp_path / "x", env=env)
        assert r.returncode == 2, r.stderr
        return r.stderr.splitlines()[-1] if launch else r.stderr.removesuffix("\n")
    for unknown in "quda", "meta":
        assert line("--device", unknown) == f"ood train: --device: expected cpu, cuda or cuda:N, got {unknown}"
    assert re.fullmatch("ood train: --device: expected one of this machine, got hpu: .*", line("--device", "hpu"))
    if "no cuda" in program("doctor").stdout:
        assert "--device: expected one of this machine, got cuda:1: " in line("--device", "cuda:1")
    several = line("--device", "hpu", launch=["launch", "-n", 2], env=WITH_STAND_IN)
    assert "--device: expected cpu for several processes, got hpu" in several


def test_python_modules_compute_as_on_the_cpu(device):
    """Every class of ood.nn, moved there with its state: loss and gradients."""
    r = subprocess.run([sys.executable, str(ROOT / "tests" / "python" / "on_device.py"), str(FOR_PYTHON),
                        "stand_in" if device is STAND_IN_DEVICE else "cuda"],
                       capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr[-2000:]
    assert len(r.stdout.splitlines()) == len(REGISTRY)


@pytest.mark.parametrize("flags", [["--accumulate", 3], ["--precision", "float64"], ["--synthetic-outliers", "noise"],
                                   ["--optimizer", "adamw", "--cutmix", .5]], ids=lambda f: f[0])
def test_ways_of_training_are_those_of_the_cpu(flags, program, pictures, device, tmp_path):
    """energy_regularized measures its margins by a training before."""
    task = [*flags, "--objective", "energy_regularized", "--epochs", 2, "--batch-size", 20, "--model", "mlp"]
    same_curves(trained(program, pictures, tmp_path / "here", *task),
                trained(program, pictures, tmp_path / "there", *task, device=device), 1e-3)


@pytest.mark.parametrize("freeze", [[], ["--freeze"]], ids=["all", "head"])
def test_a_trained_network_is_gone_on_with(freeze, program, pictures, device, tmp_path):
    first = trained(program, pictures, tmp_path / "first", "--epochs", 1)
    flags = ["--init", first, *freeze, "--objective", "energy_regularized", "--epochs", 1, "--batch-size", 20]
    same_curves(trained(program, pictures, tmp_path / "here", *flags),
                trained(program, pictures, tmp_path / "there", *flags, device=device), 1e-3)


def test_more_steps_than_are_read_at_once(program, device, tmp_path):
    data, flags = five_classes(tmp_path / "more", 500), ["--epochs", 2, "--batch-size", 2, "--lr", .01]
    here = trained(program, data, tmp_path / "here", *flags)
    there = trained(program, data, tmp_path / "there", *flags, device=device)
    assert len(steps(there)) > 2 * 100
    same_curves(here, there, 1e-3)


def test_an_interrupted_training_has_all_its_lines(program, embeddings, device, tmp_path):
    out = tmp_path / "run"
    p = subprocess.Popen([str(a) for a in (BUILD / "bin" / "ood", "train", "--data", embeddings, *TASK, "--epochs", 500,
                                           "--batch-size", 15, *device.flags, "--out", out)], env=device.env,
                         stderr=subprocess.PIPE, text=True)
    while p.poll() is None and not ((out / "metrics.jsonl").exists() and len(steps(out)) > 20):
        time.sleep(.02)
    p.send_signal(signal.SIGINT)
    _, error = p.communicate(timeout=60)
    at = int(re.search(r"interrupted at step (\d+) of", error)[1])
    assert [l["step"] for l in steps(out)] == list(range(1, at + 1))


def test_compare_trains_there(program, embeddings, device, tmp_path):
    r = program("compare", "--data", embeddings, *TASK, "--objectives", "cross_entropy,virtual_outlier_synthesis",
                "--epochs", 2, *device.flags, "--out", tmp_path / "runs", env=device.env)
    assert r.returncode == 0, r.stderr
    assert "virtual_outlier_synthesis" in r.stdout


def test_a_run_is_used_as_on_the_cpu(program, pictures, device, tmp_path):
    """By every command whose network computes; what it writes is the CPU's."""
    run = trained(program, pictures, tmp_path / "run", "--objective", "center", "--epochs", 1)

    def said(*command):
        r = program(*command, env=device.env)
        assert r.returncode == 0, r.stderr
        return r.stdout

    def scores(*flags):
        lines = [l.split(",") for l in said("score", run, pictures / "test.npy", *flags).splitlines()[1:]]
        return [l[1] for l in lines], np.array([float(l[2]) for l in lines])

    def features(name, *flags):
        said("embed", run, pictures / "test.npy", "--out", tmp_path / name, *flags)
        return np.load(tmp_path / name)

    def evaluated(*flags):
        said("eval", run, *flags)
        return json.loads((run / "eval.json").read_text())["objectives"][0]["ood"]["unknown"]["auroc"]

    if device is STAND_IN_DEVICE:  # it does compute there
        for command in (["score", run, pictures / "test.npy"], ["embed", run, pictures / "test.npy", "--out", tmp_path / "f.npy"],
                        ["eval", run], ["fit", run]):
            for flags, waits in ([], False), (device.flags, True):
                log = tmp_path / "waits"
                log.write_text("")
                r = program(*command, *flags, env={**device.env, "OOD_TEST_DEVICE_LOG": str(log)})
                assert r.returncode == 0 and (log.read_text() != "") is waits, (command, flags)
                (tmp_path / "f.npy").unlink(missing_ok=True)
    (classes, here), (same, there) = scores(), scores(*device.flags)
    assert same == classes and there == pytest.approx(here, rel=1e-3, abs=1e-3)
    assert features("there.npy", *device.flags) == pytest.approx(features("here.npy"), rel=1e-3, abs=1e-3)
    assert evaluated(*device.flags) == pytest.approx(evaluated(), abs=5e-3)
    said("fit", run, *device.flags)
    assert scores()[1] == pytest.approx(here, rel=1e-3, abs=1e-3)
    for command in (["score", run, pictures / "test.npy"], ["embed", run, pictures / "test.npy", "--out", tmp_path / "x.npy"],
                    ["eval", run], ["fit", run]):
        r = program(*command, "--device", "quda")
        assert r.returncode == 2 and f"ood {command[0]}: --device: expected cpu, cuda or cuda:N, got quda\n" == r.stderr


class OnTheCpu(torch.nn.Module):
    """Makes a tensor where it is not."""
    def forward(self, x):
        return x.flatten(1) + torch.ones(x.flatten(1).size(1), device="cpu")


class Double(torch.nn.Module):
    """Computes in float64 within."""
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(3 * 32 * 32, 8, dtype=torch.float64))

    def forward(self, x):
        return (x.flatten(1).double() @ self.weight).float()


def own(module, where):
    script = torch.jit.script(module)
    script.save(str(where), _extra_files={"ood.json": json.dumps({"mean": [.5] * 3, "deviation": [.5] * 3})})
    return where


def test_networks_that_cannot_be_there_are_named(program, pictures, tmp_path):
    network = own(OnTheCpu(), tmp_path / "host.pt")
    run = trained(program, pictures, tmp_path / "run", "--model", network, "--freeze", "--epochs", 1)
    data = pictures / "test.npy"
    for command in (["train", "--data", pictures, *TASK, "--model", network, "--freeze", "--out", tmp_path / "other"], ["score", run, data],
                    ["embed", run, data, "--out", tmp_path / "a.npy"], ["embed", network, data, "--out", tmp_path / "b.npy"],
                    ["eval", run], ["fit", run]):
        r = program(*command, "--device", "hpu", env=WITH_STAND_IN)
        assert r.returncode == 2, (command, r.stderr)
        assert f"ood {command[0]}: --device: expected a network that can be on hpu, got a file that cannot: " in r.stderr


def test_a_network_keeps_the_types_of_its_numbers(program, pictures, device, tmp_path):
    network, data = own(Double(), tmp_path / "double.pt"), pictures / "test.npy"
    for name, flags in ("here", []), ("there", device.flags):
        r = program("embed", network, data, "--out", tmp_path / f"{name}.npy", *flags, env=device.env)
        assert r.returncode == 0, r.stderr
    here, there = (np.load(tmp_path / f"{name}.npy") for name in ("here", "there"))
    assert here.shape == (50, 8) and there == pytest.approx(here, abs=1e-6)


def test_a_precision_that_is_not_there_costs_no_run(program, embeddings, tmp_path):
    out = trained(program, embeddings, tmp_path / "run", "--epochs", 1)
    before = {f.name: f.read_bytes() for f in out.iterdir()}
    r = program("train", "--data", embeddings, *TASK, "--precision", "tf32", "--overwrite", "--out", out)
    assert r.returncode == 2 and "got tf32" in r.stderr
    assert {f.name: f.read_bytes() for f in out.iterdir()} == before
