"""Pictures that stay files: the same training as from memory, in little of it."""
import os
import signal
import subprocess
import time

import numpy as np
import pytest

from test_runs import PROGRAM, Image, checkpoints, one_line, pictures, run, wait_until, write_png  # noqa: F401

SIDE = 24


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Colour and grey JPEGs and PNGs of many sizes, one that does not decode; OOD sets of other sizes."""
    where = tmp_path_factory.mktemp("data")
    for part, n, seed in (("train", 240, 0), ("test", 80, 1), ("val", 60, 2)):
        x, y = pictures(n, seed=seed)
        write_png(where / "set" / part, x[::2], y[::2])
        g = np.random.default_rng(seed)
        for i in range(1, n, 2):
            h, w = g.integers(20, 200, 2)
            picture = Image.fromarray(x[i].transpose(1, 2, 0)).resize((int(w), int(h)))
            picture = picture.convert("L") if i % 5 == 0 else picture
            (where / "set" / part / f"class{y[i]}").mkdir(exist_ok=True)
            picture.save(where / "set" / part / f"class{y[i]}" / f"j{i:04}.jpg")
    (where / "set" / "train" / "class0" / "bad.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    for name, channels, side in (("grey", 1, 40), ("wide", 3, 17)):
        x, y = pictures(40, side=side, channels=channels, seed=5)
        write_png(where / name, x, np.zeros_like(y))
    return where


def arguments(data, *more):
    return ["train", "--data", data / "set", "--known", "class0,class1,class2", "--unknown", "class3", "--outliers", data / "wide",
            "--ood-data", f"grey={data / 'grey'}", "--image-size", SIDE, "--objective", "outlier_exposure", "--epochs", 3,
            "--batch-size", 16, "--synthetic-outliers", "noise,blur,patch-shuffle,cutmix", *more]


def same(a, b):
    """Two runs are bit for bit the same but for times and where they read."""
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    without = [[{k: v for k, v in __import__("json").loads(l).items() if k != "seconds"}
                for l in (x / "metrics.jsonl").read_text().splitlines()] for x in (a, b)]
    assert without[0] == without[1]


@pytest.fixture(scope="module")
def held(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("held") / "run"
    r = run(*arguments(data, "--augment", "flip,crop", "--out", out))
    assert r.returncode == 0 and "1 of 241 pictures do not decode" in r.stderr, r.stderr
    return out


@pytest.mark.parametrize("decoders", [0, 1, 5])
def test_files_train_as_memory_does(data, held, decoders, tmp_path):
    for again in ("first", "indexed"):
        r = run(*arguments(data, "--augment", "flip,crop", "--cache", 0, "--decoders", decoders, "--out", tmp_path / again))
        assert r.returncode == 0 and "1 of 241 pictures do not decode" in r.stderr, r.stderr
        same(held, tmp_path / again)


@pytest.mark.parametrize("how", [["--mixup", 1], ["--cutmix", 1], ["--resize", "crop"], ["--normalise", "half"]])
def test_so_they_do_with(data, how, tmp_path):
    for name, cache in (("held", 256), ("files", 0)):
        r = run(*arguments(data, *how, "--cache", cache, "--out", tmp_path / name))
        assert r.returncode == 0, r.stderr
    same(tmp_path / "held", tmp_path / "files")


def test_killed_they_go_on(data, tmp_path):
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "run"
    often = arguments(data, "--augment", "flip,crop", "--checkpoint", 2)
    assert run(*often, "--out", undisturbed).returncode == 0
    command = [*often, "--cache", 0, "--out", out]
    p = subprocess.Popen([PROGRAM, *map(str, command)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_until(lambda: checkpoints(out), p)
    p.send_signal(signal.SIGKILL)
    p.wait()
    r = run("train", "--resume", out)
    assert r.returncode == 0 and "resuming at step" in r.stderr, r.stderr
    same(undisturbed, out)


def index_files():
    return sorted((os.path.join(os.environ["XDG_CACHE_HOME"], "ood", n) for n in os.listdir(os.path.join(os.environ["XDG_CACHE_HOME"], "ood"))),
                  key=os.path.getsize)


def test_a_damaged_index_is_made_again(data, held, tmp_path):
    assert run(*arguments(data, "--augment", "flip,crop", "--cache", 0, "--out", tmp_path / "run")).returncode == 0
    for i, damage in enumerate([lambda b: b[:-100], lambda b: b[:500] + bytes([b[500] ^ 1]) + b[501:], lambda b: b"", lambda b: b[64:]]):
        for path in index_files():
            content = open(path, "rb").read()
            open(path, "wb").write(damage(content))
        out = tmp_path / f"run{i}"
        r = run(*arguments(data, "--augment", "flip,crop", "--cache", 0, "--out", out))
        assert r.returncode == 0, r.stderr
        same(held, out)


def test_a_picture_that_changes_is_read_again(tmp_path):
    x, y = pictures(60)
    write_png(tmp_path / "set", x, y)
    common = ["train", "--data", tmp_path / "set", "--known", "class0,class1", "--unknown", "class3", "--epochs", 1, "--batch-size", 8]
    assert run(*common, "--cache", 0, "--out", tmp_path / "a").returncode == 0
    changed = tmp_path / "set" / "class0" / "0004.png"
    Image.fromarray(255 - x[4].transpose(1, 2, 0)).save(changed)
    for name, cache in (("b", 0), ("c", 256)):
        assert run(*common, "--cache", cache, "--out", tmp_path / name).returncode == 0
    same(tmp_path / "b", tmp_path / "c")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() != (tmp_path / "b" / "model.safetensors").read_bytes()


def test_a_picture_that_could_not_be_read_is_tried_again(tmp_path):
    """Its size and time of change say nothing of why."""
    x, y = pictures(60)
    write_png(tmp_path / "set", x, y)
    common = ["train", "--data", tmp_path / "set", "--known", "class0,class1", "--unknown", "class3", "--epochs", 1, "--batch-size", 8]
    assert run(*common, "--out", tmp_path / "a", env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}).returncode == 0
    away = tmp_path / "set" / "class0" / "0004.png"
    content, times = away.read_bytes(), (away.stat().st_atime_ns, away.stat().st_mtime_ns)
    away.write_bytes(bytes(len(content)))
    os.utime(away, ns=times)
    assert "1 of 48 pictures do not decode" in run(*common, "--cache", 0, "--out", tmp_path / "b").stderr
    away.write_bytes(content)
    os.utime(away, ns=times)
    assert run(*common, "--cache", 0, "--out", tmp_path / "c").returncode == 0
    same(tmp_path / "a", tmp_path / "c")


def test_another_size_is_named_with_an_index_as_without(tmp_path):
    x, y = pictures(60)
    write_png(tmp_path / "set", x, y)
    common = ["train", "--data", tmp_path / "set", "--known", "class0,class1", "--unknown", "class3", "--epochs", 1, "--batch-size", 8]
    assert run(*common, "--cache", 0, "--out", tmp_path / "a").returncode == 0
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(tmp_path / "set" / "class0" / "0000.png")
    for cache in (0, 256):
        r = run(*common, "--cache", cache, "--out", tmp_path / "b")
        assert r.returncode == 3 and "others are 50x50; expected pictures of one size; set --image-size N" in r.stderr, r.stderr


def test_one_picture_that_does_not_decode_says_why(held, tmp_path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    line = one_line(run("embed", held, tmp_path / "x.png", "--out", tmp_path / "f.npy"), 3)
    assert "x.png: does not decode as PNG" in line


def test_a_picture_that_goes_is_named(tmp_path):
    """After the index was made: the training ends, and goes on once the picture is there again."""
    x, y = pictures(80)
    write_png(tmp_path / "set", x, y)
    out = tmp_path / "run"
    command = ["train", "--data", tmp_path / "set", "--known", "class0,class1", "--unknown", "class3", "--epochs", 300, "--cache", 0,
               "--batch-size", 8, "--checkpoint", 5, "--out", out]
    p = subprocess.Popen([PROGRAM, *map(str, command)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_until(lambda: checkpoints(out), p)
    gone = [f for c in (0, 1) for f in (tmp_path / "set" / f"class{c}").iterdir()]
    for f in gone:
        f.rename(f.with_suffix(".away"))
    _, err = p.communicate(timeout=120)
    assert p.returncode == 3 and "cannot be opened" in err.splitlines()[-1], err
    for f in gone:
        f.with_suffix(".away").rename(f)


@pytest.mark.parametrize("place", ["/proc/nowhere", "", "relative"])
def test_an_index_that_cannot_be_kept_is_no_fault(data, held, place, tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": place, "HOME": "/proc"}
    r = run(*arguments(data, "--augment", "flip,crop", "--cache", 0, "--out", tmp_path / "run"), env=environment)
    assert r.returncode == 0, r.stderr
    same(held, tmp_path / "run")


def peak(*command):
    """Most memory of the program, in bytes, of itself: what a parent forks counts as the child's elsewhere."""
    p = subprocess.Popen([PROGRAM, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0
    while p.poll() is None:
        with open(f"/proc/{p.pid}/status") as status:
            most = max([most, *(int(l.split()[1]) * 1024 for l in status if l.startswith("VmHWM"))])
        time.sleep(.01)
    assert p.returncode == 0
    return most


def test_memory_of_a_large_network_is_what_its_step_needs(tmp_path):
    """ResNet-18 of 64 pictures of 224 pixels: 1.25 GB are in use at once, the rest lies between what was freed and fits nothing."""
    g = np.random.default_rng(0)
    for c in range(3):
        (tmp_path / "set" / f"class{c}").mkdir(parents=True)
        for i in range(90):
            picture = Image.fromarray(g.integers(0, 60 + 80 * c, (14, 14, 3), dtype=np.uint8))
            picture.resize((224, 224)).save(tmp_path / "set" / f"class{c}" / f"{i}.jpg")
    used = peak("train", "--data", tmp_path / "set", "--known", "class0,class1", "--unknown", "class2", "--model", "resnet-18",
                "--epochs", 1, "--batch-size", 64, "--cache", 0, "--threads", 2, "--out", tmp_path / "run")
    assert used < 1.65e9, used  # 1.4 on AVX2; convolutions of other machines take other buffers


def test_memory_does_not_grow_with_the_pictures(tmp_path):
    g = np.random.default_rng(0)
    side, few, many = 96, 600, 6000
    noise = g.integers(0, 255, (64, side, side, 3), dtype=np.uint8)
    for i in range(many):
        for folder in ("few", "many")[0 if i < few else 1:]:
            where = tmp_path / folder / f"class{i % 3}"
            where.mkdir(parents=True, exist_ok=True)
            picture = noise[i % 64].copy()
            picture[0, 0] = (i % 251, i // 251, 0)
            picture[:, :, i % 3] //= 2
            Image.fromarray(picture).save(where / f"{i}.png", compress_level=0)
    used = {}
    for folder in ("few", "many"):
        for cache in (0, 1000):
            used[folder, cache] = peak("train", "--data", tmp_path / folder, "--known", "class0,class1", "--unknown", "class2",
                                       "--model", "mlp", "--epochs", 1, "--batch-size", 32, "--cache", cache, "--out", tmp_path / f"{folder}{cache}")
    pictures_of_more = (many - few) * side * side * 3
    assert used["many", 1000] - used["few", 1000] > .8 * pictures_of_more, used
    assert used["many", 0] - used["few", 0] < .25 * pictures_of_more, used


def test_a_large_picture_is_decoded_small(tmp_path):
    """At a reduced size: near what Pillow makes of all its pixels."""
    from test_pictures import network
    y, x = np.mgrid[0:900, 0:1200]
    a = np.stack([127 + 127 * np.sin(x / 70), 127 + 127 * np.cos(y / 50), 255 * x / 1200], -1).astype(np.uint8)
    Image.fromarray(a).save(tmp_path / "p.jpg", quality=95)
    network(tmp_path)
    r = run("embed", tmp_path / "pixels.pt", tmp_path / "p.jpg", "--image-size", 100, "--out", tmp_path / "x.npy")
    assert r.returncode == 0, r.stderr
    got = np.load(tmp_path / "x.npy")[0].reshape(3, 100, 100).transpose(1, 2, 0) * 255
    expected = np.asarray(Image.open(tmp_path / "p.jpg").resize((100, 100), Image.BILINEAR)).astype(float)
    assert np.abs(got - expected).mean() < 1.5 and np.abs(got - expected).max() < 12


def test_words_of_the_flags():
    assert "expected 0 to 1024, got -1" in one_line(run("train", "--decoders", -1), 2)
    assert "expected 0 to 1000000000, got -5" in one_line(run("train", "--cache", -5), 2)
