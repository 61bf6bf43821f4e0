"""`import ood` as its users use it: modules, what PyTorch does with modules, runs of the program."""
import copy
import inspect
import io
import pickle
import re
import subprocess
import sys

import pytest
import torch

import ood
from conftest import BUILD, CASES, ROOT, case_ids as ids

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(12, 4, requires_grad=True), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, -1, -1, -1, -1]), torch.nn.Linear(4, 4)


def value(case, criterion, batch, x=None):
    logits, y, last = batch
    torch.manual_seed(7)
    return case.call(criterion, logits if x is None else x, y, last)


def test_every_objective_of_the_registry_has_its_class():
    for o in ood.objectives().values():
        assert hasattr(ood.nn, o.class_name), o.class_name


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_parameters_have_the_names_and_defaults_of_the_registry(case):
    entry = next(o for o in ood.objectives().values() if o.class_name == case.name)
    signature = inspect.signature(getattr(ood.nn, case.name).__init__)
    for p in entry.arguments:
        default = signature.parameters[p.python_name].default
        assert default == p.default and type(default) is p.type, p.python_name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_a_module_in_a_half_type_gives_what_it_gives_in_float32(case, dtype, batch):
    x, y, last = batch
    rounded = copy.deepcopy(last).to(dtype)
    torch.manual_seed(3)
    half = case.make().to(dtype)
    full = copy.deepcopy(half).float()
    for _ in range(2):  # the second step has state of the first
        got = value(case, half, (x.to(dtype), y, rounded))
        expected = value(case, full, (x.to(dtype).float(), y, copy.deepcopy(rounded).float()))
    assert got.isfinite() and abs(got.item() - expected.item()) <= .02 * abs(expected.item()) + .01


def test_the_exact_sums_of_vos_are_not_rounded_by_a_conversion():
    criterion = ood.nn.VirtualOutlierSynthesizingRegLoss(2, 3, sample_number=4, sample_from=50)
    last = torch.nn.Linear(3, 2)
    x = torch.randn(8, 3) + 300  # sums beyond what float16 holds
    criterion(last(x), x, torch.arange(8) % 2, last)
    before = criterion.queues.moment.clone()
    criterion.half().double().bfloat16().float()
    assert criterion.queues.moment.equal(before) and criterion.queues.queue.dtype == torch.float32
    assert criterion(last(x), x, torch.full((8,), -1), last).isfinite()  # nothing for the queues
    assert criterion(last(x), x, torch.arange(8) % 2, last).isfinite()


@pytest.mark.parametrize("ignored", [None, 77])
@pytest.mark.parametrize("training", [True, False])
def test_the_losses_of_vos_are_those_of_known_and_of_drawn_rows(training, ignored):
    criterion = ood.nn.VirtualOutlierSynthesizingRegLoss(2, 3, sample_number=4, sample_from=50, reduction="none",
                                                         ignore_index=ignored).train(training)
    last, x = torch.nn.Linear(3, 2), torch.randn(12, 3, requires_grad=True)
    y = torch.tensor([0, 1] * 4 + [-1, -2] + ([-3, -3] if ignored is None else [ignored, ignored]))
    for _ in range(2):
        losses = criterion(last(x), x, y, last)
    assert losses.shape == (8 + 2 * training,)  # one drawn for each of two classes
    losses.sum().backward()
    assert x.grad[:8].abs().sum() > 0 and x.grad[8:].eq(0).all()


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_forward_backward_deepcopy_pickle_and_state(case, batch):
    torch.manual_seed(3)
    criterion = case.make()
    a = value(case, criterion, batch)
    a.backward()
    assert a.shape == () and batch[0].grad.isfinite().all()
    blob = io.BytesIO()
    torch.save(criterion.state_dict(), blob)
    blob.seek(0)
    fresh = case.make()
    fresh.load_state_dict(torch.load(blob), strict=True)
    for other in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion)), fresh):
        torch.testing.assert_close(value(case, other, batch), value(case, copy.deepcopy(criterion), batch))
    double = case.make().to(torch.double)
    x = batch[0].detach().double().requires_grad_()
    value(case, double, (x, batch[1], copy.deepcopy(batch[2]).double())).backward()
    assert x.grad.dtype == torch.double


