"""One process of `./dev bench`: measures the cells of the parts at one number of threads, a line of JSON each.

The calls of a cell take turns, block by block, so that a change of the machine's speed meets all; a figure is the median
over blocks.
"""
import argparse
import json
import logging
import os
import statistics
import time
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)  # what the compiler says of the peers
os.environ.setdefault("KINETO_LOG_LEVEL", "5")
import torch  # noqa: E402

import workloads as w  # noqa: E402

# The most a cell may be of its floor, by objectives and shape; the least that a class may be of pytorch-ood.
LINES = {(128, 10): ("sum", 1.25), (65536, 10): ("exp", 3.), (4096, 1000): ("exp", 1.), (16384, 1000): ("exp", 1.)}
OF_PRODUCTS, OF_PEER, OF_TORCH, OF_MCHAD, DOUBLED, TWO_THREADS, MEMORY = 1.3, 1.5, 3., 2.5, 2.1, 1.7, 1.05
OTHERS = ("pytorch-ood", "compiled", "incerto", "torch")
OF_EXP_AT_TEN = ("cross_entropy", "outlier_exposure", "entropic_open_set", "energy_regularized")


def block(call, seconds):
    """Mean time of a call, repeated for about that long."""
    n, start = 0, time.perf_counter()
    while True:
        call()
        n += 1
        now = time.perf_counter()
        if now - start >= seconds:
            return (now - start) / n


def measure(calls, blocks=5, seconds=.05):
    """{name: microseconds of each block}; slow calls get fewer blocks, one that fails none."""
    taken, rounds = {}, {}
    for name, call in calls.items():
        try:
            call()
            start = time.perf_counter()
            call()
            once = time.perf_counter() - start
        except Exception as e:
            if name not in OTHERS:
                raise
            # Without that number type, or maps of logits.
            taken.setdefault("cannot", {})[name] = str(e).splitlines()[0]
            continue
        taken[name], rounds[name] = [], 9 if once < .001 else blocks if once < .2 else 2 if once < 1 else 1
    for i in range(9):
        for name in rounds:
            if i < rounds[name]:
                taken[name].append(1e6 * block(calls[name], seconds))
    return taken


def cell(part, objective, shape, dtype, calls, floors):
    times = measure({**calls, **floors})
    cannot = times.pop("cannot", {})
    middle = {k: statistics.median(v) for k, v in times.items()}
    out = {"part": part, "objective": objective, "shape": "x".join(map(str, shape)), "type": str(dtype).split(".")[1],
           "threads": torch.get_num_threads(), "us": {k: round(v, 2) for k, v in middle.items()},
           "spread": [round(min(times["ours"]), 2), round(max(times["ours"]), 2)], "over": [], **({"cannot": cannot} if cannot else {})}
    for who in OTHERS:
        if who in times:
            pairs = [b / a for a, b in zip(times["ours"], times[who])]
            out.setdefault("ratio", {})[who] = round(statistics.median(pairs), 3)
    if out.get("ratio", {}).get("pytorch-ood", OF_PEER) < OF_PEER:
        out["over"].append(f"pytorch-ood below {OF_PEER} times")
    floor, most = LINES.get(tuple(shape), (None, None))
    if part == "rows" and floor in middle and not (floor == "exp" and shape[1] == 10 and objective not in OF_EXP_AT_TEN):
        if dtype == torch.float32 and middle["ours"] > most * middle[floor]:
            out["over"].append(f"above {most} {floor}")
    if shape == (65536, 10) and out.get("ratio", {}).get("torch", OF_TORCH) < OF_TORCH and dtype == torch.float32:
        out["over"].append(f"torch below {OF_TORCH} times")
    if objective == "mchad, wide" and out["ratio"]["pytorch-ood"] < OF_MCHAD:
        out["over"].append(f"pytorch-ood below {OF_MCHAD} times")
    if part == "distances" and "products" in middle and middle["ours"] > OF_PRODUCTS * middle["products"]:
        out["over"].append(f"above {OF_PRODUCTS} products")
    print(json.dumps(out), flush=True)


