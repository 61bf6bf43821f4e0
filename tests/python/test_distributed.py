"""`ood train` in several processes is `ood train` in one: curves, state, scores; and what goes wrong has a name."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import ood
from conftest import BUILD, REGISTRY

PROGRAM = str(BUILD / "bin" / "ood")
HANGS = 240  # seconds after which a process is given up; no test is about how long anything takes
TASK = ["--known", "0-2", "--outliers", 3, "--unknown", 4]


def command(*arguments, processes=1):
    launch = ["launch", "-n", processes] if processes > 1 else []
    return [str(a) for a in (PROGRAM, *launch, *arguments)]


def run(*arguments, processes=1, **more):
    return subprocess.run(command(*arguments, processes=processes), capture_output=True, text=True, timeout=300, **more)


def torchrun(*arguments, flags=("--standalone", "--nproc-per-node", 2)):
    return [str(a) for a in (sys.executable, "-m", "torch.distributed.run", "--no-python", *flags, PROGRAM, *arguments)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noisy pictures of 8x8 whose class is a stripe; three known classes, 240 of them."""
    where = tmp_path_factory.mktemp("stripes") / "stripes"
    where.mkdir()
    g = np.random.default_rng(0)
    for part, n in (("train", 400), ("test", 100)):
        y = np.arange(n) % 5
        x = g.integers(0, 200, (n, 1, 8, 8))
        x[np.arange(n), 0, y + 1] += 55
        name = "test_labels" if part == "test" else "train_labels"
        np.save(where / f"{part}.npy", x.astype(np.uint8))
        np.save(where / f"{name}.npy", y)
    return where


def load_file(path):
    return {k: t.numpy() for k, t in ood.runs.read_safetensors(path)[0].items()}


def steps(out):
    lines = [json.loads(l) for l in (out / "metrics.jsonl").read_text().splitlines()]
    return [l for l in lines if "step" in l]


# Larger than a small task can fill.
SMALL = {"sample_number": 15, "sample_from": 200}


def flags_of(name):
    small = [(p["name"], SMALL[p["name"]]) for p in REGISTRY[name]["parameters"] if p["name"] in SMALL]
    shorter = ["--pretrain", 2] if REGISTRY[name]["pretrained"] else []
    return ["--objective", name, *shorter, *(f for k, v in small for f in (f"--objective.{k}", v))]


CASES = {"mlp": (2, ["--augment", "flip,crop"]), "mlp mixed": (3, ["--mixup", .3, "--accumulate", 2]), "small-cnn": (3, []),
         "small-cnn mixed": (2, ["--cutmix", 1])}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", REGISTRY)
def test_a_training_does_not_depend_on_the_number_of_processes(folder, tmp_path, name, case):
    processes, more = CASES[case]
    # Batches that do not divide evenly. Rounding grows in a hundred steps: float64 leaves it small.
    train = ["train", "--data", folder, *TASK, *flags_of(name), "--model", case.split()[0], *more, "--epochs", 11,
             "--batch-size", 20, "--outlier-ratio", .35, "--precision", "float64", "--sync-batchnorm", "--threads", 1]
    if "--accumulate" in more:
        train[train.index("--epochs") + 1] = 22
    one, many = tmp_path / "one", tmp_path / "many"
    for out, n in ((one, 1), (many, processes)):
        r = run(*train, "--out", out, processes=n)
        if "mixed" in case and "expected an objective that uses labels" in r.stderr:
            return
        assert r.returncode == 0, r.stderr
    a, b = steps(one), steps(many)
    assert len(a) == len(b) >= 100
    for x, y in zip(a, b):
        assert x.keys() == y.keys()
        for key in x:
            assert abs(x[key] - y[key]) < 1e-5, (x, y)
    # Centers, queues, multipliers, weights, and what the scores were fitted to.
    x, y = load_file(one / "model.safetensors"), load_file(many / "model.safetensors")
    assert x.keys() == y.keys() and any(k.startswith("objective.") for k in x) == bool(REGISTRY[name]["state"])
    for key in x:
        if not key.startswith(("scores.", "joint.", "validation")):
            np.testing.assert_allclose(x[key], y[key], rtol=1e-5, atol=1e-5, err_msg=key)


def test_outliers_that_are_drawn_are_the_same(folder, tmp_path):
    """The queues of the case above do fill: its terms are not those of plain cross-entropy."""
    out = tmp_path / "run"
    r = run("train", "--data", folder, *TASK, *flags_of("virtual_outlier_synthesis"), "--model", "mlp", "--epochs", 11,
            "--batch-size", 20, "--out", out, processes=2)
    assert r.returncode == 0, r.stderr
    terms = [set(s) - {"step", "epoch", "loss", "lr"} for s in steps(out)]
    regulariser = [s for s in steps(out) if abs(s["loss"] - s["cross_entropy"]) > 1e-3]
    assert terms and len(regulariser) > 40


