"""Writes the hashes of what these files name, as the package index has them: pin.py [FILE...], after a NAME==VERSION has
changed. Kept are files for CPython 3.11 to 3.13 on Linux, and those for any platform."""
import json
import pathlib
import re
import sys
import urllib.request

INDEX = "https://pypi.org/simple/"
JSON = "application/vnd.pypi.simple.v1+json"
OURS = re.compile(r"cp31[123]-cp31[123]-.*linux|abi3-.*linux|py3-none-.*linux|none-any")


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def is_ours(filename, name, version):
    if filename.endswith(".whl"):
        parts = filename[:-4].split("-")
        return parts[1] == version and OURS.search("-".join(parts[-3:])) and "musl" not in filename
    return canonical(filename) == canonical(f"{name}-{version}.tar.gz")


def hashes(name, version):
    request = urllib.request.Request(INDEX + canonical(name) + "/", headers={"Accept": JSON})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    found = sorted(f["hashes"]["sha256"] for f in files if is_ours(f["filename"], name, version))
    if not found:
        sys.exit(f"{name}=={version}: the index has no such file")
    return found


for path in map(pathlib.Path, sys.argv[1:] or pathlib.Path(__file__).parent.glob("*.txt")):
    lines = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for name, version in re.findall(r"^([\w.-]+)==([\w.+-]+)", path.read_text(), re.M):
        lines.append(" \\\n    ".join([f"{name}=={version}", *(f"--hash=sha256:{h}" for h in hashes(name, version))]))
    path.write_text("\n".join(lines) + "\n")
