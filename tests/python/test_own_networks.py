"""Networks of the user's own, from TorchScript files: made, trained, frozen, used without their file, refused in a line."""
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import ood
from conftest import ROOT
from test_distributed import command, folder, load_file, run, steps, wait_for_steps  # noqa: F401  (folder is a fixture)
from test_runs import wait_until

TASK = ["--known", "0-2", "--outliers", 3, "--unknown", 4]

SOURCE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b)
    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))

class Net(nn.Module):
    def __init__(self, channels=1, width=8):
        super().__init__()
        self.body = nn.Sequential(Block(channels, width), nn.MaxPool2d(2), Block(width, 2 * width))
        self.drop, self.classifier = nn.Dropout(.2), nn.Linear(2 * width, 1000)
    def forward(self, x):
        return self.classifier(self.drop(self.body(x).mean((2, 3))))

class Folder(nn.Module):
    # As torchvision's: features is a sub-module; and a view that channels-last breaks.
    def __init__(self):
        super().__init__()
        self.features, self.fc = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU()), nn.Linear(3 * 36, 5)
    def forward(self, x):
        x = self.features(x)
        return self.fc(x.view(x.size(0), -1))

class Attention(nn.Module):
    # Attention drops out by a share of 0 in evaluation; its head was made before its body.
    def __init__(self):
        super().__init__()
        self.head, self.into = nn.Linear(8, 5), nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=.1, batch_first=True)
    def forward(self, x):
        x = self.into(x.flatten(1, 2))
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 5)
        self.b.weight = self.a.weight
    def forward(self, x):
        return self.fc(torch.relu(self.b(torch.relu(self.a(x.flatten(1))))))

class Softmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 5)
    def forward(self, x):
        return self.fc(x.flatten(1)).softmax(1)

class Both(nn.Module):
    # Logits of its own task, and features.
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(192, 16), nn.Linear(16, 7)
    def forward(self, x):
        z = torch.relu(self.body(x.flatten(1)))
        return self.head(z), z

class Map(nn.Module):
    def forward(self, x):
        return x

def make(**more):
    torch.manual_seed(3)
    return Net(**more)
