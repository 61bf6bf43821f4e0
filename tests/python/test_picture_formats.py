"""WebP and TIFF beside PNG and JPEG, and what shows through transparency: against Pillow."""
import json
import struct

import numpy as np
import pytest

from test_pictures import network, photo
from test_runs import Image, run
from test_trust import one_line

SIZE = 40, 24


def pixels(path, tmp_path, *flags):
    """As the program sees them, [H, W, C]."""
    network(tmp_path)
    r = run("embed", tmp_path / "pixels.pt", path, *flags, "--overwrite", "--out", tmp_path / "x.npy")
    assert r.returncode == 0, r.stderr
    x = np.load(tmp_path / "x.npy")[0] * 255
    return np.rint(x).astype(int).reshape(3, -1).reshape(3, *SIZE).transpose(1, 2, 0)


def saved(tmp_path, name, picture, **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def grey(picture):
    return picture.convert("L")


@pytest.mark.parametrize("name, options", [
    ("a.webp", {"lossless": True}), ("a.webp", {"quality": 80}), ("a.tif", {}), ("a.tiff", {"compression": "tiff_lzw"}),
    ("a.tif", {"compression": "tiff_adobe_deflate"}), ("a.tif", {"compression": "packbits"}),
    ("wrong-ending.png", {"format": "WEBP", "lossless": True}), ("wrong-ending.jpg", {"format": "TIFF"})])
def test_colour_pictures_are_those_of_pillow(name, options, tmp_path):
    path = saved(tmp_path, name, photo(1, *SIZE), **options)
    assert np.array_equal(pixels(path, tmp_path), np.asarray(Image.open(path).convert("RGB")))


def test_jpeg_in_tiff(tmp_path):
    path = saved(tmp_path, "a.tif", photo(1, *SIZE), compression="jpeg", quality=95)
    assert np.abs(pixels(path, tmp_path) - np.asarray(Image.open(path).convert("RGB"))).max() <= 3


@pytest.mark.parametrize("picture", [
    grey(photo(2, *SIZE)), photo(2, *SIZE).quantize(16), grey(photo(2, *SIZE)).point(lambda v: 255 * (v > 90)).convert("1")],
    ids=["grey", "palette", "bits"])
def test_tiff_of_few_colours(picture, tmp_path):
    path = saved(tmp_path, "a.tif", picture)
    assert np.array_equal(pixels(path, tmp_path), np.asarray(picture.convert("RGB")))


def test_tiff_of_16_bits_keeps_its_upper_ones(tmp_path):
    wide = np.asarray(grey(photo(3, *SIZE))).astype(np.uint16) * 257
    path = saved(tmp_path, "a.tif", Image.fromarray(wide))
    assert np.abs(pixels(path, tmp_path)[..., 0] - wide // 257).max() <= 1


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["a.webp", "a.tif"])
def test_pictures_stand_upright(name, turn, tmp_path):
    picture = photo(4, *(SIZE if turn < 5 else SIZE[::-1]))
    exif = Image.Exif()
    exif[0x0112] = turn
    path = saved(tmp_path, name, picture, **({"lossless": True} if name == "a.webp" else {}), exif=exif)
    from PIL import ImageOps
    assert np.array_equal(pixels(path, tmp_path), np.asarray(ImageOps.exif_transpose(Image.open(path))))


def transparent():
    a = np.dstack([np.asarray(photo(5, *SIZE)), np.zeros(SIZE, np.uint8)])
    a[:, 8:16, 3], a[:, 16:, 3] = 128, 255
    return Image.fromarray(a)


@pytest.mark.parametrize("name, options", [("a.webp", {"lossless": True, "exact": True}), ("a.tif", {}), ("a.png", {})])
@pytest.mark.parametrize("flag, colour", [("black", 0), ("white", 0xffffff), ("2080c0", 0x2080c0)])
def test_what_shows_through(name, options, flag, colour, tmp_path):
    picture = transparent()
    path = saved(tmp_path, name, picture, **options)
    got = pixels(path, tmp_path, "--alpha", flag)
    behind = np.array([colour >> 16, colour >> 8 & 255, colour & 255])
    assert np.array_equal(got[:, :8], np.broadcast_to(behind, (SIZE[0], 8, 3)))
    assert np.array_equal(got[:, 16:], np.asarray(picture)[:, 16:, :3])
    if name != "a.png":  # libpng mixes light, not numbers
        a = np.asarray(picture)[:, 8:16].astype(float)
        expected = (a[..., :3] * a[..., 3:] + behind * (255 - a[..., 3:])) / 255
        assert np.abs(got[:, 8:16] - expected).max() <= 1


def test_grey_before_a_colour(tmp_path):
    path = saved(tmp_path, "a.png", Image.merge("LA", [grey(photo(6, *SIZE)), Image.new("L", SIZE[::-1], 0)]))
    assert (pixels(path, tmp_path, "--alpha", "ff8000") == [255, 128, 0]).all()
    assert (pixels(path, tmp_path, "--alpha", "white") == 255).all()


def test_a_run_knows_its_colour(tmp_path):
    """What was trained before white is scored before white, by the program and by Python."""
    for c in range(3):
        (tmp_path / "data" / f"c{c}").mkdir(parents=True)
        for i in range(8):
            a = np.zeros((16, 16, 4), np.uint8)
            a[4 * c:4 * c + 6] = [200, 30 * i, 60, 255]
            Image.fromarray(a).save(tmp_path / "data" / f"c{c}" / f"{i}.png")
    out = tmp_path / "run"
    flags = ["train", "--data", tmp_path / "data", "--epochs", 2, "--model", "mlp", "--validation", .3, "--out", out]
    assert run(*flags, "--alpha", "white").returncode == 0
    r = run("score", out, tmp_path / "data" / "c0" / "0.png", "--false-alarms", .5)
    assert r.returncode == 0, r.stderr
    assert run("score", out, tmp_path / "data" / "c0" / "0.png", "--alpha", "black").returncode == 2
    black = tmp_path / "black"
    assert run(*flags[:-1], black).returncode == 0
    mean = {p: json.loads((p / "model.safetensors").read_bytes()[8:].split(b'"description":"')[1].split(b'","')[0]
                          .replace(b'\\"', b'"'))["mean"] for p in (out, black)}
    assert min(mean[out]) > max(mean[black])


def tiff_of(width, height, bits=8):
    """A header that promises so many pixels, and nothing behind it."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
            (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 16)]
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", *t) for t in tags) + struct.pack("<I", 0)


def test_what_is_no_picture_of_these_is_named(tmp_path):
    network(tmp_path)
    def line(name, content):
        (tmp_path / name).write_bytes(content)
        return one_line(run("embed", tmp_path / "pixels.pt", tmp_path / name, "--out", tmp_path / "y.npy"), 3)
    picture = photo(7, *SIZE)
    webp = saved(tmp_path, "whole.webp", picture, quality=80).read_bytes()
    tif = saved(tmp_path, "whole.tif", picture, compression="tiff_lzw").read_bytes()
    assert "does not decode as WebP: truncated or damaged" in line("cut.webp", webp[:len(webp) // 2])
    assert "does not decode as TIFF: " in line("cut.tif", tif[:len(tif) // 3])
    animation = saved(tmp_path, "film.webp", picture, save_all=True, append_images=[photo(8, *SIZE)]).read_bytes()
    assert "expected one picture, got an animation" in line("film2.webp", animation)
    assert "65535x65535 pixels; expected at most 100000000 (--max-pixels)" in line("bomb.tif", tiff_of(65535, 65535))
    assert "expected whole numbers of at most 16 bits, got 32 bits" in line(
        "float.tif", saved(tmp_path, "f.tif", Image.fromarray(np.zeros(SIZE, np.float32))).read_bytes())
    assert "a CMYK picture" in line("cmyk.tif", saved(tmp_path, "c.tif", picture.convert("CMYK")).read_bytes())
    assert "--alpha: expected black, white or RRGGBB (hexadecimal), got \"pink\"" in one_line(
        run("train", "--alpha", "pink", "--out", tmp_path / "x"), 2)


def test_folders_of_them_are_trained_with(tmp_path):
    for c in range(3):
        (tmp_path / "data" / f"c{c}").mkdir(parents=True)
        for i in range(6):
            end = ["png", "webp", "tif"][i % 3]
            photo(10 * c + i, *SIZE).save(tmp_path / "data" / f"c{c}" / f"{i}.{end}", **({"lossless": True} if end == "webp" else {}))
    r = run("train", "--data", tmp_path / "data", "--epochs", 1, "--model", "mlp", "--out", tmp_path / "run")
    assert r.returncode == 0 and "left out" not in r.stderr, r.stderr
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    assert result["train_samples"] + result["objectives"][0]["test_samples"] <= 18
