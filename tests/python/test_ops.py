"""The ops as PyTorch sees them: gradients of every order, opcheck, functorch, compile, autocast."""
import pytest
import torch

from conftest import FORMULAS as NAMES
from conftest import REGISTRY, defaults, loss, ops, random_batch, reductions

CASES = [(n, r) for n in NAMES for r in reductions(n)]


def inputs(name, rows=6, classes=5, seed=3):
    x, y = random_batch(seed, rows, classes)
    if REGISTRY[name]["input"].startswith("minus"):
        x = -x.abs()  # distances are not negative
    g = torch.Generator().manual_seed(seed)
    extras = None
    if REGISTRY[name]["extras"]:
        extras = torch.rand(len(REGISTRY[name]["extras"]), rows, generator=g, dtype=torch.float64)
        extras.requires_grad_()
    weight = torch.rand(rows, generator=g, dtype=torch.float64) + .5
    return x.requires_grad_(), y, extras, weight.requires_grad_()


@pytest.mark.parametrize("name,reduction", CASES)
def test_gradients_of_first_and_second_order(name, reduction):
    x, y, extras, weight = inputs(name)

    def f(x, weight, *extras):
        return loss(name, x, y, extras=extras[0] if extras else None, weight=weight, reduction=reduction)

    given = (x, weight) + ((extras,) if extras is not None else ())
    assert torch.autograd.gradcheck(f, given)
    assert torch.autograd.gradgradcheck(f, given)


@pytest.mark.parametrize("name", NAMES)
def test_third_order(name):
    x, y, extras, _ = inputs(name)
    first, = torch.autograd.grad(loss(name, x, y, extras=extras), x, create_graph=True)
    second, = torch.autograd.grad(first.pow(2).sum(), x, create_graph=True)
    third, = torch.autograd.grad(second.pow(2).sum(), x)
    assert third.isfinite().all() and third.abs().sum() > 0


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_opcheck_of_row_terms(name, per_row):
    x, y, extras, weight = inputs(name)
    torch.library.opcheck(ops.row_terms, (x, y, name, defaults(name), extras, weight, per_row, -7))


@pytest.mark.parametrize("name,reduction", CASES)
def test_opcheck_of_loss(name, reduction):
    x, y, extras, weight = inputs(name)
    torch.library.opcheck(ops.loss, (x, y, name, defaults(name), extras, weight, reduction))


def test_opcheck_of_the_other_ops():
    for score in (ops.msp_score, ops.max_logit_score, ops.energy_score):
        torch.library.opcheck(score, (torch.randn(4, 3),))


@pytest.mark.parametrize("name,reduction", CASES)
def test_functorch(name, reduction):
    x, y, extras, _ = inputs(name)

    def f(x):
        return loss(name, x, y, extras=extras, reduction=reduction).sum()

    x = x.detach()
    expected, = torch.autograd.grad(f(x.requires_grad_()), x)
    x = x.detach()
    torch.testing.assert_close(torch.func.grad(f)(x), expected)
    assert torch.func.hessian(f)(x).shape == (*x.shape, *x.shape)
    many = torch.stack([x, x + 1, x * 2])
    torch.testing.assert_close(torch.func.vmap(f)(many), torch.stack([f(m) for m in many]))
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(f))(many),
                               torch.stack([torch.func.grad(f)(m) for m in many]))


@pytest.mark.parametrize("name,reduction", CASES)
def test_compile_in_one_graph(name, reduction):
    x, y, extras, _ = inputs(name)

    def f(x):
        return loss(name, x * 2, y, extras=extras, reduction=reduction).sum()

    torch._dynamo.reset()
    compiled = torch.compile(f, fullgraph=True, dynamic=True, backend="aot_eager")
    a, = torch.autograd.grad(compiled(x), x)
    b, = torch.autograd.grad(f(x), x)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_and_half_types_give_float32(name):
    x, y, extras, _ = inputs(name)
    extras = None if extras is None else extras.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = torch.nn.functional.linear(x.float(), torch.eye(x.shape[1]))
        assert logits.dtype == torch.bfloat16
        value = loss(name, logits, y, extras=extras)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(name, logits.float(), y, extras=extras))


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_can_be_used_twice(name):
    x, y, extras, _ = inputs(name)
    value = loss(name, x, y, extras=extras)
    a, = torch.autograd.grad(value, x, retain_graph=True)
    b, = torch.autograd.grad(3 * value, x)
    torch.testing.assert_close(3 * a, b)


@pytest.mark.parametrize("name", NAMES)
def test_changing_the_logits_before_backward_is_an_error(name):
    x, y, extras, _ = inputs(name)
    z = x * 1
    value = loss(name, z, y, extras=extras)
    with torch.no_grad():
        z.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_evaluation_saves_nothing():
    x, y = random_batch(1, 8, 3)
    with torch.no_grad():
        assert not loss("outlier_exposure", x.requires_grad_(), y).requires_grad


def test_scores_match_their_definitions():
    x = torch.randn(50, 7, dtype=torch.float64)
    torch.testing.assert_close(ops.msp_score(x), -x.softmax(1).amax(1))
    torch.testing.assert_close(ops.max_logit_score(x), -x.amax(1))
    torch.testing.assert_close(ops.energy_score(x), -x.logsumexp(1))