"""


def to_program(where, *arguments, **environment):
    (where / "mine.py").write_text(SOURCE)
    return subprocess.run([sys.executable, "-m", "ood.to_program", *map(str, arguments)], capture_output=True, text=True,
                          cwd=where, env={**os.environ, "PYTHONPATH": str(ROOT / "python"), **environment})


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    where = tmp_path_factory.mktemp("network")
    r = to_program(where, "mine:make", "--channels", 1, "--size", 8, "--out", "mine.pt")
    assert r.returncode == 0 and r.stdout == "mine.pt: 16 features; classifier is taken out, the program has a last layer of its own\n", r.stderr
    return where / "mine.pt"


def train(folder, out, network, *more, **options):  # noqa: F811
    return run("train", "--data", folder, *TASK, "--model", network, "--out", out, *more, **options)


def test_it_trains_and_is_used_without_its_file(folder, network, tmp_path):  # noqa: F811
    own = tmp_path / "own.pt"
    own.write_bytes(network.read_bytes())
    out = tmp_path / "run"
    r = train(folder, out, own, "--objective", "outlier_exposure", "--epochs", 40, "--backbone-lr", .1)
    assert r.returncode == 0, r.stderr
    assert json.loads((out / "results.json").read_text())["objectives"][0]["accuracy"] > .9
    own.unlink()
    x = np.load(folder / "test.npy")
    np.save(tmp_path / "x.npy", x)
    assert run("score", out, tmp_path / "x.npy", "--out", tmp_path / "x.csv").returncode == 0
    lines = [l.split(",") for l in (tmp_path / "x.csv").read_text().splitlines()[1:]]
    loaded = ood.load_run(out)
    classes, scores, accepted = loaded.detect(x)
    np.testing.assert_allclose([float(l[2]) for l in lines], scores, rtol=1e-5, atol=1e-6)
    assert [int(l[1]) for l in lines] == classes.tolist()
    assert [l[4] == "accept" for l in lines] == accepted.tolist()
    assert run("eval", out).returncode == 0
    # The tensors are the file's own by name, trained.
    names = set(torch.jit.load(str(network)).state_dict())
    tensors = load_file(out / "model.safetensors")
    assert {"backbone." + n for n in names} == {n for n in tensors if n.startswith("backbone.")}
    assert loaded.network.backbone.state_dict().keys() == names


@pytest.mark.parametrize("name", ["Folder", "Attention"])
def test_networks_as_others_write_them(folder, tmp_path, name):  # noqa: F811
    r = to_program(tmp_path, f"mine:{name}", "--channels", 1, "--size", 8, "--out", "n.pt")
    assert r.returncode == 0, r.stderr
    out = tmp_path / "run"
    r = train(folder, out, tmp_path / "n.pt", "--epochs", 2)
    assert r.returncode == 0, r.stderr
    x = np.load(folder / "test.npy")[:20]
    np.save(tmp_path / "x.npy", x)
    r = run("score", out, tmp_path / "x.npy")
    np.testing.assert_allclose([float(l.split(",")[2]) for l in r.stdout.splitlines()[1:]], ood.load_run(out).detect(x)[1], rtol=1e-4, atol=1e-5)


def test_weights_that_two_layers_share_are_trained_once(folder, tmp_path):  # noqa: F811
    """Against a step of torch on all data, from the last layer that a run without learning has."""
    r = to_program(tmp_path, "mine:Tied", "--channels", 1, "--size", 8, "--normalise", ".5/.25", "--out", "n.pt")
    assert r.returncode == 0, r.stderr
    plain = ["--epochs", 1, "--batch-size", 240, "--validation", 0, "--momentum", 0, "--weight-decay", 0, "--clip", 0]
    for out, rate in (("still", 1e-30), ("moved", .1)):
        r = train(folder, tmp_path / out, tmp_path / "n.pt", *plain, "--lr", rate, "--backbone-lr", rate)
        assert r.returncode == 0 and len(steps(tmp_path / out)) == 1, r.stderr
    start, moved = (load_file(tmp_path / n / "model.safetensors") for n in ("still", "moved"))
    net, head = torch.jit.load(str(tmp_path / "n.pt")), nn.Linear(64, 3)
    head.load_state_dict({k: torch.tensor(start["fc." + k]) for k in ("weight", "bias")})
    y = torch.tensor(np.load(folder / "train_labels.npy"))
    x = (torch.tensor(np.load(folder / "train.npy")[y < 3]).float() / 255 - .5) / .25
    nn.functional.cross_entropy(head(net(x)), y[y < 3]).backward()
    weight = dict(net.named_parameters())["a.weight"]
    step = .1 * weight.grad
    for name in ("a", "b"):
        error = torch.tensor(moved[f"backbone.{name}.weight"]) - (weight.detach() - step)
        assert error.abs().max() < .02 * step.abs().max()


def test_a_folder_of_a_networks_name_is_no_network(folder, tmp_path):  # noqa: F811
    r = run("train", "--data", folder, *TASK, "--model", "mlp", "--epochs", 1, "--out", "mlp", cwd=tmp_path)
    assert r.returncode == 0, r.stderr


def test_what_it_computes_is_what_python_computes(network, tmp_path, folder):  # noqa: F811
    sys.path.insert(0, str(network.parent))
    import mine
    r = to_program(network.parent, "mine:make", "--channels", 1, "--size", 8, "--normalise", ".4/.3", "--out", tmp_path / "n.pt")
    assert r.returncode == 0, r.stderr
    assert run("embed", tmp_path / "n.pt", folder, "--out", tmp_path / "features").returncode == 0
    net = mine.make().eval()
    net.classifier = nn.Identity()
    for part in ("train", "test"):
        x = torch.tensor(np.load(folder / f"{part}.npy")).float() / 255
        with torch.no_grad():
            np.testing.assert_allclose(np.load(tmp_path / "features" / f"{part}.npy"), net((x - .4) / .3), rtol=1e-4, atol=1e-5)
        assert (np.load(tmp_path / "features" / f"{part}_labels.npy") == np.load(folder / f"{part}_labels.npy")).all()


def test_frozen_only_the_last_layer_is_trained(folder, network, tmp_path):  # noqa: F811
    r = train(folder, tmp_path / "run", network, "--freeze", "--epochs", 3)
    assert r.returncode == 0, r.stderr
    before = torch.jit.load(str(network)).state_dict()
    after = load_file(tmp_path / "run" / "model.safetensors")
    for name, value in before.items():
        np.testing.assert_array_equal(after["backbone." + name], value, err_msg=name)  # statistics as well
    assert len({s["loss"] for s in steps(tmp_path / "run")}) > 5
    # One of our own, from a run.
    assert run("train", "--data", folder, *TASK, "--model", "small-cnn", "--epochs", 1, "--out", tmp_path / "a").returncode == 0
    r = run("train", "--data", folder, *TASK, "--model", "small-cnn", "--epochs", 1, "--init", tmp_path / "a", "--freeze", "--out", tmp_path / "b")
    assert r.returncode == 0, r.stderr
    a, b = (load_file(tmp_path / n / "model.safetensors") for n in "ab")
    same = {k for k in a if "conv" in k or "norm" in k or "hidden" in k}
    assert same and all((a[k] == b[k]).all() for k in same) and (a["fc.weight"] != b["fc.weight"]).any()


def test_what_is_before_the_last_layer_has_its_own_rate(folder, network, tmp_path):  # noqa: F811
    plain = ["--epochs", 1, "--batch-size", 216, "--momentum", 0, "--weight-decay", 0, "--clip", 0, "--lr", .5]  # one step
    before = torch.jit.load(str(network)).state_dict()["body.0.conv.weight"].numpy()
    moved, heads = {}, {}
    for rate in (.5, .05, 0):  # 0: a tenth of --lr for a file
        out = tmp_path / str(rate)
        r = train(folder, out, network, *plain, "--backbone-lr", rate)
        assert r.returncode == 0 and len(steps(out)) == 1, r.stderr
        after = load_file(out / "model.safetensors")
        moved[rate], heads[rate] = after["backbone.body.0.conv.weight"] - before, after["fc.weight"]
    np.testing.assert_allclose(moved[.5], 10 * moved[.05], rtol=1e-2, atol=1e-7)
    assert (moved[0] == moved[.05]).all() and np.abs(moved[.5]).max() > 0
    assert (heads[.5] == heads[.05]).all()


def test_a_training_of_it_goes_on_bit_for_bit(folder, network, tmp_path):  # noqa: F811
    long = ["--epochs", 60, "--checkpoint", 40, "--batch-size", 20]
    out, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    with subprocess.Popen(command("train", "--data", folder, *TASK, "--model", network, *long, "--out", out), stderr=subprocess.PIPE) as p:
        wait_for_steps(out, 65, p)
        p.send_signal(signal.SIGKILL)
        p.communicate()
    # Another file under the same name is not gone on with.
    content = network.read_bytes()
    r = to_program(tmp_path, "mine:make", "--argument", "width=4", "--channels", 1, "--size", 8, "--out", network)
    assert r.returncode == 0, r.stderr
    r = run("train", "--resume", out)
    network.write_bytes(content)
    assert r.returncode == 3 and "another file" in r.stderr, r.stderr
    r = run("train", "--resume", out)
    assert r.returncode == 0 and "resuming at step" in r.stderr, r.stderr
    assert train(folder, undisturbed, network, *long).returncode == 0
    assert steps(out) == steps(undisturbed)
    a, b = load_file(out / "model.safetensors"), load_file(undisturbed / "model.safetensors")
    assert all((a[k] == b[k]).all() for k in b)


def test_two_processes_train_it_as_one_does_frozen(folder, network, tmp_path):  # noqa: F811
    for out, n in (("one", 1), ("two", 2)):
        r = train(folder, tmp_path / out, network, "--freeze", "--epochs", 5, "--precision", "float64", processes=n)
        assert r.returncode == 0, r.stderr
    a, b = steps(tmp_path / "one"), steps(tmp_path / "two")
    assert max(abs(x["loss"] - y["loss"]) for x, y in zip(a, b)) < 1e-6


def test_grey_pictures_go_to_a_network_of_coloured_ones(folder, tmp_path):  # noqa: F811
    r = to_program(tmp_path, "mine:make", "--argument", "channels=3", "--size", 8, "--normalise", "imagenet", "--out", "colour.pt")
    assert r.returncode == 0, r.stderr
    r = train(folder, tmp_path / "run", tmp_path / "colour.pt", "--freeze", "--epochs", 1)
    assert r.returncode == 0, r.stderr
    assert ood.load_run(tmp_path / "run").description["mean"] == [.485, .456, .406]
    assert run("eval", tmp_path / "run").returncode == 0


def test_of_logits_and_features_the_features_are_taken(folder, network, tmp_path):  # noqa: F811
    """With the constants that a flag gives, as the file says none; they are those of three channels."""
    sys.path.insert(0, str(network.parent))
    import mine
    torch.manual_seed(0)
    net = mine.Both().eval()
    torch.jit.script(net).save(str(tmp_path / "both.pt"))
    out = tmp_path / "run"
    r = train(folder, out, tmp_path / "both.pt", "--freeze", "--epochs", 2, "--normalise", "half")
    assert r.returncode == 0, r.stderr
    x = np.load(folder / "test.npy")
    assert run("embed", out, folder / "test.npy", "--out", tmp_path / "f.npy").returncode == 0
    with torch.no_grad():
        _, expected = net(((torch.from_numpy(x).float() / 255 - .5) / .5).expand(-1, 3, -1, -1))
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), expected, rtol=1e-4, atol=1e-5)
    loaded = ood.load_run(out)
    _, scores, _ = loaded.detect(loaded.prepared(x))
    r = run("score", out, folder / "test.npy")
    np.testing.assert_allclose([float(l.split(",")[2]) for l in r.stdout.splitlines()[1:]], scores, rtol=1e-5, atol=1e-6)
    assert run("eval", out).returncode == 0
    r = to_program(tmp_path, "mine:make", "--channels", 1, "--size", 8, "--normalise", ".4/.3", "--out", "said.pt")
    assert r.returncode == 0, r.stderr
    refused(train(folder, tmp_path / "r", tmp_path / "said.pt", "--normalise", "half"), 2, "--normalise: expected none with", "which says it itself")


def test_features_are_data(folder, network, tmp_path):  # noqa: F811
    """As docs/networks.md has it: features of a run, of a further set, and heads compared on them."""
    assert train(folder, tmp_path / "run", network, "--epochs", 30, "--backbone-lr", .1).returncode == 0
    features = tmp_path / "features"
    r = run("embed", tmp_path / "run", folder, "--out", features)
    assert r.returncode == 0 and "train.npy: [400, 16]" in r.stdout, r.stderr
    noise = np.random.default_rng(1).integers(0, 255, (50, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    assert run("embed", tmp_path / "run", tmp_path / "noise.npy", "--out", tmp_path / "noise_features.npy").returncode == 0
    (features / "classes.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    r = run("compare", "--objectives", "cross_entropy,outlier_exposure", "--data", features, "--known", "one,two,three",
            "--outliers", "four", "--unknown", "five", "--ood-data", f"noise={tmp_path / 'noise_features.npy'}",
            "--epochs", 20, "--out", tmp_path / "heads")
    assert r.returncode == 0, r.stderr
    result = json.loads((tmp_path / "heads" / "results.json").read_text())
    assert result["known"] == ["one", "two", "three"]
    assert all(o["accuracy"] > .85 for o in result["objectives"])


def test_features_are_written_as_they_come_or_not_at_all(folder, network, tmp_path):  # noqa: F811
    assert train(folder, tmp_path / "run", network, "--freeze", "--epochs", 1).returncode == 0
    x = np.random.default_rng(0).integers(0, 255, (400000, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    where = tmp_path / "features"
    where.mkdir()
    process = subprocess.Popen(command("embed", tmp_path / "run", tmp_path / "x.npy", "--out", where / "f.npy"), stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any(f.stat().st_size > 4096 for f in where.iterdir()), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "f.npy is not written" in said and not list(where.iterdir())
    np.save(tmp_path / "few.npy", x[:1000])
    assert run("embed", tmp_path / "run", tmp_path / "few.npy", "--out", where / "f.npy").returncode == 0
    with torch.no_grad():
        _, features = ood.load_run(tmp_path / "run")(x[:1000, None])
    np.testing.assert_allclose(np.load(where / "f.npy"), features, rtol=1e-4, atol=1e-5)


# What is refused, in a line

def refused(r, status, *parts):
    lines = [l for l in r.stderr.splitlines() if l]
    assert r.returncode == status and len(lines) == 1, r.stderr
    for part in parts:
        assert part in lines[0], lines[0]


def test_files_that_will_not_do_are_refused(folder, network, tmp_path):  # noqa: F811
    refused(train(folder, tmp_path / "r", tmp_path / "none.pt"), 2, "--model", "none.pt")
    (tmp_path / "text.pt").write_text("no network")
    refused(train(folder, tmp_path / "r", tmp_path / "text.pt"), 2, "--model: expected a TorchScript file")
    (tmp_path / "cut.pt").write_bytes(network.read_bytes()[:5000])
    refused(train(folder, tmp_path / "r", tmp_path / "cut.pt"), 2, "--model: expected a TorchScript file")
    sys.path.insert(0, str(network.parent))
    import mine
    torch.jit.script(mine.Map()).save(str(tmp_path / "map.pt"))
    refused(train(folder, tmp_path / "r", tmp_path / "map.pt", "--freeze"), 2, "expected features [N, D] of float32, got [2, 1, 8, 8]")
    refused(train(folder, tmp_path / "r", tmp_path / "map.pt"), 2, "has no parameters that can be trained")
    torch.jit.script(mine.make(channels=3)).save(str(tmp_path / "three.pt"))
    refused(train(folder, tmp_path / "r", tmp_path / "three.pt"), 2, "it was given pictures of 1x8x8")
    net = mine.make().eval()
    net.classifier = nn.Identity()
    torch.jit.trace(net, torch.zeros(2, 1, 8, 8)).save(str(tmp_path / "trace.pt"))
    refused(train(folder, tmp_path / "r", tmp_path / "trace.pt"), 2, "always evaluates", "--freeze")
    assert train(folder, tmp_path / "traced", tmp_path / "trace.pt", "--freeze", "--epochs", 1).returncode == 0
    net.train()
    torch.jit.trace(net, torch.zeros(2, 1, 8, 8), check_trace=False).save(str(tmp_path / "training.pt"))
    refused(train(folder, tmp_path / "r", tmp_path / "training.pt", "--freeze"), 2, "always trains")
    refused(run("train", "--data", folder, *TASK, "--model", "mlp", "--init", tmp_path / "traced", "--freeze", "--out", tmp_path / "r"), 3,
            "expected a run with --model mlp")
    refused(run("train", "--data", folder, *TASK, "--freeze"), 2, "--freeze: expected weights that are worth keeping")
    refused(run("embed", network, folder, "--out", tmp_path / "f"), 2, "says nothing of its inputs")
    assert not (tmp_path / "r" / "model.safetensors").exists()
    # The user's own arrays are not written over.
    shutil.copytree(folder, tmp_path / "own")
    before = (tmp_path / "own" / "train.npy").read_bytes()
    refused(run("embed", tmp_path / "traced", tmp_path / "own", "--out", tmp_path / "own"), 2, "expected another place")
    x = tmp_path / "own" / "test.npy"
    refused(run("embed", tmp_path / "traced", folder, "--out", x), 2, "exists; choose another --out")
    assert (tmp_path / "own" / "train.npy").read_bytes() == before
    refused(run("embed", tmp_path / "traced", folder, "--image-size", 9, "--out", tmp_path / "f"), 2, "the 8x8 of the run's training, got 9")


def test_names_of_classes_that_do_not_fit_are_refused(folder, tmp_path):  # noqa: F811
    shutil.copytree(folder, tmp_path / "named")
    for names, part in (("a\nb\n", "expected labels below 2"), ("a\nb\nb\nc\nd\n", "got \"b\" twice")):
        (tmp_path / "named" / "classes.txt").write_text(names)
        refused(run("train", "--data", tmp_path / "named", "--known", "0", "--out", tmp_path / "r"), 3, part)


@pytest.mark.parametrize("arguments, part", [
    (["mine"], "expected PACKAGE.MODULE:CALLABLE"), (["mine:none"], "mine:none: module 'mine' has no attribute"),
    (["nowhere:make"], "nowhere:make: No module named"), (["mine:Map"], "output is that of a linear layer"), (["mine:Softmax", "--channels", 1], "output is that of a linear layer"),
    (["mine:make", "--channels", 3], "does not take pictures [N, 3, 8, 8]"), (["mine:make", "--weights", "none.pth"], "--weights none.pth"),
    (["mine:make", "--argument", "depth=3"], "unexpected keyword argument 'depth'"),
    (["mine:make", "--argument", "channels=1", "--channels", 1, "--normalise", "imagenet"], "a mean and a deviation above 0 for each of 1 channels"),
    (["mine:make", "--normalise", "x"], "--normalise: expected data"), (["mine:make", "--out", "x.txt"], "expected a name that ends with .pt"), (["mine:Map", "--as-is"], "expected features [N, D]")])
def test_modules_that_will_not_do_are_refused(tmp_path, arguments, part):
    r = to_program(tmp_path, "--size", 8, "--out", "x.pt", *arguments)
    refused(r, 2, part)
    assert not (tmp_path / "x.pt").exists()
