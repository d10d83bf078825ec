"""The rule: a library of pure Python is private to the release that ships it, a compiled one is there once for all."""

import importlib
import importlib.util
import itertools
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from segue.errors import ReleaseError
from segue.release.bundle import build, unpack
from segue.release.modules import LoadedRelease

Write = Callable[[str, Mapping[str, str]], Path]
Load = Callable[..., LoadedRelease]

_numbers = itertools.count()

USER = "import {0}\nfrom {0} import part\nVERSION, COUNT = {0}.VERSION, part.COUNT"


def library(name: str, version: str, *, compiled: bool = False, suffix: str = EXTENSION_SUFFIXES[0]) -> dict[str, str]:
    """Return the files that `pip install --target` leaves of a small library."""
    files = {
        f"{name}/__init__.py": f"from {name} import part\nVERSION = {version!r}",
        f"{name}/part.py": "COUNT = []",
    }
    if compiled:
        files[f"{name}/_fast{suffix}"] = ""
    info = f"{name}-{version}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD", "../../bin/tool"])
    return files


@pytest.fixture
def name() -> str:
    """Returns a library's name that this process never had: a compiled library is there for good."""
    return f"lib{next(_numbers)}"


@pytest.fixture
def ship(write: Write, name: str) -> Callable[..., Path]:
    """Writes a release that ships the library in a version, and has `kv.node` that uses it."""

    def ship(folder: str, version: str | None, code: str = USER, **options: object) -> Path:
        files = library(name, version, **options) if version is not None else {}  # type: ignore[arg-type]
        return write(folder, {**files, "kv/__init__.py": "", "kv/node.py": code.format(name)})

    return ship


def test_two_releases_have_each_their_version_of_a_pure_python_library(
    ship: Callable[..., Path], load: Load, name: str
) -> None:
    first = load(ship("one", "1.0"), 1)
    second = load(ship("two", "2.0"), 2, first)
    one, two = first.load("kv.node"), second.load("kv.node")
    assert (one.VERSION, two.VERSION) == ("1.0", "2.0")
    one.COUNT.append(1)
    assert two.COUNT == []
    assert name not in sys.modules


def test_a_pure_python_library_is_private_even_where_the_node_has_it(
    ship: Callable[..., Path], load: Load, write: Write, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(write("site", library(name, "0.1"))))
    assert load(ship("one", "1.0")).load("kv.node").VERSION == "1.0"
    assert importlib.import_module(name).VERSION == "0.1"
    del sys.modules[name], sys.modules[f"{name}.part"]


def test_a_release_sees_the_metadata_of_what_it_ships(ship: Callable[..., Path], load: Load) -> None:
    code = """
from importlib import metadata
import importlib.metadata
VERSION = metadata.version({0!r})
BY_PACKAGE = metadata.version(__package__.partition(".")[0] + "." + {0!r})
FILES = len(importlib.metadata.files({0!r}))
NAME = metadata.metadata({0!r})["Name"]
OUTSIDE = metadata.version("grpcio")
try:
    metadata.version("nope-nowhere")
except importlib.metadata.PackageNotFoundError as error:
    MISSING = error.name
"""
    first = load(ship("one", "1.0", code), 1)
    second = load(ship("two", "2.0", code), 2)
    one, two = first.load("kv.node"), second.load("kv.node")
    assert (one.VERSION, two.VERSION) == ("1.0", "2.0")
    assert (one.BY_PACKAGE, one.FILES, one.MISSING) == ("1.0", 5, "nope-nowhere")
    assert importlib.metadata.version("grpcio") == one.OUTSIDE


def test_a_compiled_library_of_one_version_is_shared(ship: Callable[..., Path], load: Load, name: str) -> None:
    first = load(ship("one", "1.0", compiled=True), 1)
    second = load(ship("two", "1.0", compiled=True), 2, first)
    one, two = first.load("kv.node"), second.load("kv.node")
    assert one.COUNT is two.COUNT
    assert sys.modules[name].__file__ == str(first.folder / name / "__init__.py")


def test_a_release_that_ships_none_finds_what_another_brought(ship: Callable[..., Path], load: Load) -> None:
    first = load(ship("one", "1.0", compiled=True), 1)
    assert load(ship("two", None), 2, first).load("kv.node").VERSION == "1.0"


def test_a_compiled_library_in_two_versions_is_refused(ship: Callable[..., Path], load: Load, name: str) -> None:
    first = load(ship("one", "1.0", compiled=True), 1)
    with pytest.raises(ReleaseError) as caught:
        load(ship("two", "2.0", compiled=True), 2, first)
    assert str(caught.value) == (
        f"release 2 ships {name} 2.0, but release 1 in this process has {name} 1.0: a compiled library is shared by "
        f"all releases in a process; ship that one, or none"
    )
    assert first.load("kv.node").VERSION == "1.0"


def test_a_refused_release_leaves_nothing_behind(
    ship: Callable[..., Path], load: Load, write: Write, name: str
) -> None:
    """Neither its modules nor the other libraries that it ships."""
    first = load(ship("one", "1.0", compiled=True), 1)
    finders, modules = list(sys.meta_path), set(sys.modules)
    other = f"a{name}"  # comes before the one that clashes
    write("two", library(other, "1.0", compiled=True))
    with pytest.raises(ReleaseError, match=rf"ships {name} 2\.0"):
        load(ship("two", "2.0", compiled=True), 2, first)
    assert sys.meta_path == finders
    assert set(sys.modules) == modules
    assert importlib.util.find_spec(other) is None


