"""The classes that are generated from `proto/`."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MESSAGE_BYTES_MAX = 32 << 20
# A proxy of the environment is not for an address of this machine.
CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.enable_http_proxy", 0),
]


def generate(folder):
    """Writes the classes into a folder, which is then to be on the path of the programs that use them."""
    files = sorted(str(path) for path in (REPOSITORY / "proto").glob("vitrine/v1/*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{REPOSITORY / 'proto'}"]
    subprocess.run([*command, f"--python_out={folder}", f"--grpc_python_out={folder}", *files], check=True)
