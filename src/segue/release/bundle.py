"""A release as bytes: made from its author's folder, and back to a folder on a node.

Source: docs/decisions/0002.
"""

import ast
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from segue.errors import OperatorError, ReleaseError
from segue.model.ids import ContentHash
from segue.release import archive, source
from segue.release.durable import sync_path, sync_tree
from segue.release.libraries import compiled_modules
from segue.release.manifest import MANIFEST_NAME, Manifest, parse_manifest, read_manifest

_PREVIOUS = "previous"


def build(folder: Path, *, previous: Path | None = None) -> bytes:
    """Return the bundle of the release in `folder`: same files, same bytes, on every machine.

    Files count by their paths and contents alone. Left out are hidden files, `__pycache__` and `*.pyc`.
    Nothing of the release is run.

    Args:
        folder: the author's folder, with `release.toml`.
        previous: the release before it, as a folder or as a bundle; for all versions but 1. What the
            release imports as `previous.NAME` is put into the bundle with all that it needs of its own
            release, so that the bundle is complete on a node that never ran the older release.

    Raises:
        ReleaseError: the manifest is wrong; a name in it is not defined in the release; a file does not
            compile, or cannot be in a bundle; `previous` is missing, is not the release before this one,
            has other classes, or has no module that this release imports of it.
    """
    manifest = read_manifest(folder)
    files = _collect(folder)
    for file in files:
        if file.partition("/")[0] in (_PREVIOUS, f"{_PREVIOUS}.py"):
            raise ReleaseError(f"{folder / file}: the name previous is the release before this one; rename it")
    trees = _parse(files, f"{folder}/")
    _check_references(manifest, folder, trees)
    files |= _embed(manifest, trees, folder, previous)
    return archive.pack(files)


def content_hash(bundle: bytes) -> ContentHash:
    """Return the bundle's SHA-256, which is its address."""
    return ContentHash(hashlib.sha256(bundle).hexdigest())


def manifest_of(bundle: bytes) -> Manifest:
    """Return the manifest in a bundle; nothing is written, nothing is run.

    Raises:
        ReleaseError: these bytes are no bundle, or its manifest is missing or wrong.
    """
    return _manifest_in(archive.read(bundle), "the bundle")


