"""A small system of any number of versions: its releases' folders, and callers that know what is right.

It keeps amounts by name. Version k counts in k-ths: what its callers add and read is k times what is meant, and
its messages' fields have names and numbers of that version's own. So a reply that is right came through every
simulation between the caller's version and the node's, once each.

`Trace` is answered by each object for itself: what was added through it. A simulation keeps that in its folder,
and the transform hands it from the future simulation to the past one.

Needs grpcio-tools.
"""

import asyncio
import importlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import ModuleType
from typing import Any

import grpc.aio

from segue.layer.grpc_channel import labelled_channel
from segue.model.ids import Version
from segue.release.modules import LoadedRelease

_PROTO = Template("""
syntax = "proto3";
package tally;

message AddRequest { string name$v = $v; int64 amount$v = $next; }
message AddReply { int64 total$v = $v; }
message ReadRequest { string name$v = $next; }
message ReadReply { int64 total$v = $next; }
message TraceRequest {}
message TraceReply { int64 answering$v = $v; repeated string names$v = $next; }

service Tally {
  rpc Add(AddRequest) returns (AddReply);
  rpc Read(ReadRequest) returns (ReadReply);
  rpc Trace(TraceRequest) returns (TraceReply);
}
""")

_NODE = Template('''
"""Amounts by name, counted in $v-ths."""

import json

from . import tally_pb2, tally_pb2_grpc


class Tally(tally_pb2_grpc.TallyServicer):
    def __init__(self, node):
        self.path = node.state / "totals.json"
        self.totals = {}

    def register(self, server):
        tally_pb2_grpc.add_TallyServicer_to_server(self, server)

    async def start(self):
        if self.path.exists():
            self.totals = json.loads(self.path.read_text())

    async def Add(self, request, context):
        self.totals[request.name$v] = self.totals.get(request.name$v, 0) + request.amount$v
        self.path.write_text(json.dumps(self.totals))
        return tally_pb2.AddReply(total$v=self.totals[request.name$v])

    async def Read(self, request, context):
        return tally_pb2.ReadReply(total$v=self.totals.get(request.name$v, 0))

    async def Trace(self, request, context):
        return tally_pb2.TraceReply(answering$v=$v)
''')