@pytest.mark.parametrize("case", CASES, ids=ids)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(case, batch, dtype):
    criterion, (x, y, last) = case.make().eval(), batch
    with torch.autocast("cpu", dtype=dtype):
        logits = torch.nn.functional.linear(x, torch.eye(4))
        assert logits.dtype == dtype
        low = value(case, criterion, (logits, y, last))
    low.backward()
    assert x.grad.isfinite().all()
    torch.testing.assert_close(low.float(), value(case, criterion, (x.detach(), y, last)).float(), atol=.05, rtol=.05)


# What an objective cannot take part in is data of the registry.
STATELESS = [c for c in CASES if "one_graph" not in c.objective.exclusions]


@pytest.mark.parametrize("case", STATELESS, ids=[c.name for c in STATELESS])
def test_compile_and_export(case, batch):
    criterion, (x, y, last) = case.make().eval(), batch

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.criterion = criterion

        def forward(self, x, y):
            return case.call(self.criterion, x * 1, y, last)

    expected = Step()(x, y)
    torch._dynamo.reset()
    compiled = torch.compile(Step(), fullgraph=True, dynamic=True, backend="aot_eager")
    got, want = torch.autograd.grad(compiled(x, y), x)[0], torch.autograd.grad(expected, x)[0]
    torch.testing.assert_close(got, want)
    program = torch.export.export(Step(), (x.detach(), y))
    torch.testing.assert_close(program.module()(x.detach(), y), expected.detach())


@pytest.mark.parametrize("case", STATELESS, ids=[c.name for c in STATELESS])
def test_functional_transforms_double_backward_and_checkpointing(case, batch):
    criterion, (x, y, last) = case.make().eval(), batch
    f = lambda x: case.call(criterion, x, y, last)
    want, = torch.autograd.grad(f(x), x, create_graph=True)
    second, = torch.autograd.grad(want.square().sum(), x, allow_unused=True)
    assert second is None or second.isfinite().all()
    torch.testing.assert_close(torch.func.grad(f)(x.detach()), want.detach())
    many = torch.stack([x.detach(), x.detach() + 1])
    torch.testing.assert_close(torch.func.vmap(f)(many), torch.stack([f(m) for m in many]))
    got, = torch.autograd.grad(torch.utils.checkpoint.checkpoint(f, x, use_reentrant=False), x)
    torch.testing.assert_close(got, want.detach())


DDP = """
import os, sys, torch, torch.distributed as dist
sys.path[:0] = [{tests!r}, {package!r}]
from conftest import CASES
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.set_num_threads(1)
for case in CASES:
    torch.manual_seed(5)
    criterion, body, last = case.make(), torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.criterion = body, criterion
        def forward(self, x, y):
            return case.call(self.criterion, self.body(x), y, last)
    step = torch.nn.parallel.DistributedDataParallel(Step(), find_unused_parameters=True)
    torch.manual_seed(rank)
    x, y = torch.randn(12, 4), torch.arange(12) % 5 - 1
    for _ in range(2):
        torch.manual_seed(9)
        step(x, y).backward()
    grads = [torch.empty_like(body.weight) for _ in range(2)]
    dist.all_gather(grads, body.weight.grad)
    assert torch.equal(*grads) and grads[0].isfinite().all(), case.name
    print("ok", case.name)
dist.barrier()
sys.stdout.flush()
os._exit(0)  # gloo's threads end the process now and then while they are torn down
"""


def test_distributed_data_parallel_in_two_processes(tmp_path):
    code = DDP.format(tests=str(ROOT / "tests" / "python"), package=str(ROOT / "python"))
    processes = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, str(rank), str(tmp_path / "store")],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for rank in range(2)]
    outputs = [p.communicate(timeout=240) for p in processes]
    assert all(p.returncode == 0 for p in processes), outputs[0][1][-2000:]
    assert outputs[0][0].count("ok ") == len(CASES)


