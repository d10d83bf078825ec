"""Generates the gRPC code of every example again, beside the .proto files: `make protos`.

`protoc` runs in each release's own folder, so that the generated code imports its neighbours by the
names that they have inside the release (`from blockstore import blockstore_pb2`); for an example
without releases, in the example's folder.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent

#: Examples of the layer alone, which have no releases.
WITHOUT_RELEASES = (EXAMPLES / "reflection",)


def releases() -> Iterator[Path]:
    """Yield the folder of each release of each example, in order of name."""
    for manifest in sorted(EXAMPLES.glob("*/*/release.toml")):
        yield manifest.parent


def generate(release: Path, output: Path) -> None:
    """Write the messages (`_pb2.py`), their types (`_pb2.pyi`) and the services (`_pb2_grpc.py`) of one release.

    Args:
        release: the release's folder, or that of an example without releases.
        output: where the generated files go, in the folders that they have in the release.

    Raises:
        subprocess.CalledProcessError: protoc refused a file; it has said why on stderr.
    """
    protos = sorted(str(proto.relative_to(release)) for proto in release.rglob("*.proto"))
    outputs = [f"--{kind}_out={output}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, *protos], cwd=release, check=True)


if __name__ == "__main__":
    for folder in (*releases(), *WITHOUT_RELEASES):
        generate(folder, folder)
        print(os.path.relpath(folder))
