"""Makes files that mean harm, and tries them in a process of little memory.

    python -m tests.hostile_files FOLDER

loads every model file of the folder, and every weights file into a small network, by the package's
public functions and by the command, and prints a line of JSON about each.
"""

import contextlib
import io
import json
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
# Bytes that a file may ask for beyond what the imported packages take.
MEMORY = 2**30
SMALL = {"alpha": 0.25, "input_shape": (32, 32, 3), "attention": None}


def members(path):
    """The members of an archive as a dict of bytes."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_archive(path, contents):
    """An archive as Keras writes them; the keys are names or `zipfile.ZipInfo`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def symbolic_link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def inflating(length, byte=b" "):
    """A short deflated stream of so many bytes, without computing them all."""
    block = byte * 2**24
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    once = compressor.compress(block) + compressor.flush(zlib.Z_FULL_FLUSH)
    return once * (length // len(block)) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def archive_of_streams(path, streams, encrypted=False):
    """An archive of `{name: (deflated stream, claimed length)}`, whatever the streams hold."""
    body, directory = b"", b""
    for name, (stream, length) in streams.items():
        flags = 1 if encrypted else 0
        common = struct.pack(
            *("<HHHHHIIIHH", 20, flags, 8, 0, 33, 0, len(stream), length, len(name), 0)
        )
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + common
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\x03\x04" + common + name.encode() + stream
    end = struct.pack("<HHHHIIH", 0, 0, *[len(streams)] * 2, len(directory), len(body), 0)
    path.write_bytes(body + directory + b"PK\x05\x06" + end)
    return path


def npy(shape, dtype="|u1", data=b""):
    """A NumPy file that claims a shape, whatever it holds."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def h5_of(change):
    """The bytes of an HDF5 file that `change(file)` filled."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        change(file)
    return buffer.getvalue()


def _virtual(file):
    import h5py

    layout = h5py.VirtualLayout((3,), "float32")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3,))
    file.create_virtual_dataset("x", layout)


def hostile_h5():
    """`{name: (bytes, part of the message)}`."""
    import h5py

    def linked(link):
        return lambda file: file.__setitem__("layers", link)

    def array(**options):
        return lambda file: file.create_dataset("layers/dense/vars/0", **options)

    giant = {"shape": (10**12,), "dtype": "float32"}
    return {
        "external link": (h5_of(linked(h5py.ExternalLink("/dev/zero", "/x"))), "are a link"),
        "soft link": (h5_of(linked(h5py.SoftLink("/layers"))), "are a link"),
        "another file": (
            h5_of(array(shape=(9,), dtype="u1", external=[("/etc/passwd", 0, 9)])),
            "in another file",
        ),
        "virtual": (h5_of(_virtual), "in another file"),
        "giant": (h5_of(array(**giant)), "claim more bytes than the file has"),
        "chunks": (h5_of(array(**giant, chunks=(10**6,))), "claim more bytes"),
        "compressed": (
            h5_of(array(data=np.zeros(2**20), chunks=(2**20,), compression="gzip")),
            "are compressed",
        ),
        "strings": (h5_of(array(data=["x"] * 3)), "are not numbers"),
        "text": (b"not HDF5", ""),
        "empty": (b"", ""),
    }


def outcome(function, *arguments, **options):
    """What became of a call, as the name of its error and the message."""
    try:
        function(*arguments, **options)
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"error": None, "message": ""}


def try_command(*arguments):
    from keras_cbam.cli import main

    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        status = main([str(argument) for argument in arguments])
    return {"status": status, "stderr": stderr.getvalue()}


def limit_memory():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(folder):
    import keras

    from keras_cbam import attention_classifier
    from keras_cbam.data import load_data
    from keras_cbam.training import find_run

    # Once, so that the backend has its threads and pools.
    attention_classifier("MobileNet", 2, weights=None, **SMALL)(np.zeros((1, 32, 32, 3)))
    # What a program around it may have done.
    keras.config.enable_unsafe_deserialization()
    limit_memory()
    for path in sorted(pathlib.Path(folder).iterdir()):
        if path.name.startswith("data"):
            result = {"result": outcome(load_data, path, 32)}
        elif path.name.startswith("model"):
            result = {"result": outcome(lambda path=path: find_run(path).load())}
            arguments = ("explain", path, "none.png", "--output", f"{folder}/../output")
            result["command"] = try_command(*arguments)
        else:
            weights = {**SMALL, "weights": path}
            result = {"result": outcome(attention_classifier, "MobileNet", 2, **weights)}
        print(json.dumps({"file": path.name, **result}), flush=True)


def try_all(folder, timeout=240):
    """`{file name: result}` of a run of this module, which must not write beside the folder."""
    around = folder.parent
    temporary = around / "temporary"
    temporary.mkdir()
    before = sorted(around.rglob("*"))
    run = subprocess.run(
        [sys.executable, "-m", "tests.hostile_files", str(folder)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert sorted(around.rglob("*")) == before
    shutil.rmtree(temporary)
    results = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    return {result.pop("file"): result for result in results}


if __name__ == "__main__":
    main(sys.argv[1])
