"""Augmentations: the changes of one picture are those of Pillow, and a training with all of them is a function of its seed."""
import json
import os
import subprocess

import numpy as np
import pytest

from conftest import BUILD
from test_pictures import photo
from test_runs import Image, run
from test_trust import one_line

ImageEnhance, ImageOps = pytest.importorskip("PIL.ImageEnhance"), pytest.importorskip("PIL.ImageOps")
CHANGES = {
    "brightness": lambda p: ImageEnhance.Brightness(p).enhance(1.3),
    "contrast": lambda p: ImageEnhance.Contrast(p).enhance(.4),
    "saturation": lambda p: ImageEnhance.Color(p).enhance(1.7),
    "sharpness": lambda p: ImageEnhance.Sharpness(p).enhance(1.8),
    "posterize": lambda p: ImageOps.posterize(p, 3),
    "solarize": lambda p: ImageOps.solarize(p, 100),
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "affine": lambda p: p.transform(p.size, Image.Transform.AFFINE, (.913, .187, -1.471, -.1031, 1.0871, 2.03)),
}


# By RandAugment()._augmentation_space(31, size) at 9.
UNSIGNED = {"Identity", "Posterize", "Solarize", "AutoContrast", "Equalize"}


def save(path, a):
    np.save(path, np.ascontiguousarray(np.atleast_3d(a).transpose(2, 0, 1)))


def test_changes_are_those_of_pillow(tmp_path):
    """And the operations of RandAugment those of torchvision."""
    auto = pytest.importorskip("torchvision.transforms.autoaugment")
    from torchvision.transforms import InterpolationMode
    g = np.random.default_rng(0)
    noise = Image.fromarray(g.integers(0, 256, (23, 17, 3), dtype=np.uint8))
    dull = Image.fromarray(g.integers(90, 130, (30, 31, 3), dtype=np.uint8))
    for name, picture in {"photo": photo(1, 40, 50), "noise": noise, "dull": dull, "grey": photo(2, 33, 20).convert("L"),
                          "flat": Image.new("RGB", (9, 9), (7, 7, 200))}.items():
        (tmp_path / name).mkdir()
        space = auto.RandAugment()._augmentation_space(31, picture.size[::-1])
        RANDAUGMENT = [(k, float(m[9]) if m.ndim else 0.) for k, (m, _) in space.items()]
        assert len(RANDAUGMENT) == 14 and UNSIGNED == {k for k, (_, signed) in space.items() if not signed}
        for change, how in {"picture": lambda p: p, **CHANGES}.items():
            a = np.asarray(how(picture))
            save(tmp_path / name / f"{change}.npy", a)
        for which, (operation, magnitude) in enumerate(RANDAUGMENT):
            for sign in (1, -1):
                signed = magnitude if operation in UNSIGNED else sign * magnitude
                changed = auto._apply_op(picture, operation, signed, InterpolationMode.NEAREST, [0] * len(picture.getbands()))
                save(tmp_path / name / f"randaugment.{which}.{sign}.npy", np.asarray(changed))
    r = subprocess.run([str(BUILD / "bin" / "ood_tests"), "--gtest_filter=PictureChanges.*"], capture_output=True, text=True,
                       env={**os.environ, "OOD_TEST_PILLOW": str(tmp_path)})
    assert r.returncode == 0 and "[  PASSED  ] 1 test" in r.stdout and "SKIPPED" not in r.stdout, r.stdout


def test_a_training_with_all_of_them(tmp_path):
    for c in range(3):
        (tmp_path / "data" / f"c{c}").mkdir(parents=True)
        for i in range(20):
            photo(20 * c + i, 40, 40).save(tmp_path / "data" / f"c{c}" / f"{i}.png")
    def weights(name, *flags):
        everything = [] if "--augment" in flags else ["--augment", "flip,crop,resized-crop,randaugment,colour,erase"]
        r = run("train", "--data", tmp_path / "data", "--epochs", 2, *everything, *flags, "--out", tmp_path / name)
        assert r.returncode == 0, r.stderr
        assert json.loads((tmp_path / name / "results.json").read_text())["objectives"][0]["steps"] > 0
        return (tmp_path / name / "model.safetensors").read_bytes()
    once = weights("once")
    assert weights("files", "--cache", 0) == once
    assert weights("ahead", "--cache", 0, "--decoders", 2) == once
    assert weights("other", "--seed", 1) != once
    assert weights("none", "--augment", "") != weights("flipped", "--augment", "flip") != once


def test_other_channels_are_named(tmp_path):
    g = np.random.default_rng(0)
    (tmp_path / "five").mkdir()
    for part, n in ("train", 40), ("test", 20):
        np.save(tmp_path / "five" / f"{part}.npy", g.integers(0, 256, (n, 5, 8, 8), dtype=np.uint8))
        np.save(tmp_path / "five" / f"{part}_labels.npy", np.arange(n) % 2)
    flags = ["train", "--data", tmp_path / "five", "--epochs", 1, "--out", tmp_path / "x"]
    r = run(*flags, "--augment", "colour")
    assert r.returncode == 2 and "--augment: colour and randaugment expect pictures of 1 or 3 channels, got 5" in r.stderr
    assert run(*flags, "--augment", "flip,erase", "--overwrite").returncode == 0


def test_unknown_ones_are_named(tmp_path):
    assert "--augment: expected a list of flip,crop,resized-crop,randaugment,colour,erase, got \"spin\"" in one_line(
        run("train", "--augment", "flip,spin", "--out", tmp_path / "x"), 2)
