"""Loads libood.so and gives its operators, after a check that it fits the torch at hand."""
import os
import pathlib

import torch


def _folder() -> pathlib.Path:
    """Where libood.so is: beside the installed package, or in the build folder that OOD_BUILD names."""
    build = os.environ.get("OOD_BUILD")
    candidates = [pathlib.Path(build) / "lib"] if build else []
    candidates.append(pathlib.Path(__file__).parent / "lib")
    for folder in candidates:
        if (folder / "libood.so").exists():
            return folder
    raise ImportError(f"ood: libood.so is not in {candidates[-1]}; install the package with "
                      "pip install --no-build-isolation . in libood's folder")


def check_version(built: str, present: str) -> None:
    """ImportError where a library built against one torch meets another: their C++ does not mix."""
    if built.split(".")[:2] != present.split(".")[:2]:
        minor = ".".join(built.split(".")[:2])
        raise ImportError(f"ood was built against torch {built}, this is torch {present}; run "
                          f"pip install 'torch=={minor}.*', or build again with "
                          "pip install --no-build-isolation . in libood's folder")


def _load() -> None:
    folder = _folder()
    check_version((folder / "torch_version.txt").read_text().strip(), torch.__version__)
    torch.ops.load_library(str(folder / "libood.so"))
    for plugin in filter(None, os.environ.get("OOD_PLUGINS", "").split(":")):
        torch.ops.load_library(plugin)


_load()
ops = torch.ops.ood