def test_scores_fitted_by_two_are_those_of_one(folder, tmp_path):
    """From the same weights: --init with no step that changes them is not possible, so a rate that rounds away."""
    first = tmp_path / "first"
    train = ["train", "--data", folder, *TASK, "--model", "small-cnn", "--batch-size", 16]
    assert run(*train, "--epochs", 3, "--out", first).returncode == 0
    still = ["--init", first, "--lr", 1e-30, "--weight-decay", 0, "--epochs", 1, "--sync-batchnorm", "--precision", "float64"]
    one, two = tmp_path / "one", tmp_path / "two"
    for out, n in ((one, 1), (two, 2)):
        r = run(*train, *still, "--out", out, processes=n)
        assert r.returncode == 0, r.stderr
    for file in ("scores.safetensors", "test_scores.safetensors", "model.safetensors"):
        x, y = load_file(one / file), load_file(two / file)
        assert x.keys() == y.keys()
        for key in x:
            np.testing.assert_allclose(y[key], x[key], rtol=1e-9, atol=1e-9, err_msg=f"{file} {key}")


def test_without_sync_batchnorm_two_processes_learn_as_well(folder, tmp_path):
    r = run("train", "--data", folder, *TASK, "--model", "small-cnn", "--epochs", 8, "--batch-size", 16,
            "--out", tmp_path / "run", processes=2)
    assert r.returncode == 0, r.stderr
    result = json.loads((tmp_path / "run" / "results.json").read_text())["objectives"][0]
    assert result["accuracy"] > .9
    assert run("eval", tmp_path / "run").returncode == 0


def test_bfloat16_and_sync_batchnorm_go_together(folder, tmp_path):
    for n, out in ((1, tmp_path / "one"), (2, tmp_path / "two")):
        r = run("train", "--data", folder, *TASK, "--model", "small-cnn", "--epochs", 2, "--precision", "bf16",
                "--sync-batchnorm", "--out", out, processes=n)
        assert r.returncode == 0, r.stderr
    # Eight bits of mantissa.
    assert abs(steps(tmp_path / "one")[0]["loss"] - steps(tmp_path / "two")[0]["loss"]) < 2e-2


def test_an_objective_of_a_plug_in_is_launched(folder, tmp_path):
    from conftest import OUT_OF_TREE
    r = run("--plugin", OUT_OF_TREE, "launch", "-n", 2, "train", "--data", folder, *TASK, "--objective", "logit_sphere",
            "--epochs", 1, "--out", tmp_path / "run")
    assert r.returncode == 0, r.stderr


# What goes wrong

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def by_hand(arguments, rank, port, size=2, **more):
    env = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
           "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", **more}
    return subprocess.Popen([PROGRAM, *map(str, arguments)], env=env, stderr=subprocess.PIPE, text=True)


def ends(process, status, *parts):
    _, error = process.communicate(timeout=HANGS)
    lines = [l for l in error.splitlines() if l]
    assert process.returncode == status and len(lines) == 1, error
    for part in parts:
        assert re.search(part, lines[0]), lines[0]


@pytest.fixture
def train(folder, tmp_path):
    return ["train", "--data", folder, *TASK, "--epochs", 1, "--out", tmp_path / "run"]


def both(first, second, **more):
    port = free_port()
    return by_hand(first, 0, port, **more), by_hand(second, 1, port, **more)


def test_ranks_with_another_configuration_are_told(train):
    for p in both(train, [*train, "--lr", .05]):
        ends(p, 2, r"rank [01]: the configuration differs between ranks: rank 1 has lr = 0.05, rank 0 has lr = 0.0")


