"""Over the whole registry: what holds for every objective, without naming one."""
import subprocess
import time

import numpy as np
import pytest
import torch
import torch.autograd.forward_ad as fwAD

import ood
from conftest import CASES, case_ids, ops
from test_runs import PROGRAM, pictures, run, steps_of, weights, write_png

pytestmark = pytest.mark.filterwarnings("ignore")
cases = pytest.mark.parametrize("case", CASES, ids=case_ids)
NAMES = sorted(ood.objectives())
# Whether outliers are drawn depends on what the queues hold.
ONE_GRAPH = [c for c in CASES if "one_graph" not in c.objective.exclusions]
BATCH_MEANS = {"ii": "its means are of the batch, of which ignored rows are a part"}
BY_ROW = [c for c in ONE_GRAPH if c.objective.per_row and c.objective.name not in BATCH_MEANS]


@pytest.mark.parametrize("case", ONE_GRAPH, ids=[c.name for c in ONE_GRAPH])
@pytest.mark.parametrize("labels", [[0, 1, 2, -1, -1, 3], [0, 1, 2, 3, 0, 1], [-1] * 6], ids=["mixed", "id", "ood"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_those_of_the_composite_path(case, labels, dtype):
    torch.manual_seed(4)
    criterion = case.make().to(dtype).eval()
    x, y = torch.randn(6, 4, dtype=dtype), torch.tensor(labels)
    last = torch.nn.Linear(4, 4).to(dtype)
    direct = x.clone().requires_grad_()
    value = case.call(criterion, direct, y, last)
    g, = torch.autograd.grad(value, direct)
    # Functions with forward derivatives take the other path.
    tangent = torch.randn(6, 4, dtype=dtype)
    with fwAD.dual_level():
        dual = fwAD.unpack_dual(case.call(criterion, fwAD.make_dual(x, tangent), y, last))
    torch.testing.assert_close(value, dual.primal, rtol=1e-5, atol=1e-6)
    along = torch.zeros_like(value) if dual.tangent is None else dual.tangent
    torch.testing.assert_close((g * tangent).sum(), along, rtol=1e-4, atol=1e-5)


@cases
def test_the_loss_is_the_sum_of_its_terms(case):
    torch.manual_seed(4)
    criterion = case.make().double().eval()
    x, y = torch.randn(6, 4, dtype=torch.double), torch.tensor([0, 1, 2, -1, -1, 3])
    inputs = [*case.inputs(x), case.labels(y), *criterion._state_of_loss()]
    value, terms = ops.objective_loss(case.objective.name, criterion.parameter_list(), inputs)
    torch.testing.assert_close(terms.sum(), value)


@cases
def test_forward_in_evaluation_changes_nothing(case):
    torch.manual_seed(4)
    criterion = case.make().eval()
    before = {k: v.clone() for k, v in criterion.state_dict().items()}
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, -1, -1, 3])
    case.call(criterion, x, y, torch.nn.Linear(4, 4))
    assert all(torch.equal(v, before[k]) for k, v in criterion.state_dict().items())


