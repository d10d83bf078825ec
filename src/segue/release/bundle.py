"""A release as bytes: made from its author's folder, and back to a folder on a node.

Source: docs/decisions/0002.
"""

import ast
import hashlib
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from segue.errors import OperatorError, ReleaseError
from segue.model.ids import ContentHash
from segue.release import archive, source
from segue.release.durable import sync_path, sync_tree
from segue.release.manifest import MANIFEST_NAME, Manifest, parse_manifest, read_manifest
from segue.release.needed import PREVIOUS, Needed
from segue.release.requirements import REQUIREMENTS_NAME, WHEELS, check_requirements, parse_requirements


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
            compile, or cannot be in a bundle; `requirements.txt` is no lock, or names a wheel in `wheels/` by no
            hash; `previous` is missing, is not the release before this one, has no module that this release
            imports of it, or has a class that this one leaves out; or a class without an upgrade is not what it
            was in `previous`.
    """
    manifest = read_manifest(folder)
    files = _collect(folder)
    for file in files:
        if file.partition("/")[0] in (PREVIOUS, f"{PREVIOUS}.py"):
            raise ReleaseError(f"{folder / file}: the name previous is the release before this one; rename it")
    trees = _parse(files, f"{folder}/")
    _check_references(manifest, folder, trees)
    check_requirements(files, folder)
    files |= _embed(manifest, files, trees, folder, previous)
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
    manifest: Manifest,
    files: Mapping[str, bytes],
    trees: Mapping[str, ast.Module],
    folder: Path,
    previous: Path | None,
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
    before, older = _read_previous(previous, manifest)
    _check_classes(manifest, before, _Pair(folder, files, previous, older))
    of_previous = "of two releases back: import of previous only what does without it"
    needed = Needed(older, previous, before.version, of_previous)
    for file, wanted in source.previous_imports(trees):
        needed.add(wanted, f"{folder / file}:{wanted.line}", f"{PREVIOUS}.")
    required = _required(files, older) if needed.outside else {}
    return {f"{PREVIOUS}/{file}": content for file, content in {**_only(older, needed.files), **required}.items()}


def _only(files: Mapping[str, bytes], wanted: Collection[str]) -> dict[str, bytes]:
    return {file: content for file, content in files.items() if file in wanted}


def _required(files: Mapping[str, bytes], older: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the lock of the release before and its wheels, except those that this release has as well."""
    if REQUIREMENTS_NAME not in older:
        return {}
    wheels = {file: content for file, content in older.items() if file.startswith(f"{WHEELS}/")}
    new = {file: content for file, content in wheels.items() if files.get(file) != content}
    return {REQUIREMENTS_NAME: older[REQUIREMENTS_NAME], **new}


def _read_previous(previous: Path, manifest: Manifest) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest and the own files of the release before."""
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
    return found, {file: content for file, content in files.items() if not file.startswith(f"{PREVIOUS}/")}


@dataclass(frozen=True, slots=True)
class _Pair:
    """A release and the one before it: where each is, and `{file: content}`."""

    folder: Path
    files: Mapping[str, bytes]
    previous: Path
    older: Mapping[str, bytes]


def _check_classes(manifest: Manifest, before: Manifest, pair: _Pair) -> None:
    """Make sure that each class leads on from the release before it, or is new."""
    at = pair.folder / MANIFEST_NAME
    for name in before.classes:
        if name not in manifest.classes:
            raise ReleaseError(
                f"{at}: has no class {name}, which version {before.version} has: list it, without an upgrade if this "
                "release does not touch it"
            )
    for name, described in manifest.classes.items():
        if name not in before.classes:
            if described.upgrade is not None:
                raise ReleaseError(
                    f"{at}: classes.{name}.upgrade: version {before.version} has no class {name}, so there is nothing "
                    "to upgrade from: correct the name, or remove the table"
                )
        elif described.upgrade is None:
            _check_untouched(name, manifest, before, pair)


def _check_untouched(name: str, manifest: Manifest, before: Manifest, pair: _Pair) -> None:
    """Make sure that a class without an upgrade is the same code in both releases."""
    at = pair.folder / MANIFEST_NAME
    now, then = manifest.classes[name].object, before.classes[name].object
    what_now = f"give {name} an upgrade"
    if now != then:
        raise ReleaseError(
            f"{at}: classes.{name}.object = {now!r}, which was {then!r} in version {before.version}: {what_now}"
        )
    of_previous = f"which is another release in each version: {what_now}"
    module = source.Import(module=now.partition(":")[0], line=1, certain=True)
    ours = Needed(pair.files, pair.folder, manifest.version, of_previous)
    ours.add(module, str(at), "")
    theirs = Needed(pair.older, pair.previous, before.version, of_previous)
    theirs.add(module, str(pair.previous / MANIFEST_NAME), "")
    for file in sorted(ours.files | theirs.files):
        if file not in ours.files or file not in theirs.files or pair.files[file] != pair.older[file]:
            raise ReleaseError(
                f"{pair.folder / file}: is not what it was in version {before.version}, and class {name}, which has no "
                f"upgrade in version {manifest.version}, is made of it: {what_now}, or leave the file as it was"
            )
    _check_same_libraries(name, manifest, ours.outside, pair)


def _check_same_libraries(name: str, manifest: Manifest, outside: Mapping[str, str], pair: _Pair) -> None:
    """Make sure that an untouched class, if it imports libraries, requires what it did in the release before."""
    now, then = (
        {str(one): one for one in parse_requirements(files.get(REQUIREMENTS_NAME, b""), str(shown / REQUIREMENTS_NAME))}
        for files, shown in ((pair.files, pair.folder), (pair.older, pair.previous))
    )
    changed = min(now.keys() ^ then.keys(), default=None)
    if outside and changed is not None:
        module, at = min(outside.items())
        where = f":{now[changed].line}" if changed in now else ""
        raise ReleaseError(
            f"{pair.folder / REQUIREMENTS_NAME}{where}: {changed} is {'new' if changed in now else 'gone'} in version "
            f"{manifest.version}, and class {name}, which has no upgrade there, imports {module} ({at}), which may be "
            f"of it: give {name} an upgrade, or leave the requirements as they were"
        )
