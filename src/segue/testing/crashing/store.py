"""The system that is crashed on: a store of values whose every Put is on disk before it is answered.

A value is a file. Version 1 keeps it as it is in `values/KEY`; later ones keep it backwards, behind a line with their
version and how long it is, in `shelves/FIRST LETTER/KEY`. So every file is changed by each transform, in one way only,
and what was put through a simulation cannot be told from what was put before. Messages are bytes, so that no code is
generated and a process is there soon: a Put is `VERSION=KEY=VALUE`, and no object takes one of another version.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from segue.model.ids import ClassName, SystemName, Version
from segue.release.bundle import build

SYSTEM, STORE = SystemName("crashing"), ClassName("Store")

#: What all versions' objects have in common.
_OBJECT = '''
"""Values by key, each in a file of its own."""

import fcntl, os
import grpc


def write(path, content):
    """Have a file on disk whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    sync(path.parent)


def sync(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def add_to(servicer, server):
    methods = {name: grpc.unary_unary_rpc_method_handler(getattr(servicer, name)) for name in ("Put", "Get")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("store.Store", methods),))


class Kept:
    def __init__(self, node):
        self.folder = node.state / self.NAME
        self.held = None

    def register(self, server):
        add_to(self, server)

    async def start(self):
        self.folder.mkdir(exist_ok=True)
        sync(self.folder.parent)
        self.held = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self.held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError("the state is open twice") from None
        for left_by_a_crash in self.folder.rglob("*.partial"):
            left_by_a_crash.unlink()

    async def stop(self):
        os.close(self.held)

    async def Put(self, request, context):
        version, key, value = request.split(b"=", 2)
        assert int(version) == self.VERSION, request
        key = key.decode()
        path = self.path(key)
        if path.parent != self.folder and not path.parent.exists():
            path.parent.mkdir()
            sync(self.folder)
        write(path, self.content(value))
        return b"put"

    async def Get(self, request, context):
        path = self.path(request.decode())
        if not path.exists():
            await context.abort(grpc.StatusCode.NOT_FOUND, request.decode())
        return self.value(path.read_bytes())
'''

_FIRST = '''
"""Version 1: as it is."""

from .kept import Kept


class Store(Kept):
    VERSION, NAME = 1, "values"

    def path(self, key):
        return self.folder / key

    def content(self, value):
        return value

    def value(self, content):
        return content
'''

_LATER = Template('''
"""Version $v: backwards, on shelves."""

from .kept import Kept


class Store(Kept):
    VERSION, NAME = $v, "shelves"

    def path(self, key):
        return self.folder / key[0] / key

    def content(self, value):
        return b"$v %d\\n" % len(value) + value[::-1]

    def value(self, content):
        return content.partition(b"\\n")[2][::-1]
''')

_UPGRADE = Template('''
"""From version $o to version $v, and each as the other."""

import segue

from .kept import add_to


def said(request, had, speaks):
    version, _, rest = request.partition(b"=")
    assert version == had, request
    return speaks + b"=" + rest


class Past(segue.PastSimulation):
    def register(self, server):
        add_to(self, server)

    async def Put(self, request, context):
        return await self.delegate.Put(said(request, b"$o", b"$v"), context)

    async def Get(self, request, context):
        return await self.delegate.Get(request, context)


class Future(segue.FutureSimulation):
    def register(self, server):
        add_to(self, server)

    async def Put(self, request, context):
        return await self.delegate.Put(said(request, b"$v", b"$o"), context)

    async def Get(self, request, context):
        return await self.delegate.Get(request, context)


def transform(old, new, context):
    (new / "shelves").mkdir()
    for path in sorted(path for path in old.rglob("*") if path.is_file()):
        if path.suffix != ".partial":
            shelf = new / "shelves" / path.name[0]
            shelf.mkdir(exist_ok=True)
            (shelf / path.name).write_bytes(changed(path.read_bytes()))
''')

#: What the transform from version 1 does to a value, and what later ones do to what was made of it.
_CHANGED_FIRST = """

def changed(value):
    return b"2 %d\\n" % len(value) + value[::-1]
"""
_CHANGED_LATER = Template("""

def changed(content):
    assert content.startswith(b"$o "), content[:20]
    return b"$v " + content.partition(b" ")[2]
""")

_MANIFEST = '[release]\nsystem = "{system}"\nversion = {version}\n[classes.Store]\nobject = "kept_values.node:Store"\n'
_MANIFEST_UPGRADE = """
[classes.Store.upgrade]
transform = "kept_values.upgrade:transform"
past = "kept_values.upgrade:Past"
future = "kept_values.upgrade:Future"
[classes.Store.upgrade.schedule]
max_unavailable = 1
"""


def write_bundles(folder: Path, newest: Version) -> Mapping[Version, bytes]:
    """Write the releases' folders up to `newest` below `folder`, and return their bundles: `{version: bundle}`."""
    bundles: dict[Version, bytes] = {}
    previous: Path | None = None
    for number in range(1, newest + 1):
        release, numbers = folder / f"store-{number}", {"v": number, "o": number - 1}
        node = _FIRST if number == 1 else _LATER.substitute(numbers)
        files = {"__init__.py": "", "kept.py": _OBJECT, "node.py": node}
        manifest = _MANIFEST.format(system=SYSTEM, version=number)
        if number > 1:
            changed = _CHANGED_FIRST if number == 2 else _CHANGED_LATER.substitute(numbers)
            files["upgrade.py"] = _UPGRADE.substitute(numbers) + changed
            manifest += _MANIFEST_UPGRADE
        (release / "kept_values").mkdir(parents=True)
        for name, text in files.items():
            (release / "kept_values" / name).write_text(text.lstrip())
        (release / "release.toml").write_text(manifest)
        bundles[Version(number)] = build(release, previous=previous)
        previous = release
    return bundles


def files_of(version: Version, values: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files in which an object of `version` keeps these values: `{path: content}`."""
    if version == 1:
        return {f"values/{key}": value for key, value in values.items()}
    return {
        f"shelves/{key[0]}/{key}": b"%d %d\n" % (version, len(value)) + value[::-1] for key, value in values.items()
    }


def first_values(rng: random.Random, count: int = 40) -> Mapping[str, bytes]:
    """Return the values that a node has before it is upgraded."""
    return {
        f"{letter}{index}": rng.randbytes(rng.randrange(2000)) for index in range(count) for letter in "ab"[index % 2]
    }


def tree_of(folder: Path) -> dict[str, bytes | None]:
    """Return what is below `folder`: `{path: content}`, None for folders."""
    found: Sequence[Path] = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}
