"""Every objective of the registry beside the peers and beside floors measured in the same run.

    ./dev bench [--parts rows,distances,state,scaling,training] [--objectives NAMES] [--types float32,bfloat16]
                [--threads 1,2] [--levels avx2]

Floors: copy_ and torch.exp of the logits, the sum of the logits with its backward pass, and for full distances the three
matrix products. Peers: pytorch-ood 0.4.0, eager and compiled, incerto, torch's cross-entropy. The allocator is as it is.
All parts together take about 20 minutes on two cores at one level of instructions; a table of this machine goes into bench/results.json, and the chart
of README is made from that file. What is above its line is marked.
"""
import argparse
import json
import math
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

import torch

import chart

HERE = pathlib.Path(__file__).resolve().parent
# Least geometric mean over all cells at a level, least training throughput, as multiples of the peers'.
MEANS, TRAINING = {"avx2": 6}, {"float32": 1.6, "bf16": 2.2}
PARTS = ("rows", "distances", "state", "scaling", "training")
NAMES = {"rows": "formulas of logits", "dense": "maps of logits", "distances": "distances to centers", "state": "other objectives"}


def machine():
    """What the figures were taken on, as `ood doctor` tells it."""
    build = pathlib.Path(os.environ.get("OOD_BUILD", HERE.parent / "build" / "dev"))
    doctor = subprocess.run([build / "bin" / "ood", "doctor"], capture_output=True, text=True).stdout
    level = re.search(r"SIMD\s+(\w+)", doctor)
    model = next((x.split(":", 1)[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores", level.group(1) if level else "?"


def line(c):
    us, ratio = c["us"], c.get("ratio", {})
    floor = next((k for k in ("products", "sum" if c["shape"] == "128x10" else "exp") if k in us), None)
    shown = f"{us['ours'] / us[floor]:7.2f} {floor}" if floor else ""
    others = "  ".join([*(f"{who} {r:.2f}x" for who, r in ratio.items()), *(f"{who} cannot" for who in c.get("cannot", {}))])
    return (f"{c['objective']:26} {c['shape']:>14} {c['type']:8} {c['threads']} {us['ours']:10.1f} us ({c['spread'][0]:.1f} to {c['spread'][1]:.1f})"
            f" {shown}  {others}{'   <- ' + '; '.join(c['over']) if c['over'] else ''}")


def run(parts, level, threads, a):
    command = [sys.executable, HERE / "cells.py", "--parts", ",".join(parts), "--types", a.types, "--threads", str(threads),
               "--objectives", a.objectives]
    cells, heading = [], None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ, OOD_SIMD=level)) as p:
        for text in p.stdout:
            if not text.startswith("{"):
                continue
            c = dict(json.loads(text), level=level)
            if c["part"] == "scaling":
                print(f"{c['objective']:26} {c['what']}: {c['value']:.2f} (line {c['line']}){'   <-' if c['over'] else ''}", flush=True)
            else:
                if c["part"] != heading:
                    heading = c["part"]
                    print(f"\n{NAMES[heading]}, {level}, {threads} thread{'s' if threads > 1 else ''}")
                print(line(c), flush=True)
            cells.append(c)
    if p.returncode:
        raise SystemExit(f"cells.py ended with {p.returncode}")
    return cells


def means(cells):
    """{(level, type, threads): (geometric mean, least) of the ratio to pytorch-ood}."""
    found = {}
    for c in cells:
        if "pytorch-ood" in c.get("ratio", {}):
            found.setdefault((c["level"], c["type"], c["threads"]), []).append(c["ratio"]["pytorch-ood"])
    return {k: (math.exp(statistics.fmean(map(math.log, v))), min(v), len(v)) for k, v in found.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--parts", default=",".join(PARTS))
    p.add_argument("--objectives", default="", help="only these")
    p.add_argument("--types", default="float32,bfloat16")
    p.add_argument("--threads", default=",".join(map(str, sorted({1, min(2, os.cpu_count())}))))
    p.add_argument("--levels", default="", help="of instructions; default: the machine's, and avx2 where that is another")
    p.add_argument("--out", default=str(HERE / "results.json"))
    a = p.parse_args()
    parts = [x for x in a.parts.split(",") if x]
    if unknown := set(parts) - set(PARTS):
        p.error(f"--parts: expected some of {', '.join(PARTS)}, got {', '.join(unknown)}")
    start = time.time()
    name, own = machine()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE).stdout.strip()
    print(f"{name}, {own}; torch {torch.__version__}")
    levels = [x for x in a.levels.split(",") if x] or sorted({own, "avx2"} if own.startswith("avx") else {own})
    cells, training = [], []
    for level in levels:
        for threads in map(int, a.threads.split(",")):
            here = [x for x in parts if x not in ("scaling", "training")]
            if "scaling" in parts and threads == max(map(int, a.threads.split(","))):
                here.append("scaling")
            if here:
                cells += run(here, level, threads, a)
    if "training" in parts:
        print("\ntraining, pictures a second", flush=True)
        out = subprocess.run([sys.executable, HERE / "training.py", "--rounds", "2", "--json"], stdout=subprocess.PIPE, text=True, check=True)
        training = json.loads(out.stdout)
        for row in training:
            if row["ratio"] < TRAINING[row["precision"]]:
                print(f"{row['network']} {row['precision']}   <- below {TRAINING[row['precision']]} times")
    print()
    for (level, kind, threads), (mean, least, n) in means(cells).items():
        below = kind == "float32" and mean < MEANS.get(level, 8)
        print(f"pytorch-ood, {level}, {kind}, {threads} threads: geometric mean {mean:.1f}x, least {least:.2f}x of {n} cells"
              f"{f'   <- below {MEANS.get(level, 8)} times' if below else ''}")
    over = sum(bool(c["over"]) for c in cells)
    print(f"{over} of {len(cells)} cells are beyond their line; {(time.time() - start) / 60:.0f} minutes")
    path = pathlib.Path(a.out)
    results = json.loads(path.read_text()) if path.exists() else {"machines": {}}
    table = results["machines"].setdefault(f"{name}, {own}", {"cells": [], "training": []})
    cells = [dict(c, commit=commit) for c in cells]  # a table may hold parts of several
    key = lambda c: [c.get(k) for k in ("part", "objective", "shape", "what", "type", "threads", "level")]
    new = [key(c) for c in cells]
    table["cells"] = [c for c in table["cells"] if key(c) not in new] + cells
    table["training"] = training or table["training"]
    table["torch"] = torch.__version__
    lines = ",\n".join(f"{json.dumps(m)}: {{\"torch\": {json.dumps(t['torch'])}, \"training\": {json.dumps(t['training'])}, \"cells\": [\n"
                       + ",\n".join(map(json.dumps, t["cells"])) + "\n]}" for m, t in results["machines"].items())
    path.write_text('{"machines": {\n' + lines + "\n}}\n")
    chart.write(results, path.with_name("speed.svg"))


if __name__ == "__main__":
    main()
