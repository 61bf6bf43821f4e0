"""A batch that is spread over processes gives the loss, the gradients and the state of one process: every class."""
import os
import re
import subprocess
import sys

import pytest

from conftest import CASES, ROOT

WORKER = """
import copy, os, sys, torch, torch.distributed as dist
sys.path[:0] = [{tests!r}, {package!r}]
from conftest import CASES
rank, world = int(sys.argv[1]), int(sys.argv[3])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=world)
torch.set_num_threads(1)
group, D = dist.group.WORLD, torch.float64

def batch(step):
    g = torch.Generator().manual_seed(step)
    y = torch.arange(20) % 4
    y[11:19] = -1  # of 13 and 7 rows, one is ID in the second part
    return torch.randn(20, 4, generator=g, dtype=D), y

# Rows of each rank: very unlike parts, and another division at every step.
def mine(step):
    cuts = [0, 13, 20] if world == 2 else [0, 3, 4, 20]
    if step % 2:
        cuts = [20 - c for c in reversed(cuts)]
    return slice(cuts[rank], cuts[rank + 1])

def train(case, group, **options):
    torch.manual_seed(5 if group is None or rank == 0 else 70 + rank)  # the first rank's numbers are everybody's
    criterion = case.make(process_group=group, **options).to(D)
    torch.manual_seed(6)
    body, last = torch.nn.Linear(4, 4, dtype=D), torch.nn.Linear(4, 4, dtype=D)
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.last = body, last
        def forward(self, x):
            features = self.body(x)
            return features + .1 * self.last(features)
    network = Network()
    model = network if group is None else torch.nn.parallel.DistributedDataParallel(network)
    # The criterion's own parameters have the whole gradient on every rank.
    optimizer = torch.optim.SGD([*network.parameters(), *criterion.parameters()], lr=0.05)
    parts = (lambda s: slice(None)) if group is None else mine
    x, y = batch(100)
    if case.objective.state:
        known = torch.where(y < 0, 0, y)
        criterion.update_state("begin", [*case.inputs(body(x[parts(0)]).detach()), case.labels(known[parts(0)])])
    torch.manual_seed(9 if group is None or rank == 0 else 90 + rank)
    losses = []
    for step in range(4):
        x, y = batch(step)
        optimizer.zero_grad()
        loss = case.call(criterion, model(x[parts(step)]), y[parts(step)], last)
        loss.backward()
        losses.append(loss.detach())
        optimizer.step()
    if case.objective.state:
        criterion.update_state("epoch", [*case.inputs(body(x[parts(1)]).detach()), case.labels(known[parts(1)])])
    return torch.stack(losses), {{**network.state_dict(), **criterion.state_dict()}}

for case in CASES:
    for options in ({{}}, {{"reduction": "sum"}}, {{"ignore_index": 2}}):
        try:
            one, of_one = train(case, None, **options)
        except ValueError as e:  # a function of the whole batch has no sum
            assert "expected reduction mean" in str(e), e
            continue
        many, of_many = train(case, group, **options)
        torch.testing.assert_close(many, one, rtol=1e-9, atol=1e-9, msg=lambda m: case.name + " loss: " + m)
        for name, value in of_one.items():
            torch.testing.assert_close(of_many[name], value, rtol=1e-8, atol=1e-8, msg=lambda m: case.name + " " + name + ": " + m)
            first = of_many[name].clone()
            dist.broadcast(first, 0)
            assert torch.equal(first, of_many[name]), case.name + " " + name + " differs between ranks"
    print("ok", case.name, flush=True)

# Means of the ranks' own means are another loss: what the group is for.
case = next(c for c in CASES if c.name == "OutlierExposureLoss")
x, y = batch(0)
local = case.make()(x[mine(0)], y[mine(0)])
dist.all_reduce(local)
assert abs(local / world - case.make()(x, y)) > .01
for bad, part in (((x[:2], y[:3]), "as many rows"), ((x[:2].float() if rank else x[:2], y[:2]), "one type and width")):
    try:
        case.make(process_group=group)(*bad)
        raise SystemExit("accepted " + part)
    except ValueError as e:
        assert part in str(e), e
try:
    case.make(process_group=group, reduction="none")(x, y)
    raise SystemExit("accepted none")
except ValueError as e:
    assert "reduction mean or sum" in str(e), e
half = copy.deepcopy(case.make(process_group=group))(x[mine(0)].bfloat16(), y[mine(0)])
torch.testing.assert_close(half, case.make()(x.bfloat16(), y))
dist.barrier()
print("done", flush=True)
os._exit(0)  # gloo's threads end the process now and then while they are torn down
"""


@pytest.mark.parametrize("world", [2, 3])
def test_every_class_gives_on_several_ranks_what_it_gives_on_one(world, tmp_path):
    code = WORKER.format(tests=str(ROOT / "tests" / "python"), package=str(ROOT / "python"))
    processes = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, str(rank), str(tmp_path / "store"), str(world)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for rank in range(world)]
    outputs = [p.communicate(timeout=280) for p in processes]
    errors = "\n".join(o[1][-1500:] for o in outputs)
    assert all(p.returncode == 0 for p in processes), errors
    assert all(o[0].count("ok ") == len(CASES) and "done" in o[0] for o in outputs), errors


def test_the_example_of_the_documentation_runs_under_torchrun(tmp_path):
    text = (ROOT / "docs" / "distributed.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    # gloo's threads end the process now and then while they are torn down, with torch alone as well.
    end = "dist.destroy_process_group()\n"
    assert end in code
    code = "import os, sys\n" + code.replace(end, "dist.barrier()\nsys.stdout.flush()\nos._exit(0)\n")
    (tmp_path / "train.py").write_text(code)
    r = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", tmp_path / "train.py"],
                       capture_output=True, text=True, timeout=200, env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
    found = re.findall(r"rank (\d): loss (\d+\.\d{6})", r.stdout)  # lines of two processes may run together
    assert r.returncode == 0 and sorted(rank for rank, _ in found) == ["0", "1"], r.stderr[-2000:]
    assert found[0][1] == found[1][1]
