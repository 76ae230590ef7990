#!/usr/bin/env python3
"""Puts ONNX Runtime's shared library into DIR, from the official packages of the Python index.

    get_onnxruntime.py DIR [--with openvino]

With `openvino`, the library that has OpenVINO as an execution provider, and OpenVINO itself beside it. Versions and
hashes are pinned below; pip checks them. Nothing is done when that version is there already.
"""

import argparse
import fnmatch
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import typing
import zipfile


class Package(typing.NamedTuple):
    name: str
    version: str
    # The libraries are the same in the wheels of every Python version; these are the ones of CPython 3.12.
    wheels: dict
    # Which of its files are needed beside the library itself.
    beside: tuple = ()


PACKAGES = {
    "cpu": Package("onnxruntime", "1.31.1", {
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
    }),
    "openvino": Package("onnxruntime-openvino", "1.24.1", {
        ("Linux", "x86_64"): (
            "manylinux_2_28_x86_64",
            "d617fac2f59a6ab5ea59a788c3e1592240a129642519aaeaa774761dfe35150e",
        ),
    }, ("libonnxruntime_providers_*.so", "libopenvino.so.????", "libopenvino_intel_cpu_plugin.so",
        "libopenvino_onnx_frontend.so.????", "libtbb.so.*")),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--with", dest="provider", choices=PACKAGES, default="cpu")
    options = parser.parse_args()
    package, folder = PACKAGES[options.provider], options.folder
    suffix = ".dylib" if platform.system() == "Darwin" else ".so"
    library, stamp = folder / f"libonnxruntime{suffix}", folder / "VERSION"
    if library.exists() and stamp.exists() and stamp.read_text().strip() == package.version:
        return
    machine = platform.system(), platform.machine()
    if machine not in package.wheels:
        sys.exit(f"no {package.name} is pinned for {' '.join(machine)}: "
                 "install ONNX Runtime and name its library in ORT_DYLIB_PATH")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        wheel = download(pathlib.Path(temporary), package, *package.wheels[machine])
        extract(wheel, package, library)
    stamp.write_text(package.version + "\n")
    print(f"{package.name} {package.version} is in {folder}")


def download(folder, package, tag, digest):
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{digest}\n")
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", "3.12", "--abi", "cp312"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command = [*pip, "--require-hashes", "--requirement", requirements, "--dest", folder, "--platform", tag, *target]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(f"pip could not get {package.name} (is pip installed for this python3? on Debian: python3-pip)")
    return next(folder.glob("*.whl"))


def extract(wheel, package, library):
    """Copies each file beside its place and renames it into it, so that a killed run leaves nothing half-written."""
    with zipfile.ZipFile(wheel) as archive:
        names = {pathlib.PurePath(name).name: name for name in archive.namelist()}
        stem = library.name.split(".")[0]
        own = next(name for name in names if name.startswith(stem + ".") and package.version in name)
        beside = {name: name for name in names if any(fnmatch.fnmatch(name, one) for one in package.beside)}
        for name, to in {**beside, own: library.name}.items():
            partial = library.with_name(to + ".partial")
            with archive.open(names[name]) as source, partial.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            partial.chmod(0o755)
            partial.rename(library.with_name(to))


main()
