"""Signals at seeded moments, some of them inside a write, each followed by the command again: nothing that was done is
lost, and what comes out is what an undisturbed run gives.

    python tests/kills.py PROGRAM [--kills 100] [--seed 0]
"""
import argparse
import json
import pathlib
import random
import signal
import subprocess
import tempfile
import time

import numpy as np

from attack import idx, pictures

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGKILL]


class Job:
    """A command that is repeated, or continued, until it ends by itself."""

    def __init__(self, program, folder, name):
        self.program, self.at, self.name = program, pathlib.Path(folder), name
        self.count = 0
        common = ["--data", self.at / "idx", "--known", "0,1", "--unknown", "3", "--batch-size", "16", "--threads", "1"]
        self.common = {"train": [*common, "--epochs", "60", "--checkpoint", "20"],
                       "compare": [*common, "--epochs", "30", "--checkpoint", "20", "--objectives",
                                   "cross_entropy,logit_norm,center"]}.get(name, [])
        self.fresh()

    def fresh(self):
        self.count += 1
        self.out = self.at / f"{self.name}-{self.count}"

    def command(self):
        if self.name == "train":
            if (self.out / "config.toml").exists():
                return ["train", "--resume", self.out]
            return ["train", *self.common, "--out", self.out]
        if self.name == "compare":
            return ["compare", *self.common, "--out", self.out]
        if self.name == "eval":
            return ["eval", self.at / "run", "--threads", "1"]
        return ["score", self.at / "run", self.at / "x.npy", "--threads", "1", "--out", self.out]

    def finished(self):
        return self.name == "train" and (self.out / "results.json").exists()

    def answer(self):
        if self.name in ("train", "compare"):
            return {p.parent.name: p.read_bytes() for p in sorted(self.out.rglob("model.safetensors"))
                    } if self.name == "compare" else (self.out / "model.safetensors").read_bytes()
        if self.name == "eval":
            o = json.loads((self.at / "run" / "eval.json").read_text())
            return json.dumps(o["objectives"][0]["ood"])
        return self.out.read_text()

    def start(self):
        return subprocess.Popen([self.program, *map(str, self.command())], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)

    def writes(self):
        folder = self.at / "run" if self.name == "eval" else self.out
        return folder.is_dir() and any(folder.rglob("*.ood-tmp"))


def run(program, kills, seed):
    r = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        at = pathlib.Path(folder)
        (at / "idx").mkdir()
        for part, (x, y) in (("train", pictures(240, 0)), ("t10k", pictures(80, 1))):
            (at / "idx" / f"{part}-images-idx4-ubyte").write_bytes(idx(x))
            (at / "idx" / f"{part}-labels-idx1-ubyte").write_bytes(idx(y))
        np.save(at / "x.npy", pictures(4000, 2)[0])
        subprocess.run([program, "train", "--data", at / "idx", "--known", "0,1", "--unknown", "3", "--epochs", "2", "--out",
                        at / "run"], check=True, capture_output=True)
        jobs = {n: Job(program, at, n) for n in ("train", "compare", "eval", "score")}
        expected, whole = {}, {}
        for name, job in jobs.items():
            begin = time.time()
            p = job.start()
            _, err = p.communicate()
            assert p.returncode == 0, err
            expected[name], whole[name] = job.answer(), time.time() - begin
            job.fresh()
        counts = {s.name: 0 for s in SIGNALS}
        done = inside = ends = 0
        findings = []
        while done < kills:
            name = r.choice(["train", "train", "compare", "compare", "eval", "score"])
            job = jobs[name]
            p = job.start()
            in_write = r.random() < .4 and name != "score"
            end = time.time() + (2 if in_write else r.uniform(.1, .7) * min(whole[name], 3))
            while time.time() < end and p.poll() is None and not (in_write and job.writes()):
                time.sleep(.0005)
            alive = p.poll() is None
            if alive:
                s = r.choice(SIGNALS)
                p.send_signal(s)
            _, err = p.communicate()
            if alive:
                done += 1
                counts[s.name] += 1
                inside += in_write and job.writes()
                if p.returncode not in (0, 130, -s):
                    findings.append(f"{name} {s.name}: status {p.returncode}: {err.strip().splitlines()[-1:]}")
            if p.returncode == 0 or job.finished():
                ends += 1
                if job.answer() != expected[name]:
                    findings.append(f"{name}: another result")
                job.fresh()
        for name, job in jobs.items():  # whatever is left goes to its end
            p = job.start()
            _, err = p.communicate()
            if not (p.returncode == 0 or job.finished()):
                findings.append(f"{name}: status {p.returncode} at the end: {err}")
            elif job.answer() != expected[name]:
                findings.append(f"{name}: another result at the end")
        return done, inside, ends, counts, findings


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    done, inside, ends, counts, findings = run(a.program, a.kills, a.seed)
    print(f"{done} signals ({counts}), a temporary file left by {inside}; {ends} jobs ended; findings {len(findings)}")
    print("\n".join(findings))
    raise SystemExit(bool(findings))


if __name__ == "__main__":
    main()
