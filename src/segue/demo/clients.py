"""The parent's side of a worker: starts it, tells it what to do, hears what it did."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segue.demo.facts import Failure, Reading
from segue.demo.timeline import Tally
from segue.demo.worker import LINE_LIMIT_BYTES, Setup
from segue.errors import SegueError
from segue.local import last_line
from segue.model.ids import Version

#: For a worker's imports, on a busy machine.
_READY_S = 60.0
#: For an answer, or between two calls of a command that makes many; a call ends within half of it.
_ANSWER_S = 60.0
#: For a worker to end by itself once its input has.
_END_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Who is told of what a worker says between its answers.

    Attributes:
        tally: takes each tally.
        put: takes the numbers of the random blocks that were put, and whether they are private.
        progress: takes how many files of the command under way are done.
    """

    tally: Callable[[Tally], None]
    put: Callable[[Version, Sequence[int], bool], None]
    progress: Callable[[Version, int], None]


class Clients:
    """The clients of one version, in a process of their own.

    Each command raises SegueError if the process does not answer it, or makes no more calls for it.
    """

    def __init__(self, version: Version, process: asyncio.subprocess.Process, heard: Heard, log: Path) -> None:
        self.version = version
        self._process = process
        self._heard = heard
        self._log = log
        self._next_id = 0
        #: `{command's id: its answer to come}`
        self._answers: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        #: Of commands that make calls, put off by each tally that has some.
        self._limits: set[asyncio.Timeout] = set()

    async def store(self, files: Sequence[str]) -> tuple[str, ...]:
        """Store files, and return those that could not be, with the reason."""
        answer = await self._ask(calls=True, do="store", files=files)
        return tuple(answer["faults"])

    async def read(self, files: Sequence[str]) -> Reading:
        """Read files back and compare them bit for bit."""
        answer = await self._ask(calls=True, do="read", files=files)
        return Reading(
            version=self.version,
            files=answer["files"],
            mismatches=tuple(answer["faults"]),
            started_at=datetime.fromtimestamp(answer["started_s"], UTC),
            ended_at=datetime.fromtimestamp(answer["ended_s"], UTC),
        )

    async def load(self, files: Sequence[str]) -> None:
        """Begin to put and get at random, blocks of `files` among others."""
        await self._ask(do="load", files=files)

    async def stop_load(self) -> None:
        """Let every caller end its call, and begin no more."""
        await self._ask(do="stop")

    def hear_of(self, version: Version, numbers: Sequence[int], private: bool) -> None:
        """Tell of random blocks that clients of another version have put."""
        self._say({"heard": [[version, number] for number in numbers], "private": private})

    async def _ask(self, *, calls: bool = False, **command: Any) -> Mapping[str, Any]:
        self._next_id += 1
        number = self._next_id
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._say({"id": number, **command})
        limit = asyncio.timeout(_ANSWER_S)
        try:
            async with limit:
                if calls:
                    self._limits.add(limit)
                return await answer
        except TimeoutError:
            words = f"the process of version {self.version} clients has not answered to {command['do']!r}"
            raise SegueError(f"{words} for {_ANSWER_S:g} s; its last words: {last_line(self._log)}") from None
        finally:
            self._limits.discard(limit)
            del self._answers[number]

    def _say(self, line: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(ConnectionError):  # that it has ended is told by `listen`
            self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def listen(self) -> None:
        """Take what the worker says until it ends.

        Raises:
            SegueError: it ended before it was told to.
        """
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self._take(json.loads(line))
        raise SegueError(
            f"the process of version {self.version} clients has ended; its last words: {last_line(self._log)}"
        )

    def _take(self, said: Mapping[str, Any]) -> None:
        match said:
            case {"tally": tally}:
                self._take_tally(tally)
            case {"id": _, "progress": files}:
                self._heard.progress(self.version, files)
            case {"id": number, "done": True}:
                answer = self._answers.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(said)

    def _take_tally(self, tally: Mapping[str, Any]) -> None:
        self._heard.tally(
            Tally(
                version=self.version,
                from_s=tally["from_s"],
                to_s=tally["to_s"],
                calls=tally["calls"],
                failed=tally["failed"],
                size_bytes=tally["size_bytes"],
                failures=tuple(Failure(**failure) for failure in tally["failures"]),
                admitted=tally["admitted"],
                refused=tally["refused"],
                leaked=tally["leaked"],
            )
        )
        if tally["calls"]:
            self._put_off()
        for private, numbers in ((False, tally["put"]), (True, tally["put_private"])):
            if numbers:
                self._heard.put(self.version, numbers, private)

    def _put_off(self) -> None:
        until_s = asyncio.get_running_loop().time() + _ANSWER_S
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(until_s)


@asynccontextmanager
async def started_clients(setup: Setup, heard: Heard, log: Path) -> AsyncIterator[Clients]:
    """Start the clients of one version, and end their process on the way out.

    Args:
        setup: what they call about.
        heard: who is told what they say.
        log: a file for what they write besides.

    Raises:
        SegueError: the process did not come up.
    """
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "segue.demo.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
            start_new_session=True, limit=LINE_LIMIT_BYTES,
        )  # fmt: skip
    try:
        await _set_up(process, setup, log)
        clients = Clients(Version(setup.version), process, heard, log)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(clients.listen())
            yield clients
            listening.cancel()
    finally:
        await _end(process)


async def _set_up(process: asyncio.subprocess.Process, setup: Setup, log: Path) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(setup)).encode() + b"\n")
    try:
        async with asyncio.timeout(_READY_S):
            ready = await process.stdout.readline()
    except TimeoutError:
        ready = b""
    if not ready:
        raise SegueError(f"the process of version {setup.version} clients did not come up: {last_line(log)}")


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