def unpack(bundle: bytes, into: Path) -> None:
    """Have the bundle's files in the folder `into`, all of them or none, and on disk.

    Safe to run again after a crash: what an earlier attempt left beside `into` is removed.

    Args:
        bundle: what `build` returned.
        into: a folder that does not exist; the one above it does.

    Raises:
        ReleaseError: these bytes are no bundle, or hold what a bundle may not.
        OperatorError: `into` is there already.
        OSError: the machine cannot write there.
    """
    files = archive.read(bundle)
    if os.path.lexists(into):
        raise OperatorError(f"{into} exists already: remove it, or unpack the bundle elsewhere")
    partial = into.with_name(f".{into.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        for path, content in files.items():
            target = partial / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        sync_tree(partial)
        partial.rename(into)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_path(into.parent)


def _collect(folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    waiting = [folder]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if path.name.startswith(".") or path.name == "__pycache__" or path.name.endswith(".pyc"):
                continue
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise ReleaseError(f"{path}: a bundle holds plain files and folders, no links or devices; replace it")
            if path.is_dir():
                waiting.append(path)
                continue
            try:
                files[path.relative_to(folder).as_posix()] = path.read_bytes()
            except OSError as error:
                raise ReleaseError(f"{path}: cannot be read: {error.strerror}; make it readable") from error
    return files


def _parse(files: Mapping[str, bytes], prefix: str) -> dict[str, ast.Module]:
    """Return `{file: syntax tree}` of all Python there; in errors a file's name begins with `prefix`."""
    return {file: source.parse(content, f"{prefix}{file}") for file, content in files.items() if file.endswith(".py")}


def _manifest_in(files: Mapping[str, bytes], where: str) -> Manifest:
    if MANIFEST_NAME not in files:
        raise ReleaseError(f"{where} has no {MANIFEST_NAME}; make it with `segue build`")
    try:
        text = files[MANIFEST_NAME].decode()
    except UnicodeDecodeError as error:
        raise ReleaseError(f"{where}: {MANIFEST_NAME} is not UTF-8 text: {error}") from error
    return parse_manifest(text, source=f"{MANIFEST_NAME} of {where}")


def _check_references(manifest: Manifest, folder: Path, trees: Mapping[str, ast.Module]) -> None:
    for key, reference in manifest.references().items():
        module, _, name = reference.partition(":")
        where = f"{folder / MANIFEST_NAME}: {key} = {reference!r}"
        file = source.module_file(module, trees)
        if file is None:
            expected = module.replace(".", "/")
            raise ReleaseError(f"{where}: expected {expected}.py in {folder}, which is not there")
        found = source.definition(trees[file], name)
        if found is None:
            raise ReleaseError(f"{where}: expected {name} to be defined at the top level of {folder / file}")
        if key.endswith(".transform") and isinstance(found, ast.AsyncFunctionDef):
            raise ReleaseError(f"{folder / file}:{found.lineno}: a transform is a plain function: write def, not async")


def _embed(
    manifest: Manifest, trees: Mapping[str, ast.Module], folder: Path, previous: Path | None
) -> dict[str, bytes]:
    """Return what goes under `previous/` in the bundle: `{path: content}`."""
    if manifest.version == 1:
        if previous is not None:
            raise ReleaseError(f"{folder / MANIFEST_NAME}: version 1 has no release before it; leave {previous} out")
        for file, wanted in source.previous_imports(trees):
            raise ReleaseError(f"{folder / file}:{wanted.line}: version 1 has no previous to import from")
        return {}
    if previous is None:
        raise ReleaseError(
            f"{folder / MANIFEST_NAME}: version {manifest.version} is built with version {manifest.version - 1} "
            f"at hand: give its folder or bundle (segue build {folder} --previous ...)"
        )
    older = _read_previous(previous, manifest)
    needed = _Needed(older, previous, manifest)
    for file, wanted in source.previous_imports(trees):
        needed.add(wanted, f"{folder / file}:{wanted.line}", f"{_PREVIOUS}.")
    return {f"{_PREVIOUS}/{file}": older[file] for file in needed.files}


def _read_previous(previous: Path, manifest: Manifest) -> dict[str, bytes]:
    if previous.is_dir():
        found, files = read_manifest(previous), _collect(previous)
    else:
        try:
            files = archive.read(previous.read_bytes(), source=str(previous))
        except OSError as error:
            raise ReleaseError(f"{previous}: no release can be read there: {error.strerror}") from error
        found = _manifest_in(files, str(previous))
    if (found.system, found.version) != (manifest.system, manifest.version - 1):
        raise ReleaseError(
            f"{previous}: expected version {manifest.version - 1} of {manifest.system}, "
            f"found version {found.version} of {found.system}; give the release right before this one"
        )
    if set(found.classes) != set(manifest.classes):
        raise ReleaseError(
            f"{manifest.system} {manifest.version} has the classes {', '.join(sorted(manifest.classes))}, but version "
            f"{found.version} has {', '.join(sorted(found.classes))}: give each an upgrade under its name; "
            "a class that comes or goes with a release is not supported yet"
        )
    return {file: content for file, content in files.items() if not file.startswith(f"{_PREVIOUS}/")}


class _Needed:
    """Gathers what is needed of the release before, and what that needs of its own release."""

    def __init__(self, files: Mapping[str, bytes], shown: Path, manifest: Manifest) -> None:
        self.files: set[str] = set()
        self._older = files
        self._shown = shown
        self._version = manifest.version - 1
        tops = {file.partition("/")[0].removesuffix(".py") for file in files if file.endswith(".py")}
        self._tops = tops - _compiled(files)  # a compiled library is shared: no release has a copy

    def add(self, wanted: source.Import, at: str, prefix: str) -> None:
        """Take in a module, the packages that it is in, and all that they import of their own release.

        Args:
            wanted: the module, by its name in the older release.
            at: `FILE:LINE` of the import.
            prefix: what stood before the name there.
        """
        parts = wanted.module.split(".")
        if prefix and parts[0] == "google" and "google" not in self._tops:
            return  # the release before's own well-known types, which come with protobuf
        for count in range(1, len(parts) + 1):
            module = ".".join(parts[:count])
            file = source.module_file(module, self._older)
            if file is not None:
                self._take(file)
            elif not source.is_namespace(module, self._older):
                if prefix and not self._is_defined(wanted):
                    raise ReleaseError(
                        f"{at}: {prefix}{wanted.module}: version {self._version} in {self._shown} has no such module"
                        f"{'' if wanted.certain else ' or name'}; correct the import"
                    )
                return

    def _is_defined(self, wanted: source.Import) -> bool:
        """Say whether it is a name in a module, where it may be one."""
        module, _, name = wanted.module.rpartition(".")
        file = source.module_file(module, self._older)
        if wanted.certain or file is None:
            return False
        tree = source.parse(self._older[file], f"{self._shown}/{file}")
        return source.definition(tree, name) is not None or "_pb2" in module

    def _take(self, file: str) -> None:
        if file in self.files:
            return
        self.files.add(file)
        shown = f"{self._shown}/{file}"
        tree = source.parse(self._older[file], shown)
        for one in source.imports(tree, *source.name_of(file)):
            top = one.module.partition(".")[0]
            if top == _PREVIOUS:
                raise ReleaseError(
                    f"{shown}:{one.line}: imports {one.module}, of two releases back: import of previous only what "
                    f"does without it"
                )
            if top in self._tops:
                self.add(one, f"{shown}:{one.line}", "")


def _compiled(files: Mapping[str, bytes]) -> set[str]:
    """Return the modules of the compiled libraries in a release."""
    found: set[str] = set()
    for file, content in files.items():
        if file.count("/") == 1 and file.endswith(".dist-info/RECORD"):
            lines = content.decode(errors="replace").splitlines()
            found |= compiled_modules(line.partition(",")[0] for line in lines)
    return found
