"""Runs a release's transform in a process of its own, and makes its work the node's state in one rename."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from segue import journey
from segue.errors import ReleaseError
from segue.model.ids import Version
from segue.node.control import AuthorCodeError, HostFaultError
from segue.node.ending import ended
from segue.release.durable import sync_path
from segue.release.transform import PASSING

#: Of what a transform said, this much is kept for the log.
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformTask:
    """What is transformed by what.

    Attributes:
        function: `module:function` in the release.
        release, version: where the new release is unpacked, and its version.
        previous, previous_version: the same of the release that wrote the old folder.
        old: the old object's folder, which the transform only reads.
        simulation: the future simulation's folder; None if none was installed.
    """

    function: str
    release: Path
    version: Version
    previous: Path
    previous_version: Version
    old: Path
    simulation: Path | None


async def run_transform(task: TransformTask, *, making: Path, states: Path, timeout_s: float) -> journey.Transformed:
    """Make `states` from the old folder: whole and on disk, or not at all.

    Safe to run twice: once `states` is there, its own record says how it went.

    Args:
        task: what is transformed by what.
        making: a folder on the same file system as `states`; the work is done below it.
        states: where the new state goes: `object/`, `past/`, and `transform.json`.
        timeout_s: seconds that the transform may take.

    Raises:
        ReleaseError: the transform raised, or took too long; the message is the last line that it wrote.
        PeerError: it was killed, or the machine could not: that may not happen the next time.
        OSError: the disk does not take it.
    """
    record = states / "transform.json"
    if states.exists():
        return journey.Transformed(**json.loads(record.read_text()))
    began = time.perf_counter()
    # A transform that outlived an agent that was killed still writes to the folder that it was given.
    work = Path(tempfile.mkdtemp(prefix=f"{task.version}-", dir=making))
    try:
        size_bytes = await _transform_into(task, work, timeout_s)
        done = {"took_ms": (time.perf_counter() - began) * 1000, "size_bytes": size_bytes}
        (work / record.name).write_text(json.dumps(done))
        sync_path(work / record.name)
        sync_path(work)
        work.rename(states)
        sync_path(states.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return journey.Transformed(took_ms=done["took_ms"], size_bytes=size_bytes)


async def _transform_into(task: TransformTask, work: Path, timeout_s: float) -> int:
    """Run the author's function, and return the bytes that it wrote, which are on disk then."""
    order = {
        "release": str(task.release),
        "version": task.version,
        "previous": str(task.previous),
        "previous_version": task.previous_version,
        "transform": task.function,
        "old": str(task.old),
        "new": str(work / "object"),
        "past": str(work / "past"),
        "simulation": str(task.simulation) if task.simulation else None,
        "leash": True,
    }
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        try:
            async with (
                asyncio.timeout(timeout_s),
                _child(out, said, "segue.release.transform") as child,
            ):
                status = await child.do(json.dumps(order))
        except TimeoutError:
            raise ReleaseError(
                f"the transform to version {task.version} was not done within {timeout_s:g} s: make it faster"
            ) from None
        answer, complaints = _tail(out), _tail(said)
    if status != 0:
        last = complaints.splitlines()[-1] if complaints else "it said nothing"
        if status < 0:
            raise HostFaultError(
                f"the transform to version {task.version} was killed by signal {-status}: {last}", complaints
            )
        kind = HostFaultError if status == PASSING else AuthorCodeError
        raise kind(f"the transform to version {task.version} failed: {last}", complaints)
    if not answer:
        raise ReleaseError(
            f"the transform to version {task.version} ended its process before it was done: let it return instead"
        )
    return int(json.loads(answer.splitlines()[-1])["size_bytes"])


def _tail(said: IO[bytes]) -> str:
    """Return the end of what the transform said, which may be very long."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _TAIL_BYTES))
    return said.read().decode(errors="replace").strip()


class _Child:
    """A transform's process.

    Its pipes say nothing of its end, since what it started may hold them: its pidfd does.
    """

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self._process = process
        self._descriptor = descriptor

    async def do(self, order: str) -> int:
        """Give the order, and return the exit status. Stdin stays open: its end would tell that we are gone."""
        assert self._process.stdin is not None
        self._process.stdin.write(order.encode() + b"\n")
        with suppress(ConnectionError):  # it ended at once: its status says more
            await self._process.stdin.drain()
        await ended(self._descriptor)
        self.kill()
        return await self._process.wait()

    def kill(self) -> None:
        """End it, and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


@asynccontextmanager
async def _child(out: IO[bytes], said: IO[bytes], module: str) -> AsyncIterator[_Child]:
    """Run a Python module as a process for the time of the block; neither it nor what it started outlives it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=asyncio.subprocess.PIPE, stdout=out, stderr=said, start_new_session=True
    )
    descriptor = os.pidfd_open(process.pid)
    child = _Child(process, descriptor)
    try:
        yield child
    finally:
        child.kill()
        await process.wait()
        os.close(descriptor)
