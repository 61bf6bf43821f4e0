"""Pictures as cameras and phones store them: turned by Exif, of any shape."""
import numpy as np
import pytest

import ood
from test_distributed import load_file  # noqa: F401
from test_runs import Image, run

ImageOps = pytest.importorskip("PIL.ImageOps")


def photo(seed, height, width):
    """Smooth, so that JPEG hardly changes it; every corner another colour."""
    g = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    a = np.stack([255 * x / width, 255 * y / height, np.full_like(x, g.integers(0, 255), float)], -1)
    return Image.fromarray(a.astype(np.uint8))


def folder_of(where, turn=None, height=48, width=32):
    """Six pictures a class; turned: stored as a camera does that was held otherwise."""
    for c in range(3):
        (where / f"class{c}").mkdir(parents=True)
        for i in range(10):
            picture = photo(10 * c + i, height, width)
            exif = Image.Exif()
            if turn:
                exif[0x0112] = turn
                stored = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[turn]  # the inverse transposition
                if stored is not None:
                    picture = picture.transpose(stored)
            picture.save(where / f"class{c}" / f"{i}.jpg", quality=100, subsampling=0, exif=exif)
    return where


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_picture_stands_upright(tmp_path, turn):
    """Against Pillow, and against the picture that was never turned."""
    stored = folder_of(tmp_path / "turned", turn) / "class0" / "3.jpg"
    expected = np.asarray(ImageOps.exif_transpose(Image.open(stored)))
    assert np.abs(expected.astype(int) - np.asarray(photo(3, 48, 32)).astype(int)).max() <= 8
    network(tmp_path)
    r = run("embed", tmp_path / "pixels.pt", stored, "--out", tmp_path / "x.npy")
    assert r.returncode == 0, r.stderr
    got = np.load(tmp_path / "x.npy")[0].reshape(3, 48, 32).transpose(1, 2, 0) * 255
    assert np.abs(got - expected).max() <= 2  # two decoders


def network(where):
    """Gives its inputs as features."""
    import torch
    net = torch.jit.script(torch.nn.Flatten())
    torch.jit.save(net, str(where / "pixels.pt"), _extra_files={"ood.json": '{"mean": [0, 0, 0], "deviation": [1, 1, 1]}'})


def test_damaged_exif_is_no_exif(tmp_path):
    stored = folder_of(tmp_path / "turned", 6) / "class0" / "3.jpg"
    network(tmp_path)
    content = bytearray(stored.read_bytes())
    at = content.index(b"Exif")
    for i, (offset, value) in enumerate([(10, 0xff), (13, 0xff), (14, 0xff), (15, 0xff), (24, 9), (6, 0x4d)]):
        changed = bytearray(content)
        changed[at + offset] = value
        (tmp_path / f"{i}.jpg").write_bytes(changed)
        r = run("embed", tmp_path / "pixels.pt", tmp_path / f"{i}.jpg", "--out", tmp_path / f"{i}.npy")
        assert r.returncode == 0, r.stderr


@pytest.mark.parametrize("height, width", [(48, 32), (20, 60), (33, 33), (7, 90)])
def test_a_crop_keeps_the_shape_of_things(tmp_path, height, width):
    """The short side to N, the middle of the long one: against Pillow."""
    photo(1, height, width).save(tmp_path / "p.png")
    network(tmp_path)
    side = 24
    r = run("embed", tmp_path / "pixels.pt", tmp_path / "p.png", "--image-size", side, "--resize", "crop", "--out", tmp_path / "x.npy")
    assert r.returncode == 0, r.stderr
    got = np.load(tmp_path / "x.npy")[0].reshape(3, side, side).transpose(1, 2, 0) * 255
    scale = side / min(height, width)
    h, w = max(round(height * scale), side), max(round(width * scale), side)
    expected = np.asarray(photo(1, height, width).resize((w, h), Image.BILINEAR)).astype(float)
    top, left = (h - side) // 2, (w - side) // 2
    assert np.abs(got - expected[top:top + side, left:left + side]).max() <= 1.01


def test_a_run_crops_wherever_it_is_used(tmp_path):
    data = folder_of(tmp_path / "data")
    out = tmp_path / "run"
    r = run("train", "--data", data, "--known", "class0,class1", "--unknown", "class2", "--image-size", 16, "--resize", "crop",
            "--epochs", 2, "--validation", .3, "--out", out)
    assert r.returncode == 0, r.stderr
    assert ood.load_run(out).description["crop"] is True
    picture = data / "class0" / "0.jpg"
    small = Image.open(picture).resize((16, 24), Image.BILINEAR).crop((0, 4, 16, 20))
    scores = []
    small.save(tmp_path / "small.png")
    for path in (picture, tmp_path / "small.png"):
        r = run("score", out, path)
        assert r.returncode == 0, r.stderr
        scores.append(float(r.stdout.splitlines()[1].split(",")[2]))
    squashed = Image.open(picture).resize((16, 16), Image.BILINEAR)
    squashed.save(tmp_path / "squashed.png")
    other = float(run("score", out, tmp_path / "squashed.png").stdout.splitlines()[1].split(",")[2])
    assert abs(scores[0] - scores[1]) < .2 * abs(scores[0] - other) + 1e-3, (scores, other)
    assert run("eval", out).returncode == 0
    r = run("train", "--data", data, "--resize", "cut", "--out", tmp_path / "x")
    assert r.returncode == 2 and "--resize: expected squash or crop, got cut" in r.stderr
