"""A worker does what lines of JSON say, counts every call before it answers, and ends with its input."""

import asyncio
import copy
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from segue.demo.blocks import BLOCK_BYTES, RandomBlock, block_at, block_count, cut
from segue.demo.counted import CountedClient
from segue.demo.worker import Setup, Worker
from segue.model.ids import Version

Line = dict[str, Any]


class FakeClient:
    """A block store in a dictionary; `broken` keys come back changed, and `down` fails every call."""

    private_ends = "UNAVAILABLE"

    def __init__(self, blocks: dict[str, bytes] | None = None) -> None:
        self.blocks = {} if blocks is None else blocks
        self.broken: set[str] = set()
        self.down = False
        self.gets = 0

    async def put(self, data: bytes) -> str:
        await self._answer()
        self.blocks[self.key_of(data)] = data
        return self.key_of(data)

    async def get(self, key: str) -> bytes:
        await self._answer()
        self.gets += 1
        return self.blocks[key] + (b"!" if key in self.broken else b"")

    def key_of(self, data: bytes) -> str:
        return hashlib.sha1(data).hexdigest()

    async def close(self) -> None: ...

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.down:
            empty = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, details="nobody is there")


class FakePrivateClient(FakeClient):
    """One that also has private blocks, each for the users that were named, of all clients that are made of it."""

    private_ends = "PERMISSION_DENIED"

    def __init__(self) -> None:
        super().__init__()
        self.user = ""
        self.readers: dict[str, set[str]] = {}

    def as_user(self, user: str) -> "FakePrivateClient":
        other = copy.copy(self)
        other.user = user
        return other

    async def put_private(self, data: bytes, readers: Sequence[str]) -> str:
        self.readers[self.key_of(data)] = {self.user, *readers}
        return await self.put(data)

    async def get(self, key: str) -> bytes:
        if self.user not in self.readers.get(key, {self.user}):
            empty = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.PERMISSION_DENIED, empty, empty, details="not for you")
        return await super().get(key)


class Told:
    """The worker's two ends: what it is told, and what it has said."""

    def __init__(self) -> None:
        self.lines = asyncio.StreamReader()
        self.said: list[Line] = []
        self._news = asyncio.Event()

    def send(self, line: Mapping[str, Any]) -> None:
        self.said.append(json.loads(json.dumps(line)))
        self._news.set()

    async def until(self, condition: Callable[[Line], object]) -> Line:
        seen = 0
        while True:
            for line in self.said[seen:]:
                if condition(line):
                    return line
            seen = len(self.said)
            self._news.clear()
            await self._news.wait()

    async def ask(self, **command: Any) -> Line:
        self.lines.feed_data(json.dumps(command).encode() + b"\n")
        return await self.until(lambda line: line.get("id") == command["id"] and "done" in line)

    def total(self, count: str) -> int:
        return sum(line["tally"][count] for line in self.said if "tally" in line)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.txt").write_bytes(b"small")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "large.bin").write_bytes(bytes(range(256)) * 5000)
    return tmp_path


FILES = ["small.txt", "empty.txt", "large.bin"]

Working = Callable[[FakeClient], Any]


@pytest.fixture
def working(folder: Path) -> Working:
    @asynccontextmanager
    async def work(client: FakeClient) -> AsyncIterator[Told]:
        told = Told()
        setup = Setup(client="", release="", version=1, members={}, root=str(folder), seed=7, callers=4, think_s=0.0005)
        async with asyncio.TaskGroup() as group:
            group.create_task(Worker(client, setup, told.send).serve(told.lines))
            yield told
            told.lines.feed_eof()

    return work


async def test_stores_and_reads_back(working: Working) -> None:
    client = FakeClient()
    async with working(client) as told:
        stored = await told.ask(id=1, do="store", files=FILES)
        assert (stored["files"], stored["faults"]) == (3, [])
        assert told.total("calls") == 4  # two blocks of the large file
        read = await told.ask(id=2, do="read", files=FILES)
        assert (read["files"], read["faults"]) == (3, [])
        assert (told.total("calls"), told.total("failed")) == (8, 0)
        assert told.total("size_bytes") == 2 * (5 + 0 + 1_280_000)


async def test_what_comes_back_changed_is_a_fault_and_a_failed_call(working: Working) -> None:
    client = FakeClient()
    async with working(client) as told:
        await told.ask(id=1, do="store", files=FILES)
        client.broken.add(client.key_of(b"small"))
        read = await told.ask(id=2, do="read", files=FILES)
        assert read["faults"] == ["small.txt: block 0: 6 bytes came back that are not the 5 stored"]
        assert told.total("failed") == 1
        failures = [failure for line in told.said if "tally" in line for failure in line["tally"]["failures"]]
        assert [failure["status"] for failure in failures] == ["WRONG_CONTENT"]


async def test_a_failed_call_is_told_with_its_status(working: Working) -> None:
    client = FakeClient()
    client.down = True
    async with working(client) as told:
        stored = await told.ask(id=1, do="store", files=FILES)
        assert len(stored["faults"]) == 3
        assert told.total("failed") == told.total("calls") == 3
        told_of = [line["tally"]["failures"] for line in told.said if "tally" in line and line["tally"]["failed"]]
        assert {(one["call"], one["status"], one["text"]) for one in told_of[0]} == {
            ("put", "UNAVAILABLE", "nobody is there")
        }


