"""Residual networks with torchvision's names: its weights load as they are."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import ood
from conftest import ROOT
from test_runs import Image, pictures, run, write_png

torchvision = pytest.importorskip("torchvision")
SIDE = 96
NAMES = ["resnet18", "resnet34", "resnet50"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    where = tmp_path_factory.mktemp("photos")
    x, y = pictures(40, side=SIDE)
    write_png(where, x, y)
    return where


def made(name, seed=0):
    """Random weights, and statistics that are not those of a new network."""
    torch.manual_seed(seed)
    net = getattr(torchvision.models, name)().eval()
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, .1)
            m.running_var.uniform_(.5, 1.5)
            m.weight.data.uniform_(.5, 1)
    return net


def state_file(where, net, name="state"):
    torch.save(net.state_dict(), where / f"{name}.pth")
    r = subprocess.run([sys.executable, "-m", "ood.to_program", f"{name}.pth", "--out", f"{name}.safetensors"], cwd=where,
                       capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
    assert r.returncode == 0 and r.stdout == f"{name}.safetensors: {len(net.state_dict())} tensors\n", r.stderr
    return where / f"{name}.safetensors"


def arguments(photos, name, weights, out):
    return ["train", "--data", photos, "--known", "class0,class1,class2", "--unknown", "class3", "--model", name.replace("net", "net-"),
            "--weights", weights, "--epochs", 1, "--batch-size", 8, "--out", out]


@pytest.mark.parametrize("name", NAMES)
def test_features_are_torchvisions(name, photos, tmp_path):
    """Of the program, and of the Python twin."""
    net = made(name)
    out = tmp_path / "run"
    r = run(*arguments(photos, name, state_file(tmp_path, net), out), "--freeze")
    assert r.returncode == 0, r.stderr
    trained = len(net.state_dict()) - 2  # the last layer has other classes
    assert f"{trained} of {trained + 2} tensors fit and are taken over" in r.stderr
    x, _ = pictures(40, side=SIDE)
    np.save(tmp_path / "x.npy", x)
    assert run("embed", out, tmp_path / "x.npy", "--out", tmp_path / "f.npy").returncode == 0
    net.fc = torch.nn.Identity()
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ([.485, .456, .406], [.229, .224, .225]))
    normalised = (torch.from_numpy(x) / 255. - mean) / deviation
    with torch.no_grad():
        expected = net(normalised)
        twin = ood.load_run(out).network.features(normalised)
    scale = float(expected.abs().max())
    assert float((torch.from_numpy(np.load(tmp_path / "f.npy")) - expected).abs().max()) < 1e-5 * scale
    assert float((twin - expected).abs().max()) < 1e-5 * scale


def test_a_fine_tuned_run_needs_no_file(photos, tmp_path):
    weights = state_file(tmp_path, made("resnet18"))
    r = run(*arguments(photos, "resnet18", weights, tmp_path / "run"), "--backbone-lr", .001)
    assert r.returncode == 0, r.stderr
    config = (tmp_path / "run" / "config.toml").read_text()
    assert f"weights = '{weights}'" in config
    # A run is used without the file, on inputs that are normalised as in its training.
    weights.unlink()
    measured_as_trained(tmp_path / "run")


def measured_as_trained(out):
    """eval gives what the training gave, and fit what it had fitted."""
    (trained,) = json.loads((out / "results.json").read_text())["objectives"]
    r = run("eval", out)
    assert r.returncode == 0, r.stderr
    (again,) = json.loads((out / "eval.json").read_text())["objectives"]
    assert again["accuracy"] == trained["accuracy"]
    assert {k: v["auroc"] for k, v in again["ood"].items()} == {k: v["auroc"] for k, v in trained["ood"].items()}
    before = (out / "scores.safetensors").read_bytes(), (out / "model.safetensors").read_bytes()
    r = run("fit", out)
    assert r.returncode == 0, r.stderr
    assert ((out / "scores.safetensors").read_bytes(), (out / "model.safetensors").read_bytes()) == before


def test_weights_of_before_counters_fit(photos, tmp_path):
    """PyTorch 0.4 had no num_batches_tracked; another file in the place of the first is another training."""
    net = made("resnet18")
    state = net.state_dict()
    net.state_dict = lambda: {k: v for k, v in state.items() if "num_batches" not in k}
    weights = state_file(tmp_path, net)
    r = run(*arguments(photos, "resnet18", weights, tmp_path / "run"), "--freeze")
    assert r.returncode == 0, r.stderr
    common = ["compare", *arguments(photos, "resnet18", weights, tmp_path / "all")[1:], "--objectives", "cross_entropy"]
    assert run(*common).returncode == 0
    weights.write_bytes(state_file(tmp_path, made("resnet18", 1), "other").read_bytes())
    r = run(*common)
    assert r.returncode == 2 and "asked for network_fingerprint" in r.stderr, (r.stdout, r.stderr)


def test_what_does_not_fit_is_named(photos, tmp_path):
    weights = state_file(tmp_path, made("resnet18"))
    common = arguments(photos, "resnet18", weights, tmp_path / "run")

    def refused(status, expected, *more, without=()):
        r = run(*[a for a in common if a not in without], *more)
        lines = [l for l in r.stderr.splitlines() if not l.startswith("note: ")]
        assert r.returncode == status and len(lines) == 1 and expected in lines[0], r.stderr
    refused(2, "--freeze: expected weights that fit but for the last layer", "--freeze", "--model", "resnet-34", without=("--model", "resnet-18"))
    refused(3, "expected the network's tensors, got none that fits; it has for conv1.weight [64, 3, 7, 7] instead of [16, 3, 3, 3]",
            "--model", "small-cnn", without=("--model", "resnet-18"))
    refused(2, "--weights: expected them without --init and without a file as --model, got both", "--init", tmp_path)
    refused(2, "--normalise: expected auto or data or imagenet or half, got image", "--normalise", "image")
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:-5])
    refused(3, "cut.safetensors", "--weights", tmp_path / "cut.safetensors", without=("--weights", weights))
    refused(3, "none.safetensors", "--weights", tmp_path / "none.safetensors", without=("--weights", weights))
    for content, what in ((b"no pickle", "state.pth"), (None, "expected a state_dict")):
        if content is None:
            torch.save([1, 2], tmp_path / "state.pth")
        else:
            (tmp_path / "state.pth").write_bytes(content)
        r = subprocess.run([sys.executable, "-m", "ood.to_program", "state.pth", "--out", "x.safetensors"], cwd=tmp_path,
                           capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
        assert r.returncode == 2 and what in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr


def test_grey_pictures_become_colour(tmp_path):
    """The constants are those of three channels."""
    x, y = pictures(40, side=SIDE, channels=1)
    write_png(tmp_path / "grey", x, y)
    weights = state_file(tmp_path, made("resnet18"))
    r = run(*arguments(tmp_path / "grey", "resnet18", weights, tmp_path / "run"), "--freeze")
    assert r.returncode == 0, r.stderr
    description = ood.load_run(tmp_path / "run").description
    assert description["channels"] == 3 and description["mean"] == [.485, .456, .406]
    measured_as_trained(tmp_path / "run")


def test_small_pictures_keep_their_first_layer(tmp_path):
    """Up to 64 pixels there is no pooling; above there is."""
    for side, kernel in ((64, 3), (65, 7)):
        x, y = pictures(24, side=side)
        write_png(tmp_path / str(side), x, y)
        out = tmp_path / f"run{side}"
        assert run("train", "--data", tmp_path / str(side), "--known", "0-2", "--unknown", "class3", "--model", "resnet-18", "--epochs", 1,
                   "--limit-train", 8, "--out", out).returncode == 0
        network = ood.load_run(out).network
        assert network.conv1.weight.shape[2] == kernel
        assert json.loads((out / "results.json").read_text())


def test_the_guide_from_ten_thousand_pictures_to_heads(tmp_path):
    """The commands of docs/networks.md as they stand, but at 32 pixels."""
    guide = (ROOT / "docs" / "networks.md").read_text()
    block = guide[guide.index("## Features once"):]
    commands = [l.strip().split() for l in block.splitlines() if l.startswith("    ood ")]
    assert [c[1] for c in commands] == ["embed", "embed", "compare"]
    names, (x, y) = ["cat", "dog", "horse"], pictures(10000, classes=3)
    for part, rows in (("train", slice(0, 9000)), ("test", slice(9000, None))):
        for i, (p, c) in enumerate(zip(x[rows], y[rows])):
            (tmp_path / "photos" / part / names[c]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(p.transpose(1, 2, 0)).save(tmp_path / "photos" / part / names[c] / f"{i}.jpg")
    write_png(tmp_path / "letters", pictures(100, seed=1, channels=1)[0], np.zeros(100, int))
    torch.save(made("resnet18").state_dict(), tmp_path / "resnet18.pth")
    r = subprocess.run([sys.executable, "-m", "ood.to_program", "torchvision.models:resnet18", "--weights", "resnet18.pth", "--normalise",
                        "imagenet", "--out", "resnet18.pt"], cwd=tmp_path, capture_output=True, text=True,
                       env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
    assert r.returncode == 0, r.stderr
    for command in commands:
        r = run(*["32" if a == "224" else a for a in command[1:]], cwd=tmp_path)
        assert r.returncode == 0, r.stderr
    assert np.load(tmp_path / "features" / "train.npy").shape == (9000, 512)
    results = json.loads((tmp_path / "runs" / "heads" / "results.json").read_text())
    assert len(results["objectives"]) > 1 and all(
        o["accuracy"] is None or o["accuracy"] > .9 for o in results["objectives"]), r.stdout
    assert set(results["objectives"][0]["ood"]) == {"unknown", "letters"}