@pytest.mark.parametrize("arguments,kind,message", [
    ((torch.randn(4, 3), torch.tensor([0, 1, 3, -1]), "outlier_exposure", [.5]), IndexError, "got 3 in row 2"),
    ((torch.randn(4, 3), torch.tensor([0, 1]), "outlier_exposure", [.5]), ValueError, r"got \[2\]"),
    ((torch.randn(4, 3), torch.zeros(4), "outlier_exposure", [.5]), TypeError, "integer"),
    ((torch.randn(4, 3), torch.zeros(4).long(), "outlier_exposure", [-1.]), ValueError, "alpha.*at least 0.*-1"),
    ((torch.randn(4, 3), torch.zeros(4).long(), "outlier_exposure", []), ValueError, "expected 1 parameters, got 0"),
    ((torch.randn(4, 3), torch.zeros(4).long(), "logit_norm", [0.]), ValueError, "tau above 0"),
    ((torch.randn(4, 0), torch.zeros(4).long(), "logit_norm", [1.]), ValueError, "at least one class"),
    ((torch.randn(4, 3), torch.zeros(4).long(), "outlier", []), ValueError, "unknown objective"),
])
def test_errors(arguments, kind, message):
    with pytest.raises(kind, match=message):
        ops.loss(*arguments)


def test_unknown_reduction_and_balance():
    x, y = random_batch(1, 4, 3)
    with pytest.raises(ValueError, match="none, mean or sum"):
        loss("cross_entropy", x, y, reduction="avg")
    with pytest.raises(ValueError, match="whole_batch"):
        loss("cross_entropy", x, y, balance="half")


def test_inputs_that_depend_on_each_other_have_their_own_gradients():
    """With create_graph, extras and centers computed from the logits must not be counted twice."""
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1, 2, 3, -1, -1])
    functions = [lambda x: loss("objectosphere", x, y, extras=(2 * x).square().sum(1).unsqueeze(0)),
                 lambda x: loss("objectosphere", x, y, extras=(2 * x).square().sum(1).unsqueeze(0), reduction="none").sum(),
                 lambda x: loss("outlier_exposure", x, y, weight=x.square().sum(1)),
                 lambda x: ops.center_distances(x, x[:2] * 3, True).square().sum(),
                 lambda x: ops.own_center_distances(x, x[:4] * 3, y).square().sum()]
    for f in functions:
        plain, = torch.autograd.grad(f(x), x)
        with_graph, = torch.autograd.grad(f(x), x, create_graph=True)
        torch.testing.assert_close(with_graph.detach(), plain)
        assert torch.autograd.gradcheck(f, x) and torch.autograd.gradgradcheck(f, x)


LAYOUTS = {"rows": lambda z: z, "sliced rows": lambda z: torch.cat([z, z], 1)[:, :z.shape[1]],
           "image": lambda z: z.unsqueeze(2).expand(-1, -1, 5).contiguous().unsqueeze(3) * 1.0,
           "channels last": lambda z: z[:, :, None, None].repeat(1, 1, 3, 2).contiguous(memory_format=torch.channels_last)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_half_types_compute_in_float32_and_round_the_gradient_once(name, dtype, layout):
    for classes in (2, 7, 16, 33, 100):
        for reduction in reductions(name):
            x, y = random_batch(classes, 9, classes, dtype=torch.float32)
            if REGISTRY[name]["input"].startswith("minus"):
                x = -x.abs()
            half = LAYOUTS[layout](x).to(dtype)
            y = y.view(-1, *[1] * (half.dim() - 2)).expand(half.shape[0], *half.shape[2:]).contiguous()
            extras = torch.ones(len(REGISTRY[name]["extras"]), *y.shape) if REGISTRY[name]["extras"] else None
            got = half.detach().requires_grad_()
            want = half.detach().float().requires_grad_()
            a = loss(name, got, y, extras=extras, reduction=reduction)
            b = loss(name, want, y, extras=extras, reduction=reduction)
            assert a.dtype == torch.float32 and torch.equal(a, b)
            g, = torch.autograd.grad(a.sum(), got)
            h, = torch.autograd.grad(b.sum(), want)
            assert g.dtype == dtype and torch.equal(g, h.to(dtype)), (classes, reduction)


def test_a_gradient_of_many_megabytes():
    """From 8 MiB on the gradient lies on huge pages where the system has them."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 9, (2, 512, 512), generator=g)
    for shape in ((2, 9, 512, 512), (2 * 512 * 512, 9)):
        x = torch.randn(shape, generator=g)
        target = y if len(shape) == 4 else y.flatten()
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        ops.loss(a, target, "cross_entropy", [0.]).backward()
        torch.nn.functional.cross_entropy(b, target).backward()
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-10)


RAW = {
    "distances, short gradient": lambda o: o._center_distances_backward(
        torch.ones(1, 2), torch.ones(3, 2), torch.ones(2, 2), torch.ones(3, 2), False),
    "distances, other widths": lambda o: o._center_distances_backward(
        torch.ones(3, 2), torch.ones(3, 2), torch.ones(2, 5), torch.ones(3, 2), False),
    "loss, no factor": lambda o: o._loss_parts(
        torch.ones(8, 4), torch.zeros(8, dtype=torch.long), "cross_entropy", [0.0], None, None, False, False, None, True,
        False, False, torch.empty(0)),
    "rows, short gradient": lambda o: o._row_terms_backward(
        torch.ones(1), torch.ones(1, 8), torch.ones(8, 4), torch.zeros(8, dtype=torch.long), "cross_entropy", [0.0]),
}


@pytest.mark.parametrize("call", RAW.values(), ids=RAW)
def test_raw_ops_check_what_they_read(call):
    from ood._library import ops
    with pytest.raises((ValueError, TypeError, IndexError, RuntimeError), match="expected|argument|0 elements"):
        call(ops)


def test_a_target_changed_between_forward_and_backward_is_an_error():
    from ood._library import ops
    x, target = torch.ones(3, 2, requires_grad=True), torch.zeros(3, dtype=torch.long)
    sums = ops.segment_sum(x, target, 2)
    target.fill_(10 ** 6)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        sums.sum().backward()