def test_data_loader_workers_may_import_and_call(batch):
    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return ood.nn.functional.cross_entropy(torch.eye(3), torch.arange(3))

    values = torch.cat(list(torch.utils.data.DataLoader(Data(), batch_size=2, num_workers=2)))
    assert values.shape == (4,) and values.std() == 0


def test_augmentation_follows_its_generator():
    x, y = torch.randn(6, 3, 8, 8), torch.arange(6)
    draws = [ood.augment.CutMix(generator=torch.Generator().manual_seed(3))(x, y) for _ in range(2)]
    assert torch.equal(draws[0][0], draws[1][0]) and draws[0][3] == draws[1][3]
    mixed, a, b, lam = ood.augment.mixup_data(torch.arange(4), y[:4], .5, torch.Generator().manual_seed(1))
    torch.testing.assert_close(mixed, lam * a.float() + (1 - lam) * b.float())


def test_metrics_and_scores():
    d = ood.metrics.detection(torch.tensor([0., 1, 2]), torch.tensor([2., 3]))
    assert abs(d.auroc - 5.5 / 6) < 1e-12
    with pytest.raises(ValueError, match="NaN"):
        ood.metrics.detection(torch.tensor([float("nan")]), torch.tensor([1.]))
    x = torch.randn(5, 3)
    torch.testing.assert_close(ood.scores.energy(x), -x.logsumexp(1))


