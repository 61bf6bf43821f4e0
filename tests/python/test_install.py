"""`cmake --install` and the example consumer: found, built, linked and run."""
import os
import re
import subprocess

import pytest

from conftest import BUILD, ROOT
from test_runs import TASK, data, run  # noqa: F401  (data is a fixture)


def sh(*arguments, **more):
    r = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, **more)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("prefix")
    sh("cmake", "--install", BUILD, "--prefix", prefix)
    return prefix


def test_the_installed_program_runs(installed):
    assert "passed" in sh(installed / "bin" / "ood", "doctor", env={"PATH": os.environ["PATH"]})


def build_example(name, installed, tmp_path):
    build = tmp_path / "build"
    config = next((installed / "lib").rglob("oodConfig.cmake")).parent
    sh("cmake", "-S", ROOT / "examples" / name, "-B", build, "-G", "Ninja", f"-Dood_DIR={config}", "-DCMAKE_BUILD_TYPE=Release")
    sh("cmake", "--build", build)
    return build / name


def test_the_example_of_a_training_detects_what_is_unknown(installed, tmp_path):
    lines = sh(build_example("training", installed, tmp_path)).splitlines()
    figures = {l.split(":")[0]: [float(v) for v in re.findall(r"AUROC ([\d.]+), .* rejects ([\d.]+) %", l)[0]] for l in lines}
    assert set(figures) == {"energy", "knn", "mds_pp"}
    for auroc, rejected in figures.values():
        assert auroc > .9 and rejected < 9


def test_the_example_consumer_gives_the_answers_of_the_program(installed, data, tmp_path):  # noqa: F811
    out = tmp_path / "run"
    assert run("train", "--data", data / "folder", *TASK, "--epochs", 3, "--out", out).returncode == 0
    build = build_example("detector", installed, tmp_path).parent
    pictures = sorted((data / "folder" / "test").rglob("*.png"))[:12]
    lines = sh(build / "detector", out, *pictures).splitlines()
    rows = [l.split(",") for p in pictures for l in run("score", out, p).stdout.splitlines()[1:]]
    assert len(lines) == len(rows) == 12
    for line, row in zip(lines, rows):
        assert f": {row[1]}, score" in line and row[4] in line
    one_class, head = tmp_path / "one_class", tmp_path / "head"
    assert run("train", "--objective", "deep_svdd", "--data", data / "folder", *TASK, "--epochs", 2, "--out", one_class).returncode == 0
    assert ": -, score" in sh(build / "detector", one_class, pictures[0])
    assert run("train", "--data", data / "npy", *TASK, "--epochs", 2, "--out", head).returncode == 0
    r = subprocess.run([str(build / "detector"), str(head), str(pictures[0])], capture_output=True, text=True)
    assert r.returncode == 2 and "expected a run on pictures" in r.stderr
    r = subprocess.run([str(build / "detector"), "/nowhere", "x"], capture_output=True, text=True)
    assert r.returncode == 1 and "cannot be opened" in r.stderr


def test_the_c_plus_plus_of_the_readme_compiles_as_it_stands(installed, tmp_path):
    """The umbrella header first and alone, and what follows it, for a network of the reader's own."""
    blocks = re.findall(r"```cpp\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    first, second = blocks
    include, code = first.split("\n", 1)
    source = tmp_path / "readme.cc"
    source.write_text(f"{include}\n#include <torch/nn/modules/linear.h>\nvoid train(torch::nn::Linear network, at::Tensor "
                      f"inputs, at::Tensor target) {{\n{code}}}\nvoid detect(at::Tensor pictures) {{\n{second}}}\n")
    torch = next((ROOT / ".deps" / "venv" / "lib").glob("python3*/site-packages/torch/include"))
    sh("g++", "-std=c++20", "-fsyntax-only", source, f"-I{installed}/include", f"-I{torch}",
       f"-I{torch}/torch/csrc/api/include")