_UPGRADE = Template('''
"""From $o-ths to $v-ths, and each as the other."""

import json
import shutil

import segue
from previous.tally import tally_pb2 as older
from previous.tally import tally_pb2_grpc as older_grpc

from . import tally_pb2 as newer
from . import tally_pb2_grpc as newer_grpc


def exactly(amount, had, wanted):
    assert amount % had == 0, f"{amount} does not count in {had}-ths"
    return amount // had * wanted


class Traced:
    def note(self, name):
        with (self.state / "trace").open("a") as file:
            file.write(name + "\\n")

    def trace(self):
        path = self.state / "trace"
        return path.read_text().split() if path.exists() else []


class Past(Traced, segue.PastSimulation, older_grpc.TallyServicer):
    def register(self, server):
        older_grpc.add_TallyServicer_to_server(self, server)

    async def Add(self, request, context):
        self.note(request.name$o)
        amount = exactly(request.amount$o, $o, $v)
        reply = await self.delegate.Add(newer.AddRequest(name$v=request.name$o, amount$v=amount), context)
        return older.AddReply(total$o=exactly(reply.total$v, $v, $o))

    async def Read(self, request, context):
        reply = await self.delegate.Read(newer.ReadRequest(name$v=request.name$o), context)
        return older.ReadReply(total$o=exactly(reply.total$v, $v, $o))

    async def Trace(self, request, context):
        return older.TraceReply(answering$o=$o, names$o=self.trace())


class Future(Traced, segue.FutureSimulation, newer_grpc.TallyServicer):
    def register(self, server):
        newer_grpc.add_TallyServicer_to_server(self, server)

    async def Add(self, request, context):
        self.note(request.name$v)
        amount = exactly(request.amount$v, $v, $o)
        reply = await self.delegate.Add(older.AddRequest(name$o=request.name$v, amount$o=amount), context)
        return newer.AddReply(total$v=exactly(reply.total$o, $o, $v))

    async def Read(self, request, context):
        reply = await self.delegate.Read(older.ReadRequest(name$o=request.name$v), context)
        return newer.ReadReply(total$v=exactly(reply.total$o, $o, $v))

    async def Trace(self, request, context):
        return newer.TraceReply(answering$v=$v, names$v=self.trace())


def transform(old, new, context):
    path = old / "totals.json"
    totals = json.loads(path.read_text()) if path.exists() else {}
    (new / "totals.json").write_text(json.dumps({name: exactly(had, $o, $v) for name, had in totals.items()}))
    if context.simulation and (context.simulation / "trace").exists():
        shutil.copy(context.simulation / "trace", context.past / "trace")
''')


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The releases of one system.

    Attributes:
        folders: of its releases, version 1 first.
        touching: the versions that touch the class `Tally`; the others leave it as it was.
    """

    folders: Sequence[Path]
    touching: Sequence[int]

    def code_of(self, version: int) -> int:
        """Return the release whose type `version` speaks."""
        return max(touched for touched in self.touching if touched <= version)


def write_lineage(
    folder: Path, versions: int, *, untouched: Collection[int] = (), schedule: str = "max_unavailable = 1"
) -> Lineage:
    """Write the folders of a system's releases.

    Args:
        folder: where they go.
        versions: how many there are.
        untouched: those that leave the class `Tally` as it was, not 1.
        schedule: lines of TOML, of each upgrade.
    """
    touching = [version for version in range(1, versions + 1) if version not in untouched]
    lineage = Lineage(folders=[folder / f"tally-{version}" for version in range(1, versions + 1)], touching=touching)
    for version, release in enumerate(lineage.folders, start=1):
        code = lineage.code_of(version)
        manifest = f'[release]\nsystem = "tally"\nversion = {version}\n[classes.Tally]\nobject = "tally.node:Tally"\n'
        files = {"tally/__init__.py": Template(""), "tally/tally.proto": _PROTO, "tally/node.py": _NODE}
        if version == code > 1:
            manifest += "[classes.Tally.upgrade]\n" + "".join(
                f'{key} = "tally.upgrade:{name}"\n'
                for key, name in (("transform", "transform"), ("past", "Past"), ("future", "Future"))
            )
            manifest += f"[classes.Tally.upgrade.schedule]\n{schedule}\n"
            files["tally/upgrade.py"] = _UPGRADE
        numbers = {"v": code, "next": code + 1, "o": lineage.code_of(max(code - 1, 1))}
        for name, text in files.items():
            path = release / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.substitute(numbers).lstrip())
        (release / "release.toml").write_text(manifest)
        _compile(release)
    return lineage


def _compile(release: Path) -> None:
    protoc = importlib.import_module("grpc_tools.protoc")  # it has no types, so no import statement
    outputs = [f"--python_out={release}", f"--grpc_python_out={release}"]
    status = protoc.main(["protoc", f"-I{release}", *outputs, "tally/tally.proto"])
    assert status == 0, f"protoc failed with status {status}"


class TallyCaller:
    """A plain client of one version, on one channel: no retries.

    Args:
        version: the version that it speaks.
        lineage: the system's.
        messages: the module of that version's messages.
        channel: labelled with that version; whoever opened it closes it.
    """

    def __init__(self, version: int, lineage: Lineage, messages: ModuleType, channel: grpc.aio.Channel) -> None:
        self.version = version
        self._code = lineage.code_of(version)
        self._messages: Any = messages
        self._channel = channel

    async def add(self, name: str, units: int) -> float:
        """Add whole units to a name, and return the sum in units; a number that is not whole is a wrong answer."""
        request = {f"name{self._code}": name, f"amount{self._code}": units * self._code}
        return await self._call("Add", request) / self._code

    async def read(self, name: str) -> float:
        """Return the sum in units."""
        return await self._call("Read", {f"name{self._code}": name}) / self._code

    async def trace(self) -> tuple[int, list[str]]:
        """Return whose type answers, and the names that were added to through the simulation that answers."""
        reply = await self._invoke("Trace", {})
        return getattr(reply, f"answering{self._code}"), list(getattr(reply, f"names{self._code}"))

    async def _call(self, method: str, fields: dict[str, object]) -> int:
        total: int = getattr(await self._invoke(method, fields), f"total{self._code}")
        return total

    async def _invoke(self, method: str, fields: dict[str, object]) -> Any:
        call: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = self._channel.unary_unary(
            f"/tally.Tally/{method}",
            request_serializer=getattr(self._messages, f"{method}Request").SerializeToString,
            response_deserializer=getattr(self._messages, f"{method}Reply").FromString,
        )
        return await call(getattr(self._messages, f"{method}Request")(**fields))


class Adding:
    """Adds one after the other to a name of its own, on one connection; nothing is tried twice.

    Args:
        caller: by which it calls.
        name: what it adds to, which nobody else does.
    """

    def __init__(self, caller: TallyCaller, name: str) -> None:
        #: `{how a call ended: how many did}`
        self.outcomes: Counter[str] = Counter()
        self.stopped = False
        self._caller = caller
        self._name = name

    async def run(self) -> None:
        """Add one, and hear the sum of all that was added, until told to stop."""
        while not self.stopped:
            try:
                total = await self._caller.add(self._name, 1)
                self.outcomes["OK" if total == self.outcomes["OK"] + 1 else f"{total} is wrong"] += 1
            except grpc.aio.AioRpcError as error:
                self.outcomes[f"{error.code().name}: {error.details()}"] += 1
            await asyncio.sleep(0.1)


@contextmanager
def tally_callers(
    lineage: Lineage, options: Sequence[tuple[str, Any]] = ()
) -> Iterator[Callable[[int, str], AbstractAsyncContextManager[TallyCaller]]]:
    """Give what opens a caller of a version to an address, for the time of the context.

    Args:
        lineage: the system's.
        options: gRPC's channel options, of each caller.
    """
    loaded = {code: LoadedRelease(lineage.folders[code - 1], Version(code)) for code in lineage.touching}

    @asynccontextmanager
    async def call(version: int, address: str) -> AsyncIterator[TallyCaller]:
        messages = loaded[lineage.code_of(version)].load("tally.tally_pb2")
        own = (*options, ("grpc.use_local_subchannel_pool", 1))
        async with labelled_channel(address, version=version, options=own) as channel:
            yield TallyCaller(version, lineage, messages, channel)

    try:
        yield call
    finally:
        for release in loaded.values():
            release.unload()
