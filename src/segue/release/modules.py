"""A release's code in this process, beside other releases of the same names.

Each release's modules are under a package name of their own, and see their own world: what lies in the
release's folder is private to the release, `previous.NAME` is NAME in the release before, generated
protobuf code and the well-known types are the release's own, and the rest (`segue`, grpc, numpy) is shared,
as is a compiled library that a release ships. What is installed of a release's requirements is searched after
its own code, and treated as if the release shipped it.
Nothing else stands in `sys.modules` under the name that its author gave it.

An author meets the package name in one place: `__name__`, a class's `__module__` and thereby the names of
loggers begin with `segue_release_2.`. It is a true entry of `sys.modules`, since dataclasses, pickle,
typing.get_type_hints, inspect and others look up a class's module there.
"""

import builtins
import importlib
import importlib.util
import re
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool

from segue.errors import ReleaseError, is_passing
from segue.model.ids import Version
from segue.release import libraries, lookups, protobuf
from segue.release.finder import VIEWED, ReleaseFinder, Surroundings, top_names

_PREVIOUS = "previous"
_PACKAGE = "segue_release_"
_REFERENCE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)
_naming = threading.Lock()


class LoadedRelease:
    """One release, ready to be imported from.

    Args:
        folder: the release's unpacked bundle, or its author's folder.
        version: the release's version.
        previous: the release before it, if that is loaded in this process: then both share its message
            classes. Else `previous.NAME` is looked for in the folder `previous` of the release itself.

    Raises:
        ReleaseError: there is no such folder; or the release ships a compiled library that the process has
            in another version, or that this Python cannot load.
    """

    def __init__(self, folder: Path, version: Version, previous: "LoadedRelease | None" = None) -> None:
        if not folder.is_dir():
            raise ReleaseError(f"release {version}: there is no folder {folder}; unpack its bundle there first")
        self.folder = folder.resolve()
        self.version = version
        #: Where its modules are, in the order of search: its own folder, then what is installed of its requirements.
        self._places = libraries.places(self.folder)
        shared = libraries.SHARED.share(libraries.compiled_libraries(self._places, version), version)
        self.pool = DescriptorPool()
        self._embedded: LoadedRelease | None = None
        if previous is None and version > 1 and (self.folder / _PREVIOUS).is_dir():
            previous = self._embedded = LoadedRelease(self.folder / _PREVIOUS, Version(version - 1))
        self.previous = previous
        self._tops = frozenset(name for place in self._places for name in top_names(place)) - shared
        self.name = _claim(version, self._places)
        importlib.invalidate_caches()  # the folder may be younger than what Python remembers of it
        self._finder = ReleaseFinder(
            Surroundings(
                name=self.name,
                tops=self._tops,
                shared=shared,
                builtins={**vars(builtins), "__import__": self._import},
                stand_ins={
                    **protobuf.stand_ins(self.pool),
                    **lookups.stand_ins(self._places, self.name, self._name_of, self._import_module),
                    "importlib": {"import_module": self._import_module, "__import__": self._import},
                },
            )
        )
        sys.meta_path.insert(0, self._finder)

    def __repr__(self) -> str:
        return f"LoadedRelease({str(self.folder)!r}, {self.version}, previous={self.previous!r})"

    def load(self, module_name: str) -> ModuleType:
        """Import a module of this release.

        Args:
            module_name: as the release's own code would import it, such as `blockstore.node`.

        Raises:
            ReleaseError: there is no such module in the release, or its import fails; then the message
                names the file and line of the release where it failed, and `__cause__` is the failure.
            OSError, MemoryError: the machine cannot, for a while (`errors.is_passing`).
        """
        if module_name.partition(".")[0] not in self._tops | {_PREVIOUS}:
            raise ReleaseError(self._no_module(module_name))
        try:
            return importlib.import_module(self._target(module_name))
        except (Exception, SystemExit) as error:
            self._take_back_name(error)
            if is_passing(error):
                raise
            if isinstance(error, ModuleNotFoundError) and self.where(error) is None:
                raise ReleaseError(self._no_module(module_name)) from error
            raise ReleaseError(
                f"{self.where(error) or self.folder}: {self.describe(error)} "
                f"(while importing {module_name} of release {self.version}); correct the release's code"
            ) from error

    def resolve(self, reference: str) -> Any:
        """Return what a name in the release's manifest stands for.

        Args:
            reference: `MODULE:NAME`, such as `blockstore.node:BlockNode`.

        Raises:
            ReleaseError: it is not of that form, the module does not import, or it has no such name.
        """
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise ReleaseError(
                f"release {self.version}: {reference!r} is not MODULE:NAME, such as blockstore.node:Node"
            )
        module = self.load(match[1])
        try:
            return getattr(module, match[2])
        except AttributeError as error:
            raise ReleaseError(
                f"{getattr(module, '__file__', None) or self.folder}: module {match[1]} of release {self.version} "
                f"has no {match[2]}; define it there, or correct {reference!r} in release.toml"
            ) from error

    def describe(self, error: BaseException) -> str:
        """Say what kind of failure `error` is, in one line and with the names that the author knows."""
        text = str(error).replace(f"{self.name}.", "")
        if self.previous is not None:
            text = text.replace(f"{self.previous.name}.", f"{_PREVIOUS}.")
        return f"{type(error).__name__}: {' '.join(text.split())}".removesuffix(": ")

    def where(self, error: BaseException) -> str | None:
        """Return `FILE:LINE` of this release's code, or the previous one's, in which `error` was raised.

        Returns:
            The innermost such line; None if the release's code was not running.
        """
        folders = [str(release.folder) for release in (self, self.previous) if release is not None]

        def is_ours(file: str | None) -> bool:
            return file is not None and any(file.startswith(f"{folder}/") for folder in folders)

        if isinstance(error, SyntaxError) and is_ours(error.filename):
            return f"{error.filename}:{error.lineno}"
        lines = [
            f"{frame.f_code.co_filename}:{line}"
            for frame, line in traceback.walk_tb(error.__traceback__)
            if is_ours(frame.f_code.co_filename)
        ]
        return lines[-1] if lines else None

    def unload(self) -> None:
        """Forget the release's modules; what still refers to them goes on working, late imports excepted.

        Safe to call again.
        """
        if self._finder not in sys.meta_path:
            return
        sys.meta_path.remove(self._finder)
        for name in [name for name in sys.modules if name == self.name or name.startswith(f"{self.name}.")]:
            del sys.modules[name]
        if self._embedded is not None:
            self._embedded.unload()

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the names of __import__
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Do what `__import__` does, as the release's code sees the world."""
        if level:
            _stay_below_top((globals or {}).get("__package__") or "", level)
        target = name if level else self._target(name, fromlist or ())
        try:
            module = builtins.__import__(target, globals, locals, fromlist or (), level)
        except ModuleNotFoundError as error:
            self._take_back_name(error)
            raise
        if fromlist or target == name:
            return module
        top = name.partition(".")[0]  # `import a.b.c` binds a
        return sys.modules[self._target(top) if top == _PREVIOUS else f"{self.name}.{top}"]

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        """Do what `importlib.import_module` does, as the release's code sees the world."""
        absolute = importlib.util.resolve_name(name, package)
        try:
            return importlib.import_module(self._target(absolute))
        except ModuleNotFoundError as error:
            self._take_back_name(error)
            raise

    def _target(self, name: str, fromlist: Sequence[str] = ()) -> str:
        """Return the name in `sys.modules` of what the release's code calls `name`."""
        top, _, rest = name.partition(".")
        if top == _PREVIOUS:
            if self.previous is None:
                raise ModuleNotFoundError(
                    f"No module named {name!r}: release {self.version} came without the release before it", name=name
                )
            return f"{self.previous.name}.{rest}" if rest else self.previous.name
        if top.startswith(_PACKAGE):  # made of a module's own __name__ or __package__
            return name
        if top in self._tops or top in VIEWED or any(map(protobuf.is_generated, (name, *fromlist))):
            return f"{self.name}.{name}"
        return name

    def _name_of(self, name: str) -> str:
        """Return the name in `sys.modules` of what the release's code names in a string; `name` if that is nothing."""
        try:
            return self._target(name)
        except ModuleNotFoundError:
            return name

    def _take_back_name(self, error: BaseException) -> None:
        """Make a failed import speak of the name that the author wrote, as `except` clauses compare it."""
        if not isinstance(error, ModuleNotFoundError) or error.name is None:
            return
        release: LoadedRelease | None = self
        written = ""
        while release is not None:
            if error.name.startswith(f"{release.name}."):
                plain = written + error.name.removeprefix(f"{release.name}.")
                error.msg = str(error.msg).replace(error.name, plain).replace(f"{release.name}.", written)
                error.name = plain
                return
            release, written = release.previous, f"{written}{_PREVIOUS}."

    def _no_module(self, module_name: str) -> str:
        path = module_name.replace(".", "/")
        return (
            f"{self.folder}: release {self.version} has no module {module_name}: "
            f"add {path}.py or {path}/__init__.py, or correct the name in release.toml"
        )


def _claim(version: Version, places: Sequence[Path]) -> str:
    """Take a package name for a release, and return it.

    The first release of a version in a process has the plain name, so that what its code pickled can be
    read in a later process, also by the release that calls it `previous`.
    """
    with _naming:
        name, number = f"{_PACKAGE}{version}", 1
        while name in sys.modules:
            number += 1
            name = f"{_PACKAGE}{version}_again_{number}"
        root = ModuleType(name, f"All modules of release {version}.")
        root.__spec__ = ModuleSpec(name, None, is_package=True)
        root.__path__ = root.__spec__.submodule_search_locations = [str(place) for place in places]
        root.__package__ = name
        sys.modules[name] = root
    return name


def _stay_below_top(package: str, level: int) -> None:
    """Refuse `from .. import x` where it would leave the author's top package, as Python does."""
    depth = package.count(".")  # the release's own package name is one component more than the author knows
    if depth == 0:
        raise ImportError("attempted relative import with no known parent package")
    if level > depth:
        raise ImportError("attempted relative import beyond top-level package")
