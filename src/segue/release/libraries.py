"""Compiled libraries that a release ships: shared by all that is in the process, and there only once.

A library is what its installer left metadata of (`NAME-VERSION.dist-info`), as `pip install --target` does.
One of pure Python is private to its release, as all of the release is. One with extension modules cannot
be there twice: its C code keeps one state for the process. So it is loaded under its own name for
everybody, from the node's own packages, or else from the first release that brings it; a release that
brings another version is refused before any of its code runs. Extension modules without metadata are the
release's own code, and private.

Source: docs/decisions/0011.
"""

import importlib.util
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from segue.errors import ReleaseError
from segue.model.ids import Version
from segue.release.requirements import normal_name

#: The folder in a release's folder where its requirements are installed. Hidden, so that a bundle holds none such.
INSTALLED = ".requirements"

_COMPILED = (".so", ".pyd")
#: Packages that several distributions are in: what one of them brings is told by one name more.
_NAMESPACES = frozenset({"google"})
#: `{file that is there if a release has a copy: module}`
_OURS = {"segue/__init__.py": "segue", "grpc/__init__.py": "grpc", "google/protobuf/__init__.py": "google.protobuf"}

_sharing = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """One compiled library, as a release ships it.

    Attributes:
        name: the name of its distribution in the normal form, such as `numpy`.
        version: the version that its metadata says.
        modules: the packages and modules that it consists of, such as `numpy` or `google.protobuf`.
        folder: the folder that these are in.
    """

    name: str
    version: str
    modules: frozenset[str]
    folder: Path


class SharedLibraries(MetaPathFinder):
    """Finds the compiled libraries that releases brought, under their own names; after all else that finds."""

    def __init__(self) -> None:
        #: `{name of a distribution: the library, and the release that brought it}`
        self._brought: dict[str, tuple[Library, Version]] = {}

    def __repr__(self) -> str:
        return f"SharedLibraries({', '.join(sorted(self._brought))})"

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - Python's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return how to load `fullname`, None if it is not at the top of such a library."""
        for library, _ in self._brought.values():
            if fullname in library.modules:
                return PathFinder.find_spec(fullname, [str(library.folder.joinpath(*fullname.split(".")[:-1]))])
        return None

    def find_distributions(self, context: metadata.DistributionFinder.Context) -> Iterator[metadata.Distribution]:
        """Yield the metadata of these libraries for whoever does not say where to look, as their own code does."""
        for library, _ in self._brought.values():
            if "path" not in vars(context) and (context.name is None or normal_name(context.name) == library.name):
                there = metadata.DistributionFinder.Context(name=library.name, path=[str(library.folder)])
                yield from metadata.MetadataPathFinder.find_distributions(there)

    def share(self, libraries: Sequence[Library], version: Version) -> frozenset[str]:
        """Have these libraries of a release in the process, for all that is in it: all of them or none.

        Returns:
            The names of their modules, which the release has to look for outside itself.

        Raises:
            ReleaseError: the process has one of them in another version.
        """
        with _sharing:
            new = [library for library in libraries if self._is_new(library, version)]
            self._brought |= {library.name: (library, version) for library in new}
            if new and self not in sys.meta_path:
                sys.meta_path.append(self)
        return frozenset(module for library in libraries for module in library.modules)

    def _is_new(self, library: Library, version: Version) -> bool:
        if library.name in self._brought:
            other, brought_by = self._brought[library.name]
            _refuse_clash(library, version, other.version, f"release {brought_by} in this process has")
            return False
        installed = _installed(library)
        if installed is not None:
            _refuse_clash(library, version, installed, "this node has")
        return installed is None


def _installed(library: Library) -> str | None:
    """Return the version of a library among the node's own packages, None if it is not there."""
    try:
        return metadata.version(library.name)
    except metadata.PackageNotFoundError:
        # One module alone, such as `tests`, may be of anybody.
        return "without metadata" if all(map(_is_found, library.modules)) else None


def _is_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


#: The one of this process: a compiled library is never unloaded.
SHARED = SharedLibraries()


def places(folder: Path) -> tuple[Path, ...]:
    """Return where a release's modules are, in the order of search.

    Args:
        folder: the release's folder: first what is in it, then what is installed of its requirements.
    """
    installed = folder / INSTALLED
    return (folder, installed) if installed.is_dir() else (folder,)


def compiled_libraries(places: Sequence[Path], version: Version) -> list[Library]:
    """Return the compiled libraries in a release's places; of two of one name, the first.

    Raises:
        ReleaseError: one of them is compiled for another Python or another kind of machine; or a place has
            a copy of what every release shares with Segue.
    """
    found: dict[str, Library] = {}
    for place in places:
        for library in _compiled_in(place, version):
            found.setdefault(library.name, library)
    return [found[name] for name in sorted(found)]


def _compiled_in(folder: Path, version: Version) -> list[Library]:
    found = []
    for distribution in metadata.distributions(path=[str(folder)]):
        files = [str(file) for file in distribution.files or ()]
        modules = compiled_modules(files)
        if not modules or distribution.read_text("METADATA") is None:
            continue
        name = normal_name(distribution.metadata["Name"])
        if not any(file.endswith(tuple(EXTENSION_SUFFIXES)) for file in files):
            raise ReleaseError(
                f"{folder}: release {version} ships {name} {distribution.version}, compiled for another Python "
                f"than this one (*{EXTENSION_SUFFIXES[0]}); ship it for the Python that the node has"
            )
        found.append(Library(name=name, version=distribution.version, modules=modules, folder=folder))
    _refuse_copies(folder, version, frozenset(module for library in found for module in library.modules))
    return found


def compiled_modules(files: Iterable[str]) -> frozenset[str]:
    """Return the packages and modules that a library with these files consists of, none if it is pure Python.

    Args:
        files: their paths, as the library's RECORD lists them.
    """
    found = {file: module for file in files if (module := _module(file)) is not None}
    return frozenset(found.values()) if any(file.endswith(_COMPILED) for file in found) else frozenset()


def _refuse_copies(folder: Path, version: Version, shared: frozenset[str]) -> None:
    """Refuse a second Segue, gRPC or protobuf, whose classes nobody else in the process would know."""
    for file, module in _OURS.items():
        if (folder / file).exists() and module not in shared:
            raise ReleaseError(
                f"{folder / file}: release {version} ships {module}, which all releases share with Segue; leave it out"
            )


def _module(file: str) -> str | None:
    """Return the package or module of its library that a file is in, None if it cannot be imported."""
    parts = file.split("/")
    if not file.endswith((".py", *_COMPILED)):
        return None
    depth = 2 if parts[0] in _NAMESPACES else 1
    names = [part.partition(".")[0] if place == len(parts) - 1 else part for place, part in enumerate(parts)][:depth]
    return ".".join(names) if all(name.isidentifier() for name in names) else None


def _refuse_clash(library: Library, version: Version, other: str, whose: str) -> None:
    if other != library.version:
        raise ReleaseError(
            f"release {version} ships {library.name} {library.version}, but {whose} {library.name} {other}: "
            f"a compiled library is shared by all releases in a process; ship that one, or none"
        )