def kind(o):
    return "rows" if o.logits_alone else "distances" if o.has_distances and "classes" in o.sizes else "state"


def of_objectives(part, types, only):
    """Cells of a part: "rows" and "dense" are the formulas of logits, on rows and on maps."""
    formulas = part in ("rows", "dense")
    for o in w.ood.objectives().values():
        if kind(o) != ("rows" if formulas else part) or (only and o.name not in only):
            continue
        # 16384 rows take minutes with some of the peers' other classes.
        for shape in [w.DENSE] if part == "dense" else w.SHAPES if formulas else w.SHAPES[:-1]:
            for dtype in types:
                b = w.Batch(shape, dtype)
                if formulas:
                    compiled = dtype == torch.float32 and shape in ((128, 10), (4096, 1000)) and torch.get_num_threads() > 1
                    calls, x = w.rows(o, b, compiled)
                    cell(part, o.name, shape, dtype, calls, w.floors(x))
                else:
                    cell(part, o.name, shape, dtype, w.classes(o, b), w.floors(w.read_by(o, b)))


def peak(call, leaf):
    """Bytes that one call adds to the tensors alive at its peak, by the profiler's allocations; the buffers of a block, 16 to
    256 KB a thread, are not tensors."""
    leaf.grad = None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as p:
        call()
    alive = most = 0
    for event in p.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            most = max(most, alive)
    return most


def scaling():
    """Twice the rows, twice the classes, two threads, memory: of cross_entropy and outlier_exposure."""
    many = torch.get_num_threads()
    for name in ("cross_entropy", "outlier_exposure"):
        o = w.ood.objectives()[name]

        def call(shape):
            calls, x = w.rows(o, w.Batch(shape), False)
            return calls["ours"], x

        def report(what, value, line, over):
            print(json.dumps({"part": "scaling", "objective": name, "what": what, "value": round(value, 3), "line": line,
                              "over": [what] if over else []}), flush=True)

        for rows, classes in ((4096, 1000), (65536, 10), (8192, 128)):
            small, rows_twice, classes_twice = (call(s)[0] for s in ((rows, classes), (2 * rows, classes), (rows, 2 * classes)))
            t = measure({"small": small, "rows": rows_twice, "classes": classes_twice}, blocks=9)
            for what in ("rows", "classes"):
                value = statistics.median(b / a for a, b in zip(t["small"], t[what]))
                report(f"{rows}x{classes}, twice the {what}", value, DOUBLED, value > DOUBLED)
        ours, x = call((4096, 1000))
        memory = peak(ours, x) / (4 * x.numel())
        report("4096x1000, peak memory over the logits", memory, MEMORY, memory > MEMORY)
        if many > 1:
            one, two, first, equal = [], [], None, True
            for _ in range(9):
                for n, times in ((1, one), (2, two)):
                    torch.set_num_threads(n)
                    ours()
                    first = x.grad.clone() if first is None else first
                    equal = equal and torch.equal(x.grad, first)
                    times.append(block(ours, .05))
            torch.set_num_threads(many)
            value = statistics.median(a / b for a, b in zip(one, two))
            report("4096x1000, two threads over one", value, TWO_THREADS, value < TWO_THREADS)
            report("4096x1000, threads give the same bits", float(equal), 1, not equal)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--parts", default="rows,distances,state,scaling")
    p.add_argument("--types", default="float32,bfloat16")
    p.add_argument("--objectives", default="")
    p.add_argument("--threads", type=int, default=torch.get_num_threads())
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    parts = a.parts.split(",")
    types, only = [getattr(torch, t) for t in a.types.split(",")], [n for n in a.objectives.split(",") if n]
    for part in ("rows", "dense", "distances", "state"):
        if part in parts or (part == "dense" and "rows" in parts):
            of_objectives(part, types, only)
    if "distances" in parts:
        for shape in w.PRODUCTS:
            cell("distances", "full distances", shape, torch.float32, w.products(*shape), {})
        cell("distances", "mchad, wide", w.PRODUCTS[0], torch.float32, w.wide_mchad(*w.PRODUCTS[0]), {})
    if "scaling" in parts:
        scaling()


if __name__ == "__main__":
    main()
