"""Tiny releases, made on the spot."""

import importlib
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from segue.model.ids import Version
from segue.release.modules import LoadedRelease

Write = Callable[[str, Mapping[str, str]], Path]
Load = Callable[..., LoadedRelease]

_UPGRADE = """
[classes.Node.upgrade]
transform = "kv.upgrade:transform"
past = "kv.upgrade:Past"
future = "kv.upgrade:Future"
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files into a folder of this name: `{path: text}`, the text dedented."""

    def write(name: str, files: Mapping[str, str]) -> Path:
        folder = tmp_path / name
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(textwrap.dedent(text))
        return folder

    return write


@pytest.fixture
def load() -> Iterator[Load]:
    """Loads releases, and forgets them when the test is over."""
    loaded: list[LoadedRelease] = []

    def load(folder: Path, version: int = 1, previous: LoadedRelease | None = None) -> LoadedRelease:
        loaded.append(LoadedRelease(folder, Version(version), previous))
        return loaded[-1]

    yield load
    for release in loaded:
        release.unload()


@pytest.fixture
def manifest() -> Callable[[int], str]:
    """Returns the text of a manifest of this version, of the system `kv` with the class `Node`."""

    def manifest(version: int, system: str = "kv") -> str:
        text = f'[release]\nsystem = "{system}"\nversion = {version}\n[classes.Node]\nobject = "kv.node:Node"\n'
        return text if version == 1 else text + _UPGRADE

    return manifest


@pytest.fixture
def compile_protos() -> Callable[[Path], None]:
    """Runs protobuf's compiler and gRPC's plugin on every .proto below a folder."""

    protoc = importlib.import_module("grpc_tools.protoc")  # it has no types, so no import statement

    def compile_protos(folder: Path) -> None:
        protos = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.proto"))]
        well_known = str(Path(protoc.__file__ or "").parent / "_proto")
        options = [f"-I{folder}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
        assert protoc.main(["protoc", *options, *protos]) == 0

    return compile_protos
