"""Machine code of the user's own network (FILE.pt2): made, its last layer trained, used from its run folder, refused in a line."""
import json
import platform
import shutil
import signal
import subprocess
import zipfile
import zlib

import numpy as np
import pytest
import torch

import ood
from ood.runs import read_safetensors, write_safetensors
from ood.to_program import seal
from test_distributed import command, folder, load_file, run, steps, wait_for_steps  # noqa: F401  (folder is a fixture)
from test_own_networks import refused, to_program, train

SIZE = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The same network as machine code and as a script."""
    where = tmp_path_factory.mktemp("package")
    for name in ("mine.pt2", "mine.pt"):
        r = to_program(where, "mine:make", "--channels", 1, "--size", SIZE, "--normalise", ".4/.3", "--out", name)
        assert r.returncode == 0 and r.stdout.startswith(f"{name}: 16 features; classifier is taken out"), r.stderr
        assert not r.stderr
    return where


@pytest.fixture(scope="module")
def package(made):
    return made / "mine.pt2"


@pytest.fixture(scope="module")
def trained(folder, package, tmp_path_factory):  # noqa: F811
    """A run whose package is no more where it was."""
    where = tmp_path_factory.mktemp("trained")
    shutil.copy(package, where / "own.pt2")
    r = train(folder, where / "run", where / "own.pt2", "--epochs", 20)
    assert r.returncode == 0, r.stderr
    (where / "own.pt2").unlink()
    return where / "run"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="levels of x86")
@pytest.mark.parametrize("level", ["here", "avx2"])
def test_it_has_the_instructions_of_its_level(level, tmp_path):
    """Also where the compiler has tried none before: it was scalar code then."""
    here = torch.backends.cpu.get_cpu_capability()
    if here not in ("AVX2", "AVX512"):
        pytest.skip(f"a machine with {here}")
    r = to_program(tmp_path, "mine:make", "--channels", 1, "--size", SIZE, "--simd", level, "--out", "n.pt2",
                   TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"))
    assert r.returncode == 0, r.stderr
    with zipfile.ZipFile(tmp_path / "n.pt2") as archive:
        said = [json.loads(archive.read(n)) for n in archive.namelist() if n.endswith("_metadata.json")]
    (instructions,) = {about["AOTI_CPU_ISA"] for about in said}
    assert instructions.split()[0].lower() == (here.lower() if level == "here" else level)


def test_its_features_are_those_of_the_script(folder, made, tmp_path):  # noqa: F811
    for kind in ("pt", "pt2"):
        r = run("embed", made / f"mine.{kind}", folder, "--out", tmp_path / kind)
        assert r.returncode == 0, r.stderr
    for part in ("train", "test"):
        np.testing.assert_allclose(np.load(tmp_path / "pt2" / f"{part}.npy"), np.load(tmp_path / "pt" / f"{part}.npy"), rtol=1e-4, atol=1e-5)
    # Pictures of another size are brought to that of the file.
    large = np.random.default_rng(0).integers(0, 255, (3, 20, 20)).astype(np.uint8)
    np.save(tmp_path / "large.npy", large)
    for kind, size in (("pt", ["--image-size", SIZE]), ("pt2", [])):
        r = run("embed", made / f"mine.{kind}", tmp_path / "large.npy", *size, "--out", tmp_path / f"{kind}.npy")
        assert r.returncode == 0, r.stderr
    np.testing.assert_allclose(np.load(tmp_path / "pt2.npy"), np.load(tmp_path / "pt.npy"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "float64", "bf16"])
def test_it_trains_the_last_layer_as_a_frozen_script_does(folder, made, tmp_path, precision):  # noqa: F811
    for kind in ("pt", "pt2"):
        r = train(folder, tmp_path / kind, made / f"mine.{kind}", "--freeze", "--objective", "outlier_exposure", "--epochs", 5, "--lr", .5, "--precision", precision)
        assert r.returncode == 0, r.stderr
    a, b = ([s["loss"] for s in steps(tmp_path / kind)] for kind in ("pt", "pt2"))
    # The script's convolutions are of bfloat16 then, the package's are not.
    near = .02 if precision == "bf16" else 1e-4
    assert len(a) > 20 and np.ptp(a) > 5 * near
    np.testing.assert_allclose(a, b, atol=near)


def test_a_run_of_it_is_used_without_its_file(folder, trained, package, tmp_path):  # noqa: F811
    assert (trained / "network.pt2").read_bytes() == package.read_bytes()
    assert 'freeze = true' in (trained / "config.toml").read_text()
    x = np.load(folder / "test.npy")
    np.save(tmp_path / "x.npy", x)
    r = run("score", trained, tmp_path / "x.npy")
    lines = [l.split(",") for l in r.stdout.splitlines()[1:]]
    classes, scores, accepted = ood.load_run(trained).detect(x)
    np.testing.assert_allclose([float(l[2]) for l in lines], scores, rtol=1e-5, atol=1e-6)
    assert [int(l[1]) for l in lines] == classes.tolist()
    assert [l[4] == "accept" for l in lines] == accepted.tolist()
    for verb in ("eval", "fit"):
        r = run(verb, trained)
        assert r.returncode == 0, r.stderr
    assert run("score", trained, tmp_path / "x.npy").stdout.splitlines()[1:] == [",".join(l) for l in lines]
    for source, out in ((trained, "a"), (package, "b")):
        assert run("embed", source, tmp_path / "x.npy", "--out", tmp_path / f"{out}.npy").returncode == 0
    np.testing.assert_array_equal(*(np.load(tmp_path / f"{out}.npy") for out in "ab"))
    # None of them is a batch, too.
    np.save(tmp_path / "none.npy", x[:0])
    assert ood.load_run(trained).detect(x[:0])[1].shape == (0,)
    # Fewer or more inputs than it is told of would be read past their end.
    with pytest.raises(ValueError, match="expected inputs"):
        ood.load_run(trained).network.features(ood.runs.torch.zeros(1, 1, SIZE, SIZE - 1))


def test_a_run_without_its_code_or_with_another_is_refused(folder, trained, tmp_path):  # noqa: F811
    x = folder / "test.npy"
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    code = out / "network.pt2"
    content = bytearray(code.read_bytes())
    content[len(content) // 2] ^= 1
    code.write_bytes(content)
    refused(run("score", out, x), 3, "network.pt2: damaged, or another network than that of model.safetensors")
    with pytest.raises(ValueError, match="damaged, or another network"):
        ood.load_run(out)
    code.unlink()
    refused(run("score", out, x), 3, "expected the machine code of its network beside it, network.pt2, found none")
    with pytest.raises(ValueError, match="expected the machine code"):
        ood.load_run(out)
    # A new training in its place leaves nothing of it.
    shutil.copy(trained / "network.pt2", code)
    assert run("train", "--data", folder, "--known", "0-2", "--model", "mlp", "--epochs", 1, "--overwrite", "--out", out).returncode == 0
    assert not code.exists()


def test_a_training_of_it_goes_on_bit_for_bit(folder, package, tmp_path):  # noqa: F811
    long = ["--epochs", 60, "--checkpoint", 40, "--batch-size", 20]
    out, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    arguments = ["train", "--data", folder, "--known", "0-2", "--outliers", 3, "--unknown", 4, "--model", package, *long]
    with subprocess.Popen(command(*arguments, "--out", out), stderr=subprocess.PIPE) as p:
        wait_for_steps(out, 65, p)
        p.send_signal(signal.SIGKILL)
        p.communicate()
    r = run("train", "--resume", out)
    assert r.returncode == 0 and "resuming at step" in r.stderr, r.stderr
    assert run(*arguments, "--out", undisturbed).returncode == 0
    assert steps(out) == steps(undisturbed)
    a, b = load_file(out / "model.safetensors"), load_file(undisturbed / "model.safetensors")
    assert all((a[k] == b[k]).all() for k in b)


def changed(package, where, **metadata):
    """The package, saying other things of itself."""
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(where, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("_metadata.json"):
                content = json.dumps({k: v for k, v in {**json.loads(content), **metadata}.items() if v is not None}).encode()
            new.writestr(zipfile.ZipInfo(entry.filename), content)
    seal(str(where))
    return where


# Each: what is said, and what it is refused with.
SAID = [({"AOTI_MACHINE": "mips"}, "its machine code needs mips"), ({"AOTI_CPU_ISA": "AVX2 AVX9"}, "its machine code needs AVX9"),
        ({"AOTI_DEVICE_KEY": "cuda"}, "expected machine code for the CPU, got cuda"), ({"ood": "{"}, "what the file says of itself is damaged"),
        ({"ood": None}, "does not say what inputs it takes; make it with: python -m ood.to_program"),
        ({"ood": '{"channels": 1, "height": 8, "width": -8}'}, "does not say what inputs it takes"),
        ({"ood": '{"channels": 1, "height": 8.5, "width": 8}'}, "what the file says of itself is damaged")]


def test_a_package_may_be_packed_again(folder, package, tmp_path):  # noqa: F811
    """So that what the next test refuses is what it says, and not how it was packed."""
    r = train(folder, tmp_path / "run", changed(package, tmp_path / "changed.pt2"), "--epochs", 1)
    assert r.returncode == 0, r.stderr


@pytest.mark.parametrize("metadata, part", SAID)
def test_what_a_package_says_of_itself_is_looked_at(folder, package, tmp_path, metadata, part):  # noqa: F811
    refused(train(folder, tmp_path / "run", changed(package, tmp_path / "changed.pt2", **metadata), "--epochs", 1), 2, part)


@pytest.mark.parametrize("metadata, part", SAID[:2])
def test_a_run_for_another_machine_is_refused(folder, trained, tmp_path, metadata, part):  # noqa: F811
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    code = changed(trained / "network.pt2", out / "network.pt2", **metadata).read_bytes()
    tensors, about = read_safetensors(out / "model.safetensors")
    description = {**json.loads(about["description"]), "package": f"{zlib.crc32(code):08x}"}
    write_safetensors(out / "model.safetensors", tensors, {**about, "description": json.dumps(description)})
    refused(run("score", out, folder / "test.npy"), 3, part)
    with pytest.raises(ValueError, match=part):
        ood.load_run(out)


def test_packages_that_will_not_do_are_refused(folder, package, trained, tmp_path):  # noqa: F811
    """And cost no run that is there."""
    out = tmp_path / "r"
    shutil.copytree(trained, out)
    (tmp_path / "text.pt2").write_text("no network")
    for model, part in ((tmp_path / "none.pt2", "--model: expected a file, found none"),
                        (tmp_path / "text.pt2", "text.pt2: expected a package of AOTInductor; make it with")):
        refused(train(folder, out, model, "--overwrite"), 2, part)
    refused(train(folder, out, package, "--overwrite", "--image-size", 9), 2, "--model: expected inputs of 1x8x8, which mine.pt2 is made for, got 1x9x9; set --image-size 8")
    refused(train(folder, out, package, "--overwrite", "--device", "cuda"), 2, "--device: expected cpu with --model FILE.pt2")
    refused(train(folder, out, out / "network.pt2", "--overwrite"), 2, "whose training is dropped")
    refused(run("train", "--data", folder, "--known", "0-2", "--unknown", 4, "--model", package, "--init", out, "--overwrite", "--out", out), 2,
            "--init: expected another one")
    both = run("compare", "--data", folder, "--known", "0-2", "--unknown", 4, "--objectives", "cross_entropy", "--model", package, "--image-size", 9,
               "--overwrite", "--out", tmp_path)
    refused(both, 2, "expected inputs of 1x8x8")
    # Nor does a comparison drop one run before it sees that another is needed.
    shutil.copytree(out, tmp_path / "all" / "cross_entropy")
    shutil.copytree(out, tmp_path / "all" / "energy_regularized")
    both = run("compare", "--data", folder, "--known", "0-2", "--outliers", 3, "--unknown", 4, "--objectives", "cross_entropy,energy_regularized",
               "--model", package, "--init", tmp_path / "all" / "energy_regularized", "--overwrite", "--out", tmp_path / "all")
    assert both.returncode == 2 and "whose training is dropped" in both.stderr, both.stderr
    assert (tmp_path / "all" / "cross_entropy" / "model.safetensors").exists()
    assert {f.name: f.read_bytes() for f in trained.iterdir()} == {f.name: f.read_bytes() for f in out.iterdir()}
    refused(run("embed", package, folder, "--image-size", 9, "--out", tmp_path / "f"), 2, "the 8x8 that the file is made for, got 9")
    # A file of that name in a folder without a run is the user's.
    (tmp_path / "work").mkdir()
    shutil.copy(package, tmp_path / "work" / "network.pt2")
    for model in (package, tmp_path / "work" / "network.pt2"):
        refused(train(folder, tmp_path / "work", model), 2, "is in the place of the copy that a run keeps")
    assert (tmp_path / "work" / "network.pt2").read_bytes() == package.read_bytes()
    refused(train(folder, tmp_path / "o", package, "--normalise", "data"), 2, "--normalise: expected none with")


@pytest.mark.parametrize("share", [0, .02, .3, .6, .9, .999, -1])
def test_damaged_packages_are_refused(folder, package, tmp_path, share):  # noqa: F811
    """Cut, or with a changed bit: nothing of it runs."""
    content = bytearray(package.read_bytes())
    at = len(content) - 1 if share < 0 else int(len(content) * share)
    (tmp_path / "cut.pt2").write_bytes(content[:at])
    content[at] ^= 16
    (tmp_path / "bit.pt2").write_bytes(content)
    for name in ("cut.pt2", "bit.pt2"):
        refused(train(folder, tmp_path / "r", tmp_path / name), 2, f"{name}: expected a package" if at == 0 else f"{name}: damaged, or of another maker")


def test_its_file_may_change_or_go_while_it_trains(folder, package, tmp_path):  # noqa: F811
    for name, disturb in (("changed", lambda file: file.write_bytes(b"another")), ("gone", lambda file: file.unlink())):
        own, out = tmp_path / f"{name}.pt2", tmp_path / name
        shutil.copy(package, own)
        arguments = ["train", "--data", folder, "--known", "0-2", "--model", own, "--epochs", 60, "--batch-size", 20, "--out", out]
        with subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, stdout=subprocess.PIPE) as p:
            wait_for_steps(out, 5, p)
            disturb(own)
            p.communicate()
        assert p.returncode == 0
        assert run("score", out, folder / "test.npy").returncode == 0


def test_a_head_of_other_code_is_not_taken_over(folder, package, trained, tmp_path):  # noqa: F811
    assert train(folder, tmp_path / "same", package, "--init", trained, "--epochs", 1).returncode == 0
    refused(train(folder, tmp_path / "r", changed(package, tmp_path / "other.pt2"), "--init", trained), 3, "--init: expected a run of the same machine code as --model")


def test_two_processes_and_a_comparison_train_it(folder, package, tmp_path):  # noqa: F811
    for out, n in (("one", 1), ("two", 2)):
        r = train(folder, tmp_path / out, package, "--epochs", 5, "--precision", "float64", processes=n)
        assert r.returncode == 0, r.stderr
    a, b = steps(tmp_path / "one"), steps(tmp_path / "two")
    assert max(abs(x["loss"] - y["loss"]) for x, y in zip(a, b)) < 1e-6
    r = run("compare", "--data", folder, "--known", "0-2", "--outliers", 3, "--unknown", 4, "--objectives", "cross_entropy,energy_regularized", "--model", package,
            "--epochs", 2, "--out", tmp_path / "all")
    assert r.returncode == 0, r.stderr
    assert (tmp_path / "all" / "energy_regularized" / "network.pt2").read_bytes() == package.read_bytes()


def test_modules_that_will_not_do_are_refused(tmp_path):
    refused(to_program(tmp_path, "mine:make", "--channels", 1, "--size", SIZE, "--simd", "avx2", "--out", "x.pt"), 2, "--simd: expected --out FILE.pt2")
    refused(to_program(tmp_path, "mine:Map", "--as-is", "--channels", 1, "--size", SIZE, "--out", "x.pt2"), 2, "expected features [N, D]")
    refused(to_program(tmp_path, "mine:make", "--channels", 3, "--size", SIZE, "--out", "x.pt2"), 2, "does not take pictures [N, 3, 8, 8]")