@pytest.mark.parametrize("call,kind,message", [
    (lambda: ood.nn.OutlierExposureLoss(beta=1), TypeError, "beta.*alpha"),
    (lambda: ood.nn.OutlierExposureLoss(.5, .5), TypeError, "at most 1"),
    (lambda: ood.nn.LogitNorm(tau=-1.)(torch.randn(2, 3), torch.tensor([0, 1])), ValueError, "tau.*-1"),
    (lambda: ood.nn.OutlierExposureLoss()(torch.randn(2, 3), torch.tensor([0])), ValueError, r"target.*\[2\].*\[1\]"),
    (lambda: ood.nn.OutlierExposureLoss()(torch.randn(2, 3), torch.tensor([0, 3])), IndexError, "got 3 in row 1"),
    (lambda: ood.nn.DeepSVDDLoss(3).init_center([]), ValueError, "expected batches"),
    (lambda: ood.load_run("/nowhere"), FileNotFoundError, "expected a run"),
])
def test_errors_name_argument_expectation_and_value(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_another_torch_is_told_in_one_sentence():
    from ood._library import check_version
    check_version("2.13.0", "2.13.1+cpu")
    with pytest.raises(ImportError, match=r"built against torch 2.13.0, this is torch 2.12.1; run pip install"):
        check_version("2.13.0", "2.12.1")


def test_stubs_are_those_of_the_registry():
    from ood._stubs import stub
    assert (ROOT / "python" / "ood" / "nn" / "criterion.pyi").read_text() == stub(), \
        "run: ./dev python -m ood._stubs"


@pytest.mark.parametrize("objective,model", [
    ("outlier_exposure", "small-cnn"), ("background_class", "mlp"), ("cac", "small-cnn"), ("deep_svdd", "mlp"),
    ("ii", "mlp"), ("confidence", "small-cnn"), ("objectosphere", "resnet-18"), ("mchad", "wrn-40-2")])
def test_a_run_of_the_program_gives_the_same_in_python(tmp_path, objective, model):
    import numpy as np
    from test_runs import pictures, run, write_png
    write_png(tmp_path / "f" / "train", *pictures(48))
    write_png(tmp_path / "f" / "test", *pictures(24, seed=1))
    r = run("train", "--data", tmp_path / "f", "--known", "0,1", "--outliers", "2", "--unknown", "3", "--epochs", 1,
            "--batch-size", 8, "--objective", objective, "--model", model, "--lr", ".01", "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr
    x, _ = pictures(24, seed=1)
    np.save(tmp_path / "x.npy", x)
    r = run("score", tmp_path / "run", tmp_path / "x.npy")
    assert r.returncode == 0, r.stderr
    rows = [line.split(",") for line in r.stdout.splitlines()[1:]]
    loaded = ood.load_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"load_run: expected (floating|uint8) inputs of shape \[N, .*got \(2, 3\)"):
        loaded.detect(torch.zeros(2, 3))
    classes, scores, accepted = loaded.detect(torch.from_numpy(x))
    torch.testing.assert_close(scores.double(), torch.tensor([float(row[2]) for row in rows], dtype=torch.double), atol=1e-4,
                               rtol=1e-4)
    assert ["accept" if a else "reject" for a in accepted] == [row[4] for row in rows]
    assert [loaded.class_names[c] if c >= 0 else "" for c in classes] == [row[1] for row in rows]
    assert torch.equal(loaded.detect(x)[1], scores)  # an array
    z, f = loaded(torch.from_numpy(x))
    assert torch.equal(loaded.network((torch.from_numpy(x).float() / 255 - loaded.mean) / loaded.deviation), z)
    if objective == "deep_svdd":
        with pytest.raises(ValueError, match="class_logits: deep_svdd trains no logits"):
            loaded.class_logits(z, f)
    else:
        assert loaded.class_logits(z, f).shape == (24, 2)
    # And back: the twin's weights train on in the program.
    with torch.no_grad():
        for p in loaded.network.parameters():
            p.mul_(1.5)
    loaded.save_network(tmp_path / "model.safetensors")
    r = run("score", tmp_path / "model.safetensors", tmp_path / "x.npy")
    assert r.returncode == 0 and r.stdout.splitlines()[1:] != [",".join(row) for row in rows]


def test_docstrings_of_modules_have_an_example_that_runs():
    import doctest
    from ood import augment, metrics
    from ood.nn import centers, criterion
    names = {"torch": torch, "ood": ood}
    examples = 0
    for module in (augment, metrics, centers, criterion):
        for test in doctest.DocTestFinder().find(module, globs=names):
            for e in test.examples:
                exec(compile(e.source, test.name, "single"), test.globs)  # runs; values are random
                examples += 1
    assert examples > 30


def test_the_examples_of_the_readme_run(tmp_path):
    text = (ROOT / "README.md").read_text()
    blocks = [b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "import" in b]
    assert blocks
    for b in blocks:
        code = "import sys; sys.path.insert(0, %r)\n" % str(ROOT / "python") + b
        r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
                           env={**__import__("os").environ, "OOD_BUILD": str(BUILD)})
        assert r.returncode == 0, r.stderr


def test_the_example_trains_and_plots(tmp_path):
    import importlib.util
    import pathlib
    if not pathlib.Path("/usr/share/datasets/fashion-mnist").exists():
        pytest.skip("dataset-fashion-mnist is not installed")
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples" / "python" / "fashion_mnist.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    # 120 steps give .83 to .996 by the seed, and the last bits of a sum are as good as another seed; no training gives .5.
    assert example.main(str(tmp_path / "plot.png"), steps=120) > .7
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.parametrize("call", [
    lambda y: ood.nn.CrossEntropyLoss(reduction="none")(torch.randn(8, 4), y),
    lambda y: ood.nn.OutlierExposureLoss()(torch.randn(8, 4), y),
    lambda y: ood.nn.CenterLoss(4, 4)(torch.randn(8, 4), y),
    lambda y: ood.nn.CenterLoss(4, 4).to("meta")(torch.randn(8, 4), y.to("cpu", copy=True) if not y.is_meta else torch.zeros(8).long()),
    lambda y: ood.nn.CACLoss(4)(torch.randn(8, 4), y),
    lambda y: ood.nn.MCHADLoss(4, 4)(torch.randn(8, 4), y),
    lambda y: ood.nn.VOSRegLoss(4)(torch.randn(8, 4), y),
    lambda y: ood.nn.EnergyMarginLoss(.3)(torch.randn(8, 4), y),
    lambda y: ood.nn.ConfidenceLoss()(torch.randn(8, 4), torch.randn(8), y),
    lambda y: ood.nn.IILoss(4, 4).eval()(torch.randn(8, 4), y),
])
def test_tensors_of_two_devices_are_refused(call):
    with pytest.raises((ValueError, RuntimeError), match="device|on cpu|on meta|meta"):
        call(torch.zeros(8, dtype=torch.long, device="meta"))


