"""Small whole files of each kind, from which the fuzzers start: corpus.py FOLDER"""
import gzip
import io
import json
import pathlib
import struct
import sys
import tarfile

import numpy as np
from PIL import Image

folder = pathlib.Path(sys.argv[1])


def put(kind, name, content):
    (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / kind / name).write_bytes(content)


plain = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 3) + bytes(range(18))
put("idx", "plain", plain)
put("idx", "gz", gzip.compress(plain, mtime=0))
for a in (np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(18, dtype=np.uint8).reshape(2, 3, 3), np.arange(4, dtype=np.uint16)):
    b = io.BytesIO()
    np.save(b, a)
    put("npy", str(a.dtype), b.getvalue())
for save in (np.savez, np.savez_compressed):
    b = io.BytesIO()
    save(b, train=np.arange(12, dtype=np.float32).reshape(4, 3), train_labels=np.array([0, 1, 0, 1]))
    put("npz", save.__name__, b.getvalue())
put("manifest", "csv", b'path,label,split\na.png,"x, ""y""",train\n"b\nc.png",y,test\n')
put("manifest", "jsonl", b'{"path": "a.png", "label": "x"}\n\n{"path": "b.png", "label": 3, "split": null}\n')
put("table", "csv", b'a,"b",label,split\n1,-2.5e3,x,train\n "3", 4 ,"y",test\n')
for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w", format=form) as tar:
        png = io.BytesIO()
        Image.new("L", (5, 4)).save(png, "png")
        for name, content in (("a/0.png", png.getvalue()), ("b/1.png", png.getvalue()), ("b/1.cls", b"x\n"), ("2.png", png.getvalue()),
                              ("2.json", b'{"label": 3}'), (("long" * 15 + "/") * 2 + "x.png", png.getvalue())):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("b/3.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a/0.png"
        tar.addfile(link)
    put("tar", str(form), b.getvalue())
for mode in ("L", "RGB", "CMYK", "I;16", "P", "RGBA"):
    for end, more in (("png", {}), ("jpeg", {}), ("jpeg", {"progressive": True}), ("webp", {}), ("webp", {"lossless": True}),
                      ("tiff", {}), ("tiff", {"compression": "tiff_lzw"})):
        b = io.BytesIO()
        try:
            Image.new(mode, (5, 4)).save(b, end, **more)
        except (OSError, KeyError):
            continue
        put("picture", f"{mode.replace(';', '')}{''.join(more)}.{end}", b.getvalue())
header = json.dumps({"__metadata__": {"format": "x"}, "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                     "b": {"dtype": "U8", "shape": [], "data_offsets": [8, 9]}}).encode()
put("safetensors", "two", struct.pack("<Q", len(header)) + header + bytes(9))
put("json", "nested", b'{"a": [1, {"b": "c\\"]"}], "d": null}')
put("class_list", "all", b"0,2-4,boot,red\\, dark")
put("cifar", "two", bytes(2 * 3073))
put("config", "whole", b'format = 2\nobjective = "energy_margin"\nknown = "0,2-4"\nood-data = ["near:a=b", "c=d"]\nlr = 1e-1\nseed = 3\nstrict = true\n'
    b'measured = "m_in"\n[energy_margin]\nm_in = -9.0\nm_out = -3\n')
put("metrics", "lines", b'{"step": 1, "loss": 2.5, "terms": {"ce": 1.0}}\n{"step": 2, "loss": null}\n{"step": 3, "epoch": 1}\n{"st')
put("description", "whole", json.dumps({
    "format": "7", "model": "small-cnn", "objective": "cac", "parameters": [10.0, 0.1], "channels": 1, "height": 8, "width": 8,
    "class_names": ["a", "b"], "mean": [0.5], "deviation": [0.2], "embeddings": False, "seed": 0, "epochs": 3}).encode())
