"""The rule: what is installed of a release's requirements is to its code as if the release shipped it."""

import importlib
import importlib.metadata
import itertools
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from segue.errors import ReleaseError
from segue.model.ids import Version
from segue.release.modules import LoadedRelease
from segue.testing.wheels import make_wheel, unzip

Write = Callable[[str, Mapping[str, str]], Path]
Load = Callable[..., LoadedRelease]

_numbers = itertools.count()


def install(folder: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """Put a library where a release's requirements are installed, and return the release's folder."""
    unzip(make_wheel(name, version, files), folder / ".requirements")
    return folder


@pytest.fixture
def name() -> str:
    """Returns a library's name that this process never had: a compiled library is there for good."""
    return f"req{next(_numbers)}"


def test_two_releases_require_two_versions_of_a_library(write: Write, load: Load, name: str) -> None:
    files = {"kv/__init__.py": "", "kv/node.py": f"import {name}\nfrom {name} import part\nV = {name}.VERSION"}
    loaded: list[LoadedRelease] = []
    for number in (1, 2):
        library = {f"{name}/__init__.py": f"VERSION = {number}", f"{name}/part.py": f"import {name}\nCOUNT = []"}
        folder = install(write(f"release{number}", files), name, f"{number}.0", library)
        loaded.append(load(folder, number, *loaded))
    one, two = (release.load("kv.node") for release in loaded)
    assert (one.V, two.V) == (1, 2)
    assert one.part.COUNT is not two.part.COUNT
    assert name not in sys.modules


def test_previous_has_its_own_version(write: Write, load: Load, name: str) -> None:
    """Loaded or brought along, and of the library itself too."""
    code = f"import {name}\nfrom previous import {name} as before\nfrom previous.kv import node\n"
    two = write("two", {"kv/upgrade.py": code, "kv/__init__.py": "", "previous/kv/node.py": f"import {name} as lib"})
    install(two, name, "2.0", {f"{name}.py": "VERSION = 2"})
    install(two / "previous", name, "1.0", {f"{name}.py": "VERSION = 1"})
    one = install(write("one", {"kv/node.py": f"import {name} as lib"}), name, "1.0", {f"{name}.py": "VERSION = 1"})
    for previous in (None, load(one, 1)):
        upgrade = load(two, 2, previous).load("kv.upgrade")
        assert (getattr(upgrade, name).VERSION, upgrade.before.VERSION, upgrade.node.lib.VERSION) == (2, 1, 1)


def test_the_releases_own_code_is_found_first(write: Write, load: Load, name: str) -> None:
    folder = write("release", {"kv.py": f"import {name}\nVALUE = {name}.VALUE", f"{name}.py": "VALUE = 'own'"})
    assert load(install(folder, name, "1.0", {f"{name}.py": "VALUE = 'required'"})).load("kv").VALUE == "own"


def test_a_namespace_may_be_in_both(write: Write, load: Load, name: str) -> None:
    folder = write("release", {"kv.py": f"from {name} import a, b", f"{name}/a.py": ""})
    assert load(install(folder, name, "1.0", {f"{name}/b.py": "VALUE = 1"})).load("kv").b.VALUE == 1


def test_generated_code_of_a_library_joins_the_namespace_of_google(write: Write, load: Load, name: str) -> None:
    folder = write("release", {"kv.py": "from google.protobuf import any_pb2\nfrom google.here import VALUE"})
    assert load(install(folder, name, "1.0", {"google/here.py": "VALUE = 1"})).load("kv").VALUE == 1


def test_a_compiled_library_is_there_once(write: Write, load: Load, name: str) -> None:
    files = {f"{name}/__init__.py": "COUNT = []", f"{name}/_fast{EXTENSION_SUFFIXES[0]}": ""}
    use = {"kv.py": f"import {name}, importlib.metadata\nV = importlib.metadata.version({name!r})"}
    one = load(install(write("one", use), name, "1.0", files), 1)
    two = load(install(write("two", use), name, "1.0", files), 2, one)
    assert one.load("kv").V == two.load("kv").V == "1.0"
    assert getattr(one.load("kv"), name) is getattr(two.load("kv"), name) is sys.modules[name]
    assert importlib.metadata.version(name) == "1.0"  # as its own code asks, which is everybody's
    three = install(write("three", use), name, "2.0", files)
    with pytest.raises(ReleaseError, match=rf"release 3 ships {name} 2\.0, but release 1 in this process has"):
        load(three, 3)


LIBRARY = {
    "{0}/__init__.py": """
import importlib.metadata, importlib.resources, importlib.util, pkgutil
from importlib import resources
from importlib.metadata import version, entry_points, distributions

VERSION = version("{0}")
FILE = resources.files("{0}").joinpath("data.txt").read_text()
BY_MODULE = importlib.resources.files(__name__).joinpath("data.txt").read_text()
BY_FILE = __import__("pathlib").Path(__file__).with_name("data.txt").read_text()
BYTES = pkgutil.get_data("{0}", "data.txt")
WITHIN = pkgutil.get_data(__name__, "data.txt")
IS_THERE = importlib.util.find_spec("{0}.plugin") is not None
IS_OUTSIDE = importlib.util.find_spec("json") is not None
IS_NOWHERE = importlib.util.find_spec("nope_nowhere") is not None
(POINT,) = entry_points(group="{0}.plugins")
PLUGIN = POINT.load()
OF = POINT.dist.version
NAMES = [one.metadata["Name"] for one in distributions()]
MODULES = [one.name for one in pkgutil.iter_modules(__path__)]
""",
    "{0}/plugin.py": "class Plugin: ...",
    "{0}/data.txt": "version {1}",
    "{0}-{1}.dist-info/entry_points.txt": "[{0}.plugins]\nfirst = {0}.plugin:Plugin\n",
}


def test_a_library_finds_what_is_its_own_by_its_name(write: Write, load: Load, name: str) -> None:
    """Its version, its data files, its plug-ins; while the process has another version, or none."""
    for number in (1, 2):
        version = f"{number}.0"
        files = {path.format(name, version): text.replace("{0}", name) for path, text in LIBRARY.items()}
        files[f"{name}/data.txt"] = f"version {version}"
        folder = install(write(f"release{number}", {"kv.py": f"import {name} as lib"}), name, version, files)
        release = load(folder, number)
        lib = release.load("kv").lib
        assert lib.VERSION == lib.OF == version
        assert lib.FILE == lib.BY_MODULE == lib.BY_FILE == f"version {version}"
        assert lib.BYTES == lib.WITHIN == f"version {version}".encode()
        assert (lib.IS_THERE, lib.IS_OUTSIDE, lib.IS_NOWHERE) == (True, True, False)
        assert lib.PLUGIN is release.load(f"{name}.plugin").Plugin
        assert {name, "grpcio"} <= set(lib.NAMES)
        assert lib.MODULES == ["plugin"]
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version(name)
    assert name not in sys.modules


def test_what_is_not_installed_is_looked_for_outside(write: Write, load: Load) -> None:
    """An author's folder may be tried with the libraries of the author's own environment."""
    release = load(write("release", {"kv.py": "import rich", "requirements.txt": "rich==1.0"}), Version(1))
    assert release.load("kv").rich is importlib.import_module("rich")
