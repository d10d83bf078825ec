"""What a module of a release is made of: the files that it imports, and that these import, of their own release."""

import sys
from collections.abc import Mapping
from pathlib import Path

from segue.errors import ReleaseError
from segue.model.ids import Version
from segue.release import source
from segue.release.libraries import compiled_modules
from segue.release.requirements import REQUIREMENTS_NAME

#: The name that a release's code has for the release before it.
PREVIOUS = "previous"


class Needed:
    """Gathers what is needed of a release, and what that needs of its own release.

    Args:
        files: the release's, without those of the release before it: `{path: content}`.
        shown: where they are, for errors.
        version: the release's.
        of_previous: what an error says of an import of the release before that release.
    """

    def __init__(self, files: Mapping[str, bytes], shown: Path, version: Version, of_previous: str) -> None:
        #: Paths of what is needed so far.
        self.files: set[str] = set()
        #: `{module that may be of a required library: FILE:LINE of an import of it}`
        self.outside: dict[str, str] = {}
        self._of_previous = of_previous
        self._own = files
        self._shown = shown
        self._version = version
        tops = {file.partition("/")[0].removesuffix(".py") for file in files if file.endswith(".py")}
        self._shared = _compiled(files)  # a compiled library is shared: no release has a copy
        self._tops = tops - self._shared

    def add(self, wanted: source.Import, at: str, prefix: str) -> None:
        """Take in a module, the packages that it is in, and all that they import of their own release.

        Args:
            wanted: the module, by its name in that release.
            at: `FILE:LINE` of the import.
            prefix: what stood before the name there.

        Raises:
            ReleaseError: there is no such module, or one imports the release before its own.
        """
        parts = wanted.module.split(".")
        if prefix and parts[0] == "google" and "google" not in self._tops:
            return  # the release before's own well-known types, which come with protobuf
        for count in range(1, len(parts) + 1):
            module = ".".join(parts[:count])
            file = source.module_file(module, self._own)
            if file is not None:
                self._take(file)
            elif not source.is_namespace(module, self._own):
                if prefix and count == 1 and REQUIREMENTS_NAME in self._own and _may_be_required(wanted.module):
                    self.outside.setdefault(wanted.module, at)  # a library, which only its installer knows
                elif prefix and not self._is_defined(wanted):
                    raise ReleaseError(
                        f"{at}: {prefix}{wanted.module}: version {self._version} in {self._shown} has no such module"
                        f"{'' if wanted.certain else ' or name'}; correct the import"
                    )
                return

    def _is_defined(self, wanted: source.Import) -> bool:
        """Say whether it is a name in a module, where it may be one."""
        module, _, name = wanted.module.rpartition(".")
        file = source.module_file(module, self._own)
        if wanted.certain or file is None:
            return False
        tree = source.parse(self._own[file], f"{self._shown}/{file}")
        return source.definition(tree, name) is not None or "_pb2" in module

    def _take(self, file: str) -> None:
        if file in self.files:
            return
        self.files.add(file)
        shown = f"{self._shown}/{file}"
        tree = source.parse(self._own[file], shown)
        for one in source.imports(tree, *source.name_of(file)):
            top = one.module.partition(".")[0]
            if top == PREVIOUS:
                raise ReleaseError(f"{shown}:{one.line}: imports {one.module}, {self._of_previous}")
            if top in self._tops:
                self.add(one, f"{shown}:{one.line}", "")
            elif top not in self._shared and _may_be_required(one.module):
                self.outside.setdefault(one.module, f"{shown}:{one.line}")


def _may_be_required(module: str) -> bool:
    """Say whether a module that is not of the release may be of a library, rather than Python's or the node's."""
    top = module.partition(".")[0]
    if top == "google":
        return module != top and not f"{module}.".startswith("google.protobuf.")
    return top not in sys.stdlib_module_names | {"segue", "grpc"}


def _compiled(files: Mapping[str, bytes]) -> set[str]:
    """Return the modules of the compiled libraries in a release."""
    found: set[str] = set()
    for file, content in files.items():
        if file.count("/") == 1 and file.endswith(".dist-info/RECORD"):
            lines = content.decode(errors="replace").splitlines()
            found |= compiled_modules(line.partition(",")[0] for line in lines)
    return found