def test_ranks_with_other_data_are_told(train, folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    x = np.load(other / "train.npy")
    x[0, 0, 0, 0] ^= 1
    np.save(other / "train.npy", x)
    second = [other if a == folder else a for a in train]
    for p in both(train, second):
        ends(p, 2, r"the data differs between ranks: rank 1 has \w+")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_ranks_with_another_world_size_are_told(train):
    port = free_port()
    for p in (by_hand(train, 0, port, size=2), by_hand(train, 1, port, size=3)):
        ends(p, 2, "rank 1 has WORLD_SIZE 3, .*; rank 0 has WORLD_SIZE 2")


def test_a_rank_that_fits_is_told_of_one_that_does_not(train):
    port = free_port()
    for p in (by_hand(train, 0, port, size=3), by_hand(train, 1, port, size=2), by_hand(train, 2, port, size=3)):
        ends(p, 2, "rank 1 has WORLD_SIZE 2, .*; rank 0 has WORLD_SIZE 3")


def test_ranks_that_do_not_come_or_come_twice_are_named(train):
    """At once, for each waits until its time is over."""
    alone, nobody, twice = free_port(), free_port(), free_port()
    first, second = by_hand(train, 0, alone, size=3), by_hand(train, 1, nobody)
    processes = [by_hand(train, 0, twice, size=3)] + [by_hand(train, 1, twice, size=3) for _ in range(2)]
    ends(first, 5, "WORLD_SIZE: 3 ranks are expected; .* rank 1, 2$")
    ends(second, 5, f"nobody answers at 127.0.0.1:{nobody} within 12 s; expected rank 0")
    statuses = sorted(p.wait(timeout=HANGS) for p in processes)
    assert 2 in statuses or 5 in statuses
    errors = "".join(p.stderr.read() for p in processes)
    assert "RANK: 1 is that of another process" in errors or "rank 2" in errors


def test_a_port_in_use_is_named(train):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        ends(by_hand(train, 0, port), 5, f"MASTER_PORT: {port} is in use")


@pytest.mark.parametrize("variable, value, line", [
    ("RANK", "2", "RANK: expected a whole number from 0 to 1, got \"2\""), ("RANK", "", "RANK is not set"),
    ("WORLD_SIZE", "two", "WORLD_SIZE: expected a whole number"), ("MASTER_PORT", "99999", "MASTER_PORT: expected")])
def test_variables_that_cannot_be_are_named(train, variable, value, line):
    ends(by_hand(train, 0, 1234, **{variable: value}), 2, re.escape(line))


def test_a_batch_too_small_for_the_ranks_is_named(train):
    r = run(*train, "--batch-size", 2, processes=3)
    assert r.returncode == 2 and "--batch-size: expected at least 6 ID samples for 3 ranks, got 2" in r.stderr


def test_data_that_is_missing_on_all_ends_all(train, tmp_path):
    r = run("train", "--data", tmp_path / "none", processes=2)
    assert r.returncode == 3 and "rank 0: " in r.stderr and "rank 1: " in r.stderr


def test_other_commands_are_of_one_process(tmp_path):
    ends(by_hand(["eval", tmp_path], 0, 1234), 2, "WORLD_SIZE is 2; of the commands only `ood train`")
    assert run("doctor", env={**os.environ, "WORLD_SIZE": "2", "RANK": "0"}).returncode == 0
    r = run("launch", "-n", 2, "score")
    assert r.returncode == 2 and "expected a training to launch" in r.stderr
    assert run("launch", "-n", 0, "train").returncode == 2


LONG = ["--epochs", 400, "--checkpoint", 50, "--rank-timeout", 5]


def wait_for_steps(out, n, process):
    end = time.monotonic() + HANGS
    while time.monotonic() < end:
        if (out / "metrics.jsonl").exists() and len(steps_now(out)) >= n:
            return
        assert process.poll() is None
        time.sleep(.02)
    raise AssertionError("no such step")


def steps_now(out):
    """A line may be half written."""
    return [l for l in (out / "metrics.jsonl").read_text().split("\n")[:-1] if '"step"' in l]


def ranks_of(launcher):
    """Process identifiers by rank of what a launcher started."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                env = dict(l.split(b"=", 1) for l in f.read().split(b"\0") if b"=" in l)
            with open(f"/proc/{pid}/stat") as f:
                parent = int(f.read().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if parent == launcher.pid and b"RANK" in env:
            found[int(env[b"RANK"])] = int(pid)
    return found


@pytest.mark.parametrize("rank, how, of", [(0, signal.SIGKILL, 2), (1, signal.SIGKILL, 3), (1, signal.SIGSTOP, 2),
                                           (0, signal.SIGSTOP, 2)])
def test_a_rank_that_ends_or_hangs_is_named(folder, tmp_path, rank, how, of):
    out = tmp_path / "run"
    with subprocess.Popen(command("train", "--data", folder, *TASK, *LONG, "--out", out, processes=of),
                          stderr=subprocess.PIPE, text=True) as p:
        wait_for_steps(out, 60, p)
        victim = ranks_of(p)[rank]
        os.kill(victim, how)
        try:
            if how == signal.SIGSTOP:
                others_gave_up = time.monotonic() + HANGS
                while len(ranks_of(p)) > 1 and time.monotonic() < others_gave_up:
                    time.sleep(.1)
                assert list(ranks_of(p)) == [rank]
                os.kill(victim, signal.SIGKILL)
            _, error = p.communicate(timeout=HANGS)
        finally:
            if p.poll() is None:
                p.kill()
    for other in set(range(of)) - {rank}:
        line = [l for l in error.splitlines() if f"rank {other}: " in l][-1]
        # Rank 0 holds the store by which they find one another.
        assert f"rank {rank} on " in line and ("ended" in line or "hangs" in line), error
    assert p.returncode in (5, 128 + signal.SIGKILL)


def test_ctrl_c_reaches_one_process_twice_and_costs_no_step(folder, tmp_path):
    """From the terminal and from its launcher."""
    out = tmp_path / "run"
    p = subprocess.Popen([PROGRAM, "launch", "-n", "1", *map(str, ["train", "--data", folder, *TASK, *LONG, "--out", out])],
                         stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for_steps(out, 20, p)
    os.killpg(p.pid, signal.SIGINT)
    _, error = p.communicate(timeout=HANGS)
    assert p.returncode == 130 and "interrupted at step" in error, error
    assert list((out / "checkpoints").glob("*.safetensors"))


def test_threads_that_move_bytes_run_ahead_where_they_may(folder, tmp_path):
    """And the one that computes stays in line."""
    ahead = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    may = subprocess.run([sys.executable, "-c", ahead], stderr=subprocess.DEVNULL).returncode == 0
    out = tmp_path / "run"

    def ahead_of(pid):
        """Their names."""
        found = set()
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat") as f:
                name, fields = f.read().split("(", 1)[1].rsplit(")", 1)
            if int(fields.split()[38]) == os.SCHED_RR:
                found.add(name)
        return found

    with subprocess.Popen(command("train", "--data", folder, *TASK, *LONG, "--out", out, processes=2),
                          stderr=subprocess.DEVNULL) as p:
        try:
            wait_for_steps(out, 10, p)
            ranks = ranks_of(p).values()
            assert len(ranks) == 2
            for pid in ranks:
                names = ahead_of(pid)
                assert (names != set()) is may and all("gloo" in n for n in names), names
        finally:
            p.terminate()


def test_a_worker_that_is_killed_comes_again(folder, tmp_path):
    out = tmp_path / "run"
    train = ["train", "--data", folder, *TASK, "--epochs", 60, "--checkpoint", 40, "--batch-size", 20]
    flags = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 2)
    with subprocess.Popen(torchrun(*train, "--out", out, flags=flags), stderr=subprocess.PIPE, text=True) as p:
        wait_for_steps(out, 65, p)
        os.kill(ranks_of(p)[1], signal.SIGKILL)
        _, error = p.communicate(timeout=200)
    assert p.returncode == 0, error
    assert "resuming at step" in error
    undisturbed = tmp_path / "undisturbed"
    assert run(*train, "--out", undisturbed, processes=2).returncode == 0
    assert [s["step"] for s in steps(out)] == [s["step"] for s in steps(undisturbed)]
    assert steps(out) == steps(undisturbed)


def test_one_process_that_is_killed_comes_again(folder, tmp_path):
    out = tmp_path / "run"
    train = ["train", "--data", folder, *TASK, "--epochs", 60, "--checkpoint", 40, "--batch-size", 20, "--overwrite"]
    flags = ("--standalone", "--nproc-per-node", 1, "--max-restarts", 2)
    with subprocess.Popen(torchrun(*train, "--out", out, flags=flags), stderr=subprocess.PIPE, text=True) as p:
        wait_for_steps(out, 65, p)
        os.kill(ranks_of(p)[0], signal.SIGKILL)
        _, error = p.communicate(timeout=200)
    assert p.returncode == 0 and "resuming at step" in error, error
    # Another launch is another training, however often it is started again.
    flags = ("--standalone", "--nproc-per-node", 1, "--max-restarts", 1)
    again = subprocess.run(torchrun(*train[:-1], "--out", out, flags=flags), capture_output=True, text=True, timeout=200)
    assert again.returncode != 0 and again.stderr.count("ood train: " + str(out) + ": holds a finished training") == 2


def test_two_processes_go_on_as_one(folder, tmp_path):
    out = tmp_path / "run"
    train = ["train", "--data", folder, *TASK, "--epochs", 60, "--checkpoint", 40, "--batch-size", 20,
             "--precision", "float64", "--sync-batchnorm", "--model", "mlp"]
    with subprocess.Popen(command(*train, "--out", out, processes=2), stderr=subprocess.PIPE, text=True) as p:
        wait_for_steps(out, 65, p)
        for pid in ranks_of(p).values():
            os.kill(pid, signal.SIGKILL)
        p.communicate(timeout=HANGS)
    r = run("train", "--resume", out)
    assert r.returncode == 0 and "resuming at step" in r.stderr, r.stderr
    one = tmp_path / "one"
    assert run(*train, "--out", one).returncode == 0
    a, b = steps(one), steps(out)
    assert [s["step"] for s in a] == [s["step"] for s in b]
    assert max(abs(x["loss"] - y["loss"]) for x, y in zip(a, b)) < 1e-5


def test_a_signal_stops_all_at_the_same_step(folder, tmp_path):
    out = tmp_path / "run"
    train = ["train", "--data", folder, *TASK, "--epochs", 400, "--batch-size", 20, "--out", out]
    with subprocess.Popen(command(*train, processes=2), stderr=subprocess.PIPE, text=True) as p:
        wait_for_steps(out, 30, p)
        p.send_signal(signal.SIGINT)
        _, error = p.communicate(timeout=HANGS)
    assert p.returncode == 130, error
    stopped = {re.search(r"interrupted at step (\d+)", l)[1] for l in error.splitlines() if "interrupted" in l}
    assert error.count("interrupted at step") == 2
    assert len(stopped) == 1 and stopped == {str(steps(out)[-1]["step"])}
    assert "go on with: ood train --resume" in error


def in_namespaces(work):
    """Runs work(prefix a, prefix b, address a, address b, interface a, b) where two hosts are to be had."""
    names, devices = ("oodtesta", "oodtestb"), ("oodva", "oodvb")

    def ip(*arguments):
        return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0
    made = shutil.which("ip") and ip("netns", "add", names[0])
    if not made:
        return work([], [], "127.0.0.2", "127.0.0.3", "lo", "lo")
    try:
        ip("netns", "add", names[1])
        ip("link", "add", devices[0], "type", "veth", "peer", "name", devices[1])
        for i in range(2):
            ip("link", "set", devices[i], "netns", names[i])
            ip("netns", "exec", names[i], "ip", "addr", "add", f"10.99.7.{i + 1}/24", "dev", devices[i])
            for d in ("lo", devices[i]):
                ip("netns", "exec", names[i], "ip", "link", "set", d, "up")
        return work(["ip", "netns", "exec", names[0]], ["ip", "netns", "exec", names[1]], "10.99.7.1", "10.99.7.2", *devices)
    finally:
        for n in names:
            ip("netns", "del", n)


def test_four_ranks_on_two_hosts_train_as_one_process(folder, tmp_path):
    train = ["train", "--data", folder, *TASK, "--objective", "outlier_exposure", "--model", "small-cnn", "--epochs", 6,
             "--batch-size", 20, "--precision", "float64", "--sync-batchnorm"]

    def work(a, b, address_a, address_b, device_a, device_b):
        processes = []
        for i, (prefix, address, device) in enumerate(((a, address_a, device_a), (b, address_b, device_b))):
            flags = ("--nnodes", 2, "--nproc-per-node", 2, "--rdzv-backend", "c10d", "--rdzv-id", "test",
                     "--rdzv-endpoint", f"{address_a}:29533", "--local-addr", address,
                     "--rdzv-conf", f"is_host={'true' if i == 0 else 'false'}")
            # The second host has no run folder of its own.
            out = tmp_path / "four" if i == 0 else tmp_path / "elsewhere"
            processes.append(subprocess.Popen([*prefix, *torchrun(*train, "--out", out, flags=flags)],
                                              env={**os.environ, "GLOO_SOCKET_IFNAME": device},
                                              stderr=subprocess.PIPE, text=True))
        for p in processes:
            _, error = p.communicate(timeout=200)
            assert p.returncode == 0, error
    in_namespaces(work)
    assert not (tmp_path / "elsewhere").exists()
    assert run(*train, "--out", tmp_path / "one").returncode == 0
    one, four = steps(tmp_path / "one"), steps(tmp_path / "four")
    assert len(one) == len(four) and max(abs(x["loss"] - y["loss"]) for x, y in zip(one, four)) < 1e-5
    x, y = load_file(tmp_path / "one" / "test_scores.safetensors"), load_file(tmp_path / "four" / "test_scores.safetensors")
    for key in x:
        np.testing.assert_allclose(y[key], x[key], rtol=1e-4, atol=1e-4)