@pytest.mark.parametrize("case", BY_ROW, ids=[c.name for c in BY_ROW])
def test_rows_of_an_ignored_label_take_no_part(case):
    torch.manual_seed(4)
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, -1, 77, 77])
    criterion = case.make(ignore_index=77).eval()
    kept = case.make().eval()
    kept.load_state_dict(criterion.state_dict())
    labels = case.labels(torch.where(y == 77, -1, y))
    with_ignored = criterion(*case.inputs(x), torch.where(y == 77, 77, labels))
    torch.testing.assert_close(with_ignored, kept(*case.inputs(x[:4]), labels[:4]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("registry")
    write_png(root / "train", *pictures(96))
    write_png(root / "test", *pictures(24, seed=1))
    return root


TASK = ["--known", "0,1", "--outliers", "2", "--unknown", "3", "--batch-size", 16, "--lr", ".01", "--model", "mlp"]


def python_says_as_the_program(out, x, path):
    """The run in Python, whose classes, scores and decisions of `x` are those of `ood score`."""
    np.save(path, x)
    r = run("score", out, path)
    assert r.returncode == 0, r.stderr
    rows = [line.split(",") for line in r.stdout.splitlines()[1:]]
    loaded = ood.load_run(out)
    classes, scores, accepted = loaded.detect(torch.from_numpy(x))
    printed = torch.tensor([float(row[2]) for row in rows], dtype=torch.double)
    torch.testing.assert_close(scores.double(), printed, rtol=1e-6, atol=1e-6)
    assert ["accept" if a else "reject" for a in accepted] == [row[4] for row in rows]
    assert [loaded.class_names[c] if c >= 0 else "" for c in classes] == [row[1] for row in rows]
    return loaded


@pytest.mark.parametrize("name", NAMES)
def test_the_program_and_python_say_the_same_of_a_run(name, folder, tmp_path):
    r = run("train", "--data", folder, *TASK, "--epochs", 2, "--objective", name, "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    python_says_as_the_program(tmp_path / "run", pictures(24, seed=1)[0], tmp_path / "x.npy")


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    root = tmp_path_factory.mktemp("embeddings")
    g = np.random.default_rng(0)
    for part, n in (("train", 640), ("test", 80)):
        y = np.arange(n) % 4
        np.save(root / f"{part}.npy", (g.normal(size=(n, 6)) + 3 * np.eye(6)[y]).astype(np.float32))
        np.save(root / f"{part}_labels.npy", y)
    return root


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_enough_held_out_data_joins_scores(name, embeddings, tmp_path):
    r = run("train", "--data", embeddings, *TASK, "--epochs", 1, "--validation", .5, "--objective", name, "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    loaded = python_says_as_the_program(tmp_path / "run", np.load(embeddings / "test.npy"), tmp_path / "x.npy")
    own = "own" in loaded.members
    assert loaded.members == ["mds_pp", "rmds", "own" if own else "gen"]
    assert own or ood.objectives()[name].ood_labels == "left out"


STATEFUL = [n for n, o in ood.objectives().items() if o.state]


@pytest.mark.parametrize("name", STATEFUL)
def test_a_killed_training_resumes_bit_for_bit(name, folder, tmp_path):
    small = [f"--objective.{p.name}={min(p.default, 4)}" for p in ood.objectives()[name].parameters if p.kind == "whole"]
    common = ["train", "--data", folder, *TASK, "--epochs", 4, "--objective", name, *small, "--checkpoint", 3]
    assert run(*common, "--out", tmp_path / "whole").returncode == 0
    process = subprocess.Popen([PROGRAM, *map(str, common), "--out", str(tmp_path / "killed")],
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list((tmp_path / "killed" / "checkpoints").glob("*.safetensors")):
        time.sleep(.001)
    process.kill()
    process.wait()
    if not (tmp_path / "killed" / "results.json").exists():
        r = run("train", "--resume", tmp_path / "killed")
        assert r.returncode == 0, r.stderr
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert steps_of(tmp_path / "killed") == steps_of(tmp_path / "whole")


def test_python_knows_the_networks_of_the_program(folder, tmp_path):
    task = [m if m != "mlp" else "no-such" for m in TASK]
    r = run("train", "--data", folder, *task, "--out", tmp_path / "run")
    listed = r.stderr.partition("expected ")[2].partition(", got")[0].split(", ")
    assert r.returncode == 2 and set(listed) >= set(ood.networks._NETWORKS), r.stderr
    assert set(listed) - set(ood.networks._NETWORKS) <= {"auto"}


@pytest.mark.parametrize("model", sorted(ood.networks._NETWORKS))
@pytest.mark.parametrize("objective", ["cross_entropy", "deep_svdd"], ids=["bias", "without-bias"])
def test_a_network_is_the_same_in_both_languages(model, objective, folder, tmp_path):
    task = [m if m != "mlp" else model for m in TASK]
    r = run("train", "--data", folder, *task, "--limit-train", 32, "--epochs", 1, "--pretrain", 0, "--objective", objective,
            "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    tensors, _ = ood.runs.read_safetensors(tmp_path / "run" / "model.safetensors")
    loaded = ood.load_run(tmp_path / "run")
    own = {k: v.shape for k, v in tensors.items() if not k.startswith(("objective.", "scores.", "joint.")) and k != "validation_scores"}
    assert {k: v.shape for k, v in loaded.network.state_dict().items()} == own
    x, _ = pictures(24, seed=1)
    np.save(tmp_path / "x.npy", x)
    rows = [line.split(",") for line in run("score", tmp_path / "run", tmp_path / "x.npy").stdout.splitlines()[1:]]
    scores = loaded.detect(torch.from_numpy(x))[1].double()
    torch.testing.assert_close(scores, torch.tensor([float(r[2]) for r in rows], dtype=torch.double), rtol=1e-5, atol=1e-5)