def test_the_nodes_own_compiled_library_is_the_one(
    ship: Callable[..., Path], load: Load, write: Write, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = write("site", library(name, "1.0", compiled=True))
    monkeypatch.syspath_prepend(str(site))
    load(ship("one", "1.0", compiled=True)).load("kv.node")
    assert sys.modules[name].__file__ == str(site / name / "__init__.py")
    with pytest.raises(ReleaseError, match=rf"release 2 ships {name} 2\.0, but this node has {name} 1\.0: "):
        load(ship("two", "2.0", compiled=True), 2)


def test_a_library_of_which_the_node_cannot_tell_the_version_is_refused(
    ship: Callable[..., Path], load: Load, write: Write, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(write("site", {f"{name}.py": ""})))
    with pytest.raises(ReleaseError, match=rf"but this node has {name} without metadata: "):
        load(ship("one", "1.0", compiled=True))


def test_a_library_for_another_python_is_refused(ship: Callable[..., Path], load: Load, name: str) -> None:
    folder = ship("one", "1.0", compiled=True, suffix=".cpython-27-none.pyd")
    with pytest.raises(ReleaseError, match=rf"release 1 ships {name} 1\.0, compiled for another Python than this one"):
        load(folder)


def test_an_extension_module_of_a_shared_library_works(ship: Callable[..., Path], load: Load, name: str) -> None:
    folder = ship("one", "1.0", f"from {name} import part, _queue\nVALUE = _queue.SimpleQueue", compiled=True)
    copy_extension(folder / name)
    second = ship("two", "1.0", f"import {name}._queue as q\nVALUE = q.SimpleQueue", compiled=True)
    copy_extension(second / name)
    one, two = load(folder, 1).load("kv.node"), load(second, 2).load("kv.node")
    assert one.VALUE is two.VALUE


def test_the_releases_own_extension_modules_are_private(write: Write, load: Load) -> None:
    """They come without the metadata of a library, in a package that every release has."""
    found = []
    for number in (1, 2):
        folder = write(f"release{number}", {"kv/__init__.py": "", "kv/node.py": "from kv._queue import SimpleQueue"})
        copy_extension(folder / "kv")
        found.append(load(folder, number).load("kv.node").SimpleQueue)
    assert found[0] is not found[1]
    assert "kv" not in sys.modules


def copy_extension(into: Path) -> None:
    """Copy a small extension module that Python comes with."""
    spec = importlib.util.find_spec("_queue")
    if spec is None or spec.origin is None or not spec.origin.endswith(tuple(EXTENSION_SUFFIXES)):
        pytest.skip("this Python has _queue built in")
    shutil.copy(spec.origin, into)


@pytest.mark.parametrize("module", ["segue", "grpc", "google/protobuf"])
def test_a_copy_of_what_all_share_is_refused(module: str, write: Write, load: Load) -> None:
    """Its classes would be others than those that Segue knows."""
    with pytest.raises(ReleaseError, match=rf"ships {module.replace('/', '.')}, which all releases share with Segue"):
        load(write("release", {f"{module}/__init__.py": ""}))


@pytest.mark.parametrize(("distribution", "package"), [("grpcio", "grpc"), ("protobuf", "google/protobuf")])
def test_a_release_may_ship_the_grpc_and_protobuf_that_the_node_has(
    distribution: str, package: str, write: Write, load: Load
) -> None:
    """As installers put them there for what depends on them; in another version they are refused."""
    version = importlib.metadata.version(distribution)
    code = "import grpc\nfrom google.protobuf import message, timestamp_pb2\nfrom google.own import HERE"
    for number, shipped in enumerate((version, "0.1"), 1):
        compiled = f"{package}/_fast{EXTENSION_SUFFIXES[0]}"
        files = {f"{package}/__init__.py": "raise AssertionError('a copy')", compiled: ""}
        record = "".join(f"{file},,\n" for file in files)
        info = f"{distribution}-{shipped}.dist-info"
        meta = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {shipped}\n"
        own = {"kv/node.py": code, "google/own.py": "HERE = 1"}
        folder = write(f"release{number}", {**files, **own, f"{info}/METADATA": meta, f"{info}/RECORD": record})
        if shipped == version:
            node = load(folder, number).load("kv.node")
            assert node.grpc is sys.modules["grpc"]
            assert node.message is sys.modules["google.protobuf.message"]
        else:
            with pytest.raises(ReleaseError, match=f"but this node has {distribution} {version}"):
                load(folder, number)


def test_a_bundle_takes_no_compiled_library_of_the_release_before(
    ship: Callable[..., Path],
    load: Load,
    write: Write,
    manifest: Callable[[int], str],
    name: str,
    tmp_path: Path,
) -> None:
    """What it imports of that release finds the library that the process has; a pure one goes along."""
    use = f"import {name}, pure{name} as pure\nVERSION = {name}.VERSION\nclass Node: ..."
    one = ship("one", "1.0", use, compiled=True)
    write("one", {**library(f"pure{name}", "1.0"), "release.toml": manifest(1)})
    upgrade = f"from previous.kv import node\nimport {name}\ndef transform(): ...\nclass Past: ...\nclass Future: ..."
    two = ship("two", "1.0", "class Node: ...", compiled=True)
    write("two", {"release.toml": manifest(2), "kv/upgrade.py": upgrade})
    unpack(build(two, previous=one), tmp_path / "there")
    assert not (tmp_path / "there/previous" / name).exists()
    module = load(tmp_path / "there", 2).load("kv.upgrade")
    assert module.node.VERSION == "1.0"
    assert module.node.pure.VERSION == "1.0"
    assert getattr(module, name) is sys.modules[name]
