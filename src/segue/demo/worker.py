"""The clients of one version, as a process of their own: `python -m segue.demo.worker`.

It is told what to do by lines of JSON on its standard input, the first of which is its set-up, and says
on its standard output what it did. When its input ends, so does it: it does not outlive its parent.

Commands: `{"id": 1, "do": "store" | "read", "files": […]}`; `{"id": 2, "do": "load", "files": […]}`, answered
once the load has begun; `{"id": 3, "do": "stop"}`, answered once every caller has ended. Each is answered by
a line with its id and `"done": true`. In between come `{"tally": {…}}` and, for a long command,
`{"id": 1, "progress": files}`. `{"heard": [[version, number], …], "private": false}` tells of random blocks
that clients of another version have put.
"""

import asyncio
import importlib.util
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.demo.blocks import RandomBlock, block_at, block_count, cut
from segue.demo.counted import OWNER, READER, Client, CountedClient
from segue.model.ids import Version

#: One line carries the names of all files.
LINE_LIMIT_BYTES = 64 * 1024 * 1024

_TICK_S = 0.25
_FILES_AT_ONCE = 6
_PUT_SHARE, _RANDOM_SHARE = 0.3, 0.4
#: Of the puts, where clients can; and of the gets, where there are private blocks.
_PRIVATE_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a worker is told first.

    Attributes:
        client: the file of the module that has `open_client`.
        release: the folder of the release that the clients speak.
        version: its version.
        members: `{node's id: host:port}`.
        root: the folder of the files.
        seed: what the choices are drawn from.
        callers: how many call at once under load.
        think_s: the mean time from a call's end to the caller's next, in seconds.
    """

    client: str
    release: str
    version: int
    members: dict[str, str]
    root: str
    seed: int
    callers: int = 96
    think_s: float = 1.0


class _InputEndedError(Exception):
    """The parent is gone, or has had enough."""


class Worker:
    """Stores, reads and keeps calling, as it is told.

    Args:
        client: makes the calls.
        setup: what to call about.
        send: takes each line that is said.
    """

    def __init__(self, client: Client, setup: Setup, send: Callable[[Mapping[str, Any]], None]) -> None:
        self._client = CountedClient(client)
        self._setup = setup
        self._root = Path(setup.root)
        self._send = send
        self._stopping = asyncio.Event()
        self._callers_left = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._numbered = 0
        self._known: list[RandomBlock] = []
        self._known_private: list[RandomBlock] = []
        self._files: list[str] = []
        #: `{command's id: files done}`
        self._progress: dict[int, int] = {}

    async def serve(self, lines: asyncio.StreamReader) -> None:
        """Do what `lines` say until they end."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick())
                while line := await lines.readline():
                    self._take(json.loads(line), group)
                raise _InputEndedError
        except* _InputEndedError:
            pass

    def _take(self, command: Mapping[str, Any], group: asyncio.TaskGroup) -> None:
        match command:
            case {"heard": blocks, "private": private}:
                known = self._known_private if private else self._known
                known += [
                    RandomBlock(seed=self._setup.seed, version=Version(version), number=number, private=private)
                    for version, number in blocks
                ]
            case {"id": number, "do": "store", "files": files}:
                group.create_task(self._over(number, files, self._store))
            case {"id": number, "do": "read", "files": files}:
                group.create_task(self._over(number, files, self._read))
            case {"id": number, "do": "load", "files": files}:
                self._begin(files, group)
                self._answer(number)
            case {"id": number, "do": "stop"}:
                group.create_task(self._stop(number))
            case _:
                raise AssertionError(f"no such command: {command}")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._tell()

    def _tell(self) -> None:
        """Say what was done since the last time."""
        for number, files in self._progress.items():
            self._send({"id": number, "progress": files})
        self._send({"tally": self._client.take_counts()})

    def _answer(self, number: int, **facts: Any) -> None:
        self._progress.pop(number, None)
        self._tell()  # so that whoever hears the answer has heard of every call before it
        self._send({"id": number, "done": True, **facts})

    async def _over(self, number: int, files: list[str], action: Callable[[str], Awaitable[str | None]]) -> None:
        """Take `action` on every file, several at once, and answer with the files that it found fault with."""
        self._progress[number] = 0
        started_s = time.time()
        faults: list[str] = []
        left = iter(files)

        async def work() -> None:
            for file in left:
                fault = await action(file)
                if fault:
                    faults.append(f"{file}: {fault}")
                self._progress[number] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(_FILES_AT_ONCE):
                group.create_task(work())
        self._answer(number, files=len(files), faults=faults, started_s=started_s, ended_s=time.time())

    async def _store(self, file: str) -> str | None:
        for block in cut(self._root / file):
            if not await self._client.put(block):
                return "a block was not stored"
        return None

    async def _read(self, file: str) -> str | None:
        for index, block in enumerate(cut(self._root / file)):
            fault = await self._client.compare(block)
            if fault:
                return f"block {index}: {fault}"
        return None

    def _begin(self, files: list[str], group: asyncio.TaskGroup) -> None:
        self._files = files
        self._stopping.clear()
        self._idle.clear()
        self._callers_left = self._setup.callers
        for caller in range(self._setup.callers):
            group.create_task(self._keep_calling(caller))

    async def _stop(self, number: int) -> None:
        self._stopping.set()
        await self._idle.wait()
        self._answer(number)

    async def _keep_calling(self, caller: int) -> None:
        choices = random.Random(f"{self._setup.seed}/{self._setup.version}/caller {caller}")
        while not await self._stopped_within(choices.uniform(0, 2 * self._setup.think_s)):
            if choices.random() < _PUT_SHARE:
                await self._put_random(private=self._client.knows_private_blocks and choices.random() < _PRIVATE_SHARE)
            elif self._known_private and choices.random() < _PRIVATE_SHARE:
                await self._ask_for_private(choices)
            elif self._known and choices.random() < _RANDOM_SHARE:
                await self._client.compare(choices.choice(self._known).data())
            elif self._files:
                path = self._root / choices.choice(self._files)
                await self._client.compare(block_at(path, choices.randrange(block_count(path))))
        self._callers_left -= 1
        if not self._callers_left:
            self._idle.set()

    async def _stopped_within(self, think_s: float) -> bool:
        try:
            async with asyncio.timeout(think_s):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    async def _put_random(self, *, private: bool) -> None:
        self._numbered += 1
        version = Version(self._setup.version)
        block = RandomBlock(seed=self._setup.seed, version=version, number=self._numbered, private=private)
        if private:
            if await self._client.put_private(block.data(), block.number):
                self._known_private.append(block)
        elif await self._client.put(block.data(), number=block.number):
            self._known.append(block)

    async def _ask_for_private(self, choices: random.Random) -> None:
        """Ask for a private block as its owner, as its reader or as one who may not have it."""
        data = choices.choice(self._known_private).data()
        user = choices.choice((OWNER, READER, None)) if self._client.knows_private_blocks else None
        if user is None:
            await self._client.try_private(data)
        else:
            await self._client.compare_private(data, user)


def load_client(setup: Setup) -> Client:
    """Open the client that `setup` names, by the module's own `open_client`."""
    spec = importlib.util.spec_from_file_location("segue_demo_client", setup.client)
    assert spec is not None, setup.client
    assert spec.loader is not None, setup.client
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    nodes = random.Random(f"{setup.seed}/{setup.version}/nodes")
    client: Client = module.open_client(setup.version, setup.members, release=Path(setup.release), rng=nodes)
    return client


def say(line: Mapping[str, Any]) -> None:
    """Write one line to the standard output."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Be a worker until the standard input ends."""
    lines = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    first = await lines.readline()
    if not first:
        return
    setup = Setup(**json.loads(first))
    client = load_client(setup)
    try:
        say({"ready": True})
        await Worker(client, setup, say).serve(lines)
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main())