async def test_what_is_not_there_is_a_failed_call(working: Working) -> None:
    """Whatever a client raises counts, not gRPC's errors alone."""
    async with working(FakeClient()) as told:
        read = await told.ask(id=1, do="read", files=["small.txt"])
        assert read["faults"] == ["small.txt: block 0: the call failed"]
        assert told.total("failed") == 1


async def test_load_goes_on_until_it_is_stopped(working: Working) -> None:
    client = FakeClient()
    async with working(client) as told:
        await told.ask(id=1, do="store", files=FILES)
        await told.ask(id=2, do="load", files=FILES)
        first = await told.until(lambda line: "tally" in line and line["tally"]["put"])
        await told.ask(id=3, do="stop")
        calls = told.total("calls")
        assert calls > 4
        assert told.total("failed") == 0
        block = RandomBlock(seed=7, version=Version(1), number=first["tally"]["put"][0])
        assert client.blocks[client.key_of(block.data())] == block.data()
        await told.ask(id=4, do="read", files=["small.txt"])
        assert told.total("calls") == calls + 1  # nobody calls any more


async def test_reads_what_clients_of_the_other_version_have_put(working: Working) -> None:
    """A block is made again from its name, so that what is read is compared with what was put."""
    client = FakeClient()
    block = RandomBlock(seed=7, version=Version(2), number=1)
    async with working(client) as told:
        told.lines.feed_data(json.dumps({"heard": [[2, 1]], "private": False}).encode() + b"\n")
        await told.ask(id=1, do="load", files=[])  # nothing else is there to be got, and this block is missing
        failed = await told.until(lambda line: "tally" in line and line["tally"]["failed"])
        assert client.key_of(block.data()) in failed["tally"]["failures"][0]["text"]
        await told.ask(id=2, do="stop")


async def test_private_blocks_are_put_got_and_tried(working: Working) -> None:
    """A refusal that must be is a call that went well; others hear of private blocks apart."""
    client = FakePrivateClient()
    async with working(client) as told:
        await told.ask(id=1, do="load", files=[])
        for count in ("put", "put_private", "admitted", "refused"):
            await told.until(lambda line, count=count: "tally" in line and line["tally"][count])
        await told.ask(id=2, do="stop")
        assert (told.total("failed"), told.total("leaked")) == (0, 0)
    tallies = [line["tally"] for line in told.said if "tally" in line]
    assert {status for tally in tallies for status in tally["refused"]} == {"PERMISSION_DENIED"}
    for number in (number for tally in tallies for number in tally["put_private"]):
        key = client.key_of(RandomBlock(seed=7, version=Version(1), number=number, private=True).data())
        assert client.readers[key] == {"ann", "ben"}


@pytest.mark.parametrize(("down", "failed", "leaked", "refused"), [(True, 0, 0, 1), (False, 1, 1, 0)])
async def test_clients_without_private_blocks_try_those_of_others(
    down: bool, failed: int, leaked: int, refused: int, working: Working
) -> None:
    """It must end as their version says; to get one is a failure."""
    client = FakeClient()
    block = RandomBlock(seed=7, version=Version(3), number=1, private=True)
    client.blocks[client.key_of(block.data())] = block.data()
    client.down = down
    counted = CountedClient(client)
    assert await counted.try_private(block.data()) == bool(refused)
    counts = counted.take_counts()
    assert (counts["calls"], counts["failed"], counts["leaked"]) == (1, failed, leaked)
    assert counts["refused"] == ({"UNAVAILABLE": 1} if refused else {})
    async with working(client) as told:
        told.lines.feed_data(json.dumps({"heard": [[3, 1]], "private": True}).encode() + b"\n")
        await told.ask(id=1, do="load", files=[])
        await told.until(lambda line: "tally" in line and (line["tally"]["refused"] or line["tally"]["leaked"]))
        await told.ask(id=2, do="stop")


async def test_a_private_block_that_is_refused_otherwise_is_a_failed_call() -> None:
    counted = CountedClient(FakePrivateClient())
    assert not await counted.try_private(b"never put")
    assert counted.take_counts()["failed"] == 1


async def test_ends_with_its_input_under_load(working: Working) -> None:
    """A worker does not outlive its parent, whatever it is doing."""
    client = FakeClient()
    async with working(client) as told:
        await told.ask(id=1, do="store", files=FILES)
        await told.ask(id=2, do="load", files=FILES)
        await told.until(lambda line: "tally" in line and line["tally"]["calls"])


def test_files_are_cut_into_blocks(folder: Path) -> None:
    for name in FILES:
        path = folder / name
        blocks = list(cut(path))
        assert b"".join(blocks) == path.read_bytes()
        assert max(len(block) for block in blocks) <= BLOCK_BYTES
        assert block_count(path) == len(blocks)
        assert [block_at(path, index) for index in range(len(blocks))] == blocks


def test_a_random_block_is_the_same_each_time() -> None:
    names = [
        RandomBlock(seed=seed, version=Version(version), number=number)
        for seed in (1, 2)
        for version in (1, 2)
        for number in (1, 2)
    ]
    assert [name.data() for name in names] == [name.data() for name in names]
    assert len({name.data() for name in names}) == len(names)