def test_scores_of_maps_are_by_class():
    z = torch.randn(4, 5, 2, 3)
    for score in (ood.scores.msp, ood.scores.max_logit, ood.scores.energy):
        rows = score(z.movedim(1, -1).reshape(-1, 5)).view(4, 2, 3)
        torch.testing.assert_close(score(z), rows)
        torch.testing.assert_close(score(z[0, :, 0, 0]), rows[0, 0, 0])


def test_init_center_takes_a_tensor_batches_and_a_loader():
    f = torch.randn(20, 5) + 2
    centers = []
    for given in (f, [f[:7], f[7:]], torch.utils.data.DataLoader(torch.utils.data.TensorDataset(f), batch_size=8)):
        for criterion in (ood.nn.DeepSVDDLoss(5), ood.nn.DeepSADLoss(5)):
            criterion.init_center(given)
            centers.append(criterion.center)
    for c in centers:
        torch.testing.assert_close(c, f.mean(0))
    with pytest.raises(ValueError, match=r"DeepSADLoss.init_center: expected embeddings \[N, 5\], got \(5,\)"):
        ood.nn.DeepSADLoss(5).init_center(iter(f))


def test_energy_margin_measures_its_start_and_keeps_its_sign():
    torch.manual_seed(0)
    z, y = torch.randn(200, 4) * 3, torch.randint(0, 4, (200,))
    criterion = ood.nn.EnergyMarginLoss(9., margin=5.)
    model = torch.nn.Dropout(.5)
    criterion.measure(model, [(z[:90], y[:90]), (z[90:], y[90:])])
    assert model.training
    torch.testing.assert_close(criterion.state[4], torch.nn.functional.cross_entropy(z, y))
    inside = torch.sigmoid(criterion.phi(z.logsumexp(1, keepdim=True)))  # the boundary: as many beyond as may be
    assert abs(float((inside > .5).float().mean()) - .05) < .01
    with torch.no_grad():
        criterion.phi.weight.fill_(3.)
    x = z.clone().requires_grad_()
    g, = torch.autograd.grad(criterion(x, torch.full_like(y, -1)), x)
    assert (g.sum(1) >= 0).all() and g.sum() > 0  # outliers lose log-sum, whatever the weight says
    with pytest.raises(ValueError, match="expected batches with ID rows"):
        criterion.measure(model, [(z, torch.full_like(y, -1))])
    # The end of an epoch measures where nothing was; then the multipliers follow the violations over all batches.
    again = ood.nn.EnergyMarginLoss(margin=5., tau=.1)
    batches = [(z[:90], y[:90]), (z[90:], y[90:])]
    again.update_hyperparameters(model, batches)
    torch.testing.assert_close(again.state[4], torch.nn.functional.cross_entropy(z, y))
    assert again.state[:4].tolist() == [0, 1, 0, 1] and model.training
    inside = torch.sigmoid(again.phi(z.logsumexp(1, keepdim=True))).mean()
    again.update_hyperparameters(model, batches)
    violations = torch.stack([inside - .05, .9 * torch.nn.functional.cross_entropy(z, y)]).detach()
    torch.testing.assert_close(again.state[[0, 2]].float(), violations.clamp(min=0).float(), atol=1e-5, rtol=1e-5)


def test_a_threshold_is_at_a_share():
    with pytest.raises(ValueError, match="share from 0 to 1, got 95"):
        ood.metrics.threshold_at(torch.rand(5), 95)
