#!/usr/bin/env python3
"""Puts ONNX Runtime's shared library into DIR, from the official `onnxruntime` package of the Python index.

    get_onnxruntime.py DIR

Version and hashes are pinned below; pip checks them. Nothing is done when that version is there already.
"""

import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile

VERSION = "1.31.1"
# The library is the same in the wheels of every Python version; these are the ones of CPython 3.12.
WHEELS = {
    ("Linux", "x86_64"): (
        "manylinux_2_28_x86_64",
        "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    ),
    ("Linux", "aarch64"): (
        "manylinux_2_28_aarch64",
        "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    ),
    ("Darwin", "arm64"): (
        "macosx_14_0_arm64",
        "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
    ),
}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    suffix = ".dylib" if platform.system() == "Darwin" else ".so"
    library, stamp = folder / f"libonnxruntime{suffix}", folder / "VERSION"
    if library.exists() and stamp.exists() and stamp.read_text().strip() == VERSION:
        return
    machine = platform.system(), platform.machine()
    if machine not in WHEELS:
        sys.exit(f"no ONNX Runtime is pinned for {' '.join(machine)}: install it and name its library in ORT_DYLIB_PATH")
    tag, digest = WHEELS[machine]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        wheel = download(pathlib.Path(temporary), tag, digest)
        extract(wheel, library)
    stamp.write_text(VERSION + "\n")
    print(f"ONNX Runtime {VERSION} is in {folder}")


def download(folder, tag, digest):
    requirements = folder / "requirements.txt"
    requirements.write_text(f"onnxruntime=={VERSION} --hash=sha256:{digest}\n")
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", "3.12", "--abi", "cp312"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command = [*pip, "--require-hashes", "--requirement", requirements, "--dest", folder, "--platform", tag, *target]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("pip could not get ONNX Runtime (is pip installed for this python3? on Debian: python3-pip)")
    return next(folder.glob("*.whl"))


def extract(wheel, library):
    """Copies the library beside its place and renames it into it, so that a killed run leaves nothing half-written."""
    with zipfile.ZipFile(wheel) as archive:
        stem = library.name.split(".")[0]
        name = next(n for n in archive.namelist() if pathlib.PurePath(n).name.startswith(stem + ".") and VERSION in n.split("/")[-1])
        partial = library.with_suffix(".partial")
        with archive.open(name) as source, partial.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    partial.chmod(0o755)
    partial.rename(library)


main()
