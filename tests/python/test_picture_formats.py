"""WebP and TIFF beside PNG and JPEG, and what shows through transparency: against Pillow."""
import json
import struct

import numpy as np
import pytest
import torch

import ood
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
    a = np.asarray(picture)[:, 8:16].astype(float)
    expected = (a[..., :3] * a[..., 3:] + behind * (255 - a[..., 3:])) / 255
    assert np.abs(got[:, 8:16] - expected).max() <= 1


@pytest.mark.parametrize("end", ["png", "tif", "webp"])
@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_grey_that_is_transparent(end, alpha, tmp_path):
    picture = Image.merge("LA", [Image.new("L", SIZE[::-1], 200), Image.new("L", SIZE[::-1], alpha)])
    path = saved(tmp_path, f"a.{end}", picture, **({"lossless": True, "exact": True} if end == "webp" else {}))
    for flag, behind in ("black", 0), ("white", 255):
        got = pixels(path, tmp_path, "--alpha", flag)
        assert np.abs(got - (200 * alpha + behind * (255 - alpha)) / 255).max() <= 1


def changed_tag(path, tag, value):
    """Of a little-endian TIFF with one directory: the value of a short."""
    b = bytearray(path.read_bytes())
    at = struct.unpack_from("<I", b, 4)[0]
    for i in range(struct.unpack_from("<H", b, at)[0]):
        if struct.unpack_from("<H", b, at + 2 + 12 * i)[0] == tag:
            struct.pack_into("<H", b, at + 10 + 12 * i, value)
            path.write_bytes(b)
            return path
    raise AssertionError(tag)


def test_what_a_fourth_sample_of_tiff_is(tmp_path):
    """338: 0 is not alpha, 1 is multiplied into the colours."""
    a = np.asarray(transparent()).copy()
    a[..., :3] = a[..., :3] * (a[..., 3:] / 255)
    path = saved(tmp_path, "a.tif", Image.fromarray(a))
    got = pixels(changed_tag(path, 338, 0), tmp_path, "--alpha", "white")
    assert np.array_equal(got, a[..., :3])
    got = pixels(changed_tag(path, 338, 1), tmp_path, "--alpha", "white")
    assert np.abs(got - (a[..., :3] + 255. - a[..., 3:])).max() <= 1


def test_grey_before_a_colour(tmp_path):
    path = saved(tmp_path, "a.png", Image.merge("LA", [grey(photo(6, *SIZE)), Image.new("L", SIZE[::-1], 0)]))
    assert (pixels(path, tmp_path, "--alpha", "ff8000") == [255, 128, 0]).all()
    assert (pixels(path, tmp_path, "--alpha", "white") == 255).all()


@pytest.mark.parametrize("flags", [["--resize", "crop"], ["--alpha", "ff8000"]])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_python_prepares_pictures_as_the_program_does(tmp_path, flags, mode):
    """Of any size, grey or coloured or with opacity: as it scores the files."""
    for c in range(2):
        (tmp_path / "data" / f"c{c}").mkdir(parents=True)
        for i in range(16):
            photo(20 * c + i, 16, 16).convert(mode).save(tmp_path / "data" / f"c{c}" / f"{i}.png")
    out = tmp_path / "run"
    r = run("train", "--data", tmp_path / "data", "--epochs", 2, "--validation", .3, "--out", out, *flags)
    assert r.returncode == 0, r.stderr
    loaded = ood.load_run(out)
    cases = {"colour": photo(5, 40, 23), "wide": photo(6, 20, 61), "grey": grey(photo(7, 30, 30)), "as it is": photo(8, 16, 16),
             "opacity": np.dstack([photo(9, 33, 20), grey(photo(3, 33, 20))])}
    for name, picture in cases.items():
        picture = np.asarray(picture)
        Image.fromarray(picture).save(tmp_path / "p.png")
        r = run("score", out, tmp_path / "p.png", "--false-alarms", .5)
        assert r.returncode == 0, r.stderr
        x = torch.from_numpy(np.atleast_3d(picture).transpose(2, 0, 1).copy())[None]
        _, (score,), _ = loaded.detect(loaded.prepared(x), false_alarms=.5)
        assert abs(float(r.stdout.splitlines()[1].split(",")[2]) - float(score)) < 1e-4, name
        # Its features tell a pixel that differs by one.
        r = run("embed", out, tmp_path / "p.png", "--overwrite", "--out", tmp_path / "f.npy")
        assert r.returncode == 0, r.stderr
        _, features = loaded(loaded.prepared(x))
        np.testing.assert_allclose(np.load(tmp_path / "f.npy"), features.detach(), rtol=1e-4, atol=1e-5, err_msg=name)
    with pytest.raises(ValueError, match="expected pictures of . channels, got 5"):
        loaded.prepared(torch.zeros(1, 5, 16, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="expected pictures uint8"):
        loaded.prepared(torch.zeros(1, 3, 16, 16))


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
    flat = tmp_path / "flat" / "c0"
    flat.mkdir(parents=True)
    files = sorted((tmp_path / "data" / "c0").iterdir())
    for f in files:
        Image.alpha_composite(Image.new("RGBA", (16, 16), "white"), Image.open(f)).convert("RGB").save(flat / f.name)
    def scores(folder):
        r = run("score", out, folder, "--false-alarms", .5)
        assert r.returncode == 0, r.stderr
        return [l.split(",", 1)[1] for l in r.stdout.splitlines()[1:]]
    assert scores(files[0].parent) == scores(flat) != []
    _, detected, *_ = ood.load_run(out).detect(torch.from_numpy(np.stack([np.asarray(Image.open(flat / f.name)) for f in files])
                                                         .transpose(0, 3, 1, 2).copy()))
    assert np.allclose([float(l.split(",")[1]) for l in scores(flat)], detected, atol=1e-5)
    def features(folder, *more):
        r = run("embed", out, folder, *more, "--overwrite", "--out", tmp_path / "f.npy")
        return np.load(tmp_path / "f.npy") if r.returncode == 0 else r.stderr
    assert np.array_equal(features(files[0].parent), features(flat))
    assert "--alpha: expected none, or the white of the run's training" in features(flat, "--alpha", "black")
    # An index of the same folder that was read before another colour is not taken.
    for colour in "black", "white":
        assert run(*flags[:-1], tmp_path / f"files-{colour}", "--cache", 0, "--alpha", colour).returncode == 0
    assert (tmp_path / "files-white" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
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
    jpeg = bytearray(saved(tmp_path, "whole2.tif", photo(7, 200, 200), compression="jpeg", quality=95).read_bytes())
    jpeg[len(jpeg) // 2:len(jpeg) // 2 + 400] = bytes(400)
    assert "does not decode as TIFF: " in line("hole.tif", jpeg)
    tile = tiff_of(1, 1)
    at = tile.index(struct.pack("<HHI", 273, 4, 1))  # strips become one tile of 8192x8192
    tile = tile[:8] + struct.pack("<H", 10) + tile[10:at] + struct.pack("<HHII", 277, 3, 1, 1) + b"".join(
        struct.pack("<HHII", *t) for t in [(322, 4, 1, 8192), (323, 4, 1, 8192), (324, 4, 1, 8), (325, 4, 1, 16)]) + bytes(4)
    assert "its parts are larger than the picture" in line("tile.tif", tile)
    palette = saved(tmp_path, "p.tif", photo(2, *SIZE).quantize(16).convert("PA")).read_bytes()
    assert "transparency of a palette" in line("pa.tif", palette)
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
