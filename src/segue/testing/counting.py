"""A system of any number of versions, with all four kinds of calls, and callers that tell a wrong answer.

It keeps a sum by name. A message is text that begins with its version, and no object takes one of another version:
so a reply that is right came through every simulation between the caller's version and the node's. A sum that is
right says that each call was done once. There is no generated code, so that a process is there soon.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from string import Template
from typing import Any, TypeAlias

import grpc.aio

from segue.model.ids import ClassName, SystemName

SYSTEM, COUNTER = SystemName("counting"), ClassName("Counter")

_NODE = Template('''
"""Sums by name, in version $v's words."""

import json

import grpc

KINDS = {
    "Add": grpc.unary_unary_rpc_method_handler,
    "AddAll": grpc.stream_unary_rpc_method_handler,
    "Count": grpc.unary_stream_rpc_method_handler,
    "AddEach": grpc.stream_stream_rpc_method_handler,
}


def add_to(servicer, server):
    methods = {name: kind(getattr(servicer, name)) for name, kind in KINDS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("counting.Counter", methods),))


def parts(message):
    version, *rest = message.split()
    assert version == b"$v", message
    return rest


class Counter:
    def __init__(self, node):
        self.path = node.state / "sums.json"
        self.sums = {}

    def register(self, server):
        add_to(self, server)

    async def start(self):
        if self.path.exists():
            self.sums = json.loads(self.path.read_text())

    async def stop(self):
        self.path.write_text(json.dumps(self.sums))

    def add(self, message):
        name, amount = parts(message)
        self.sums[name.decode()] = self.sums.get(name.decode(), 0) + int(amount)
        return b"$v %d" % self.sums[name.decode()]

    async def Add(self, request, context):
        return self.add(request)

    async def AddAll(self, requests, context):
        async for request in requests:
            reply = self.add(request)
        return reply

    async def Count(self, request, context):
        for number in range(int(parts(request)[0])):
            yield b"$v %d" % number

    async def AddEach(self, requests, context):
        async for request in requests:
            yield self.add(request)
''')

_UPGRADE = Template('''
"""From version $o to version $v, and each as the other."""

import shutil

import segue

from .node import add_to


def said(message, had, speaks):
    version, *rest = message.split()
    assert version == had, message
    return b" ".join((speaks, *rest))


async def each(messages, had, speaks):
    async for message in messages:
        yield said(message, had, speaks)


class Spoken:
    """One version's words in another's."""

    def register(self, server):
        add_to(self, server)

    async def Add(self, request, context):
        return self.back(await self.delegate.Add(self.onward(request), context))

    async def AddAll(self, requests, context):
        return self.back(await self.delegate.AddAll(each(requests, self.OWN, self.THEIRS), context))

    async def Count(self, request, context):
        async for reply in self.delegate.Count(self.onward(request), context):
            yield self.back(reply)

    async def AddEach(self, requests, context):
        async for reply in self.delegate.AddEach(each(requests, self.OWN, self.THEIRS), context):
            yield self.back(reply)

    def onward(self, message):
        return said(message, self.OWN, self.THEIRS)

    def back(self, message):
        return said(message, self.THEIRS, self.OWN)


class Past(Spoken, segue.PastSimulation):
    OWN, THEIRS = b"$o", b"$v"


class Future(Spoken, segue.FutureSimulation):
    OWN, THEIRS = b"$v", b"$o"


def transform(old, new, context):
    shutil.copy(old / "sums.json", new / "sums.json")
''')

_MANIFEST = Template("""
[release]
system = "$system"
version = $v
[classes.Counter]
object = "counting.node:Counter"
""")
_MANIFEST_UPGRADE = """[classes.Counter.upgrade]
transform = "counting.upgrade:transform"
past = "counting.upgrade:Past"
future = "counting.upgrade:Future"
[classes.Counter.upgrade.schedule]
max_unavailable = 1
"""


def write_counting(folder: Path, versions: int) -> Sequence[Path]:
    """Write the folders of the system's releases, and return them, version 1 first."""
    releases = []
    for version in range(1, versions + 1):
        release = folder / f"counting-{version}"
        (release / "counting").mkdir(parents=True)
        numbers = {"v": version, "o": version - 1, "system": SYSTEM}
        manifest = _MANIFEST.substitute(numbers)
        files = {"__init__.py": "", "node.py": _NODE.substitute(numbers)}
        if version > 1:
            manifest += _MANIFEST_UPGRADE
            files["upgrade.py"] = _UPGRADE.substitute(numbers)
        (release / "release.toml").write_text(manifest)
        for name, text in files.items():
            (release / "counting" / name).write_text(text)
        releases.append(release)
    return releases


class CountingCaller:
    """Calls in one version, on one channel, and checks what it is answered.

    Every method makes one call, without a second try, and raises AssertionError for a wrong answer.

    Args:
        version: the version that it speaks.
        channel: labelled with that version; whoever opened it closes it.
        name: nobody else adds to it.
        timeout_s: a call's deadline.
    """

    def __init__(self, version: int, channel: grpc.aio.Channel, name: str, *, timeout_s: float) -> None:
        self._version = version
        self._channel: Any = channel
        self._name = name
        self._timeout_s = timeout_s
        self._sum = 0

    @property
    def kinds(self) -> Sequence["Kind"]:
        """The four kinds of calls."""
        return self.add, self.add_all, self.count, self.add_each

    async def add(self, amount: int) -> None:
        """Make a call of one request and one reply."""
        call = self._channel.unary_unary("/counting.Counter/Add")
        self._check(await call(self._request(amount), timeout=self._timeout_s), amount)

    async def add_all(self, amount: int) -> None:
        """Make a call of several requests and one reply."""
        call = self._channel.stream_unary("/counting.Counter/AddAll")
        self._check(await call(self._requests(amount), timeout=self._timeout_s), 3 * amount)

    async def count(self, amount: int) -> None:
        """Make a call of one request and several replies."""
        call = self._channel.unary_stream("/counting.Counter/Count")
        replies = [reply async for reply in call(b"%d %d" % (self._version, amount), timeout=self._timeout_s)]
        assert replies == [b"%d %d" % (self._version, number) for number in range(amount)], replies

    async def add_each(self, amount: int) -> None:
        """Make a call of several requests and as many replies."""
        call = self._channel.stream_stream("/counting.Counter/AddEach")
        async for reply in call(self._requests(amount), timeout=self._timeout_s):
            self._check(reply, amount)

    def _request(self, amount: int) -> bytes:
        return b"%d %s %d" % (self._version, self._name.encode(), amount)

    async def _requests(self, amount: int) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield self._request(amount)

    def _check(self, reply: bytes, added: int) -> None:
        self._sum += added
        assert reply == b"%d %d" % (self._version, self._sum), f"{reply!r} for a sum of {self._sum}"


#: A call of one kind: takes how much to add, or how many replies to have.
Kind: TypeAlias = Callable[[int], Any]
