"""Finds a release's modules for Python's own import machinery, under names that are the release's alone.

Module `blockstore.node` of release 2 is `segue_release_2.blockstore.node` to the machinery, which does
the rest as always: locks between threads, circular imports, taking away what failed half way.

Source: docs/decisions/0011.
"""

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from segue.release import protobuf

#: Packages that a release sees through views, since some of what is in them is the release's own.
VIEWED = frozenset({"google", "importlib", "pkgutil"})

#: The one top package that may be both in a release (`google/rpc/…`) and outside it (`google.protobuf`).
_MERGED = "google"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What one release's modules see.

    Attributes:
        name: the package that the release's modules are under, such as `segue_release_2`.
        tops: the top-level modules and packages of the release.
        builtins: what its code finds as built in, `__import__` of its own among it.
        shared: modules in the release's folder that are everybody's: the finder looks for them outside.
        stand_ins: `{name of a module outside: {attribute: what the release sees in its place}}`.
    """

    name: str
    tops: frozenset[str]
    builtins: dict[str, Any]
    shared: frozenset[str]
    stand_ins: Mapping[str, Mapping[str, Any]]


class ReleaseFinder(MetaPathFinder):
    """Finds what is under one release's name, and nothing else."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._seen = surroundings
        self._prefix = f"{surroundings.name}."

    def __repr__(self) -> str:
        return f"ReleaseFinder({self._seen.name})"

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - Python's signature
    ) -> ModuleSpec | None:
        """Return how to load `fullname`, None if it is not the release's or not there."""
        if not fullname.startswith(self._prefix):
            return None
        plain = fullname[len(self._prefix) :]
        is_shared = any(plain == name or plain.startswith(f"{name}.") for name in self._seen.shared)
        spec = None if is_shared else PathFinder.find_spec(fullname, path)
        if spec is not None:
            return self._own(spec)
        top = plain.partition(".")[0]
        if top in self._seen.tops and top != _MERGED:
            return None
        return self._outside(fullname, plain)

    def _own(self, spec: ModuleSpec) -> ModuleSpec:
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = _CodeLoader(spec.name, spec.loader.path, self._seen, spec.name)
        return spec

    def _outside(self, fullname: str, plain: str) -> ModuleSpec | None:
        try:
            real = importlib.util.find_spec(plain)
        except ModuleNotFoundError:
            return None
        if real is None:
            return None
        is_copied = plain in protobuf.COPIED or protobuf.is_generated(plain)
        if is_copied and isinstance(real.loader, SourceFileLoader):
            loader = _CodeLoader(fullname, real.loader.path, self._seen, plain)
            return importlib.util.spec_from_file_location(
                fullname, real.origin, loader=loader, submodule_search_locations=real.submodule_search_locations
            )
        is_package = real.submodule_search_locations is not None
        if is_package or plain in self._seen.stand_ins:
            return ModuleSpec(fullname, _ViewLoader(plain, self._seen.stand_ins.get(plain, {})), is_package=is_package)
        return ModuleSpec(fullname, _SharedLoader(plain))


class _CodeLoader(SourceFileLoader):
    """Executes a file with the release's own builtins."""

    def __init__(self, fullname: str, path: str, seen: Surroundings, plain: str) -> None:
        super().__init__(fullname, path)
        self._seen = seen
        self._plain = plain

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._seen.builtins
        super().exec_module(module)
        protobuf.finish(self._plain, module)


class _ViewLoader(Loader):
    """Makes a module that shows another, with what is the release's own in its place."""

    def __init__(self, plain: str, stand_ins: Mapping[str, Any]) -> None:
        self._plain = plain
        self._stand_ins = stand_ins

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        real, plain, name = importlib.import_module(self._plain), self._plain, module.__name__

        def show(attribute: str) -> Any:
            value = getattr(real, attribute)
            if isinstance(value, ModuleType) and value.__name__ == f"{plain}.{attribute}":
                return importlib.import_module(f"{name}.{attribute}")  # it may be another view, or a copy
            return value

        module.__dict__.update(self._stand_ins)
        module.__dict__["__getattr__"] = show


class _SharedLoader(Loader):
    """Puts the one module that everybody shares under the release's name for it."""

    def __init__(self, plain: str) -> None:
        self._plain = plain

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        # The machinery takes what stands in sys.modules when this returns, so that a module can replace itself.
        sys.modules[module.__name__] = importlib.import_module(self._plain)


def top_names(folder: Path) -> frozenset[str]:
    """Return the names that `import` finds in a release's folder itself.

    A folder without `__init__.py` counts if there is Python below it: a folder of data hides no package.
    """
    suffixes = tuple(importlib.machinery.all_suffixes())
    names = set()
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name.isidentifier():
            if any(path.name.endswith(suffixes) for path in entry.rglob("*") if "__pycache__" not in path.parts):
                names.add(entry.name)
        elif entry.name.endswith(suffixes):
            names.add(entry.name.partition(".")[0])
    return frozenset(names - {"previous", "__init__"})
