"""Runs a release's transform in a process of its own, and makes its work the node's state in one rename."""

import asyncio
import json
import logging
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
from segue.errors import PeerError, ReleaseError
from segue.model.ids import Version
from segue.release.durable import sync_path

logger = logging.getLogger(__name__)

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
        PeerError: it was killed, which may not happen the next time.
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
    with tempfile.TemporaryFile() as said:
        async with _child(said, sys.executable, "-m", "segue.release.transform") as process:
            try:
                async with asyncio.timeout(timeout_s):
                    out = await _converse(process, json.dumps(order))
                    status = await process.wait()
            except TimeoutError:
                raise ReleaseError(
                    f"the transform to version {task.version} was not done within {timeout_s:g} s: "
                    "make it faster, or give the node more time"
                ) from None
        complaints = _tail(said)
    if status < 0:
        raise PeerError(f"the transform to version {task.version} was killed by signal {-status}: {complaints[-200:]}")
    if status != 0:
        logger.error("the transform to version %s failed:\n%s", task.version, complaints)
        last = complaints.splitlines()[-1] if complaints else f"it ended with status {status}"
        raise ReleaseError(f"the transform to version {task.version} failed: {last}")
    if not out.endswith(b"\n"):
        raise ReleaseError(
            f"the transform to version {task.version} ended its process before it was done: let it return instead"
        )
    return int(json.loads(out.splitlines()[-1])["size_bytes"])


async def _converse(process: asyncio.subprocess.Process, order: str) -> bytes:
    """Give the order, and return the answer. The pipe stays open: its end tells the process that we are gone."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(order.encode() + b"\n")
    with suppress(ConnectionError):  # it ended at once: its status says more
        await process.stdin.drain()
    return await process.stdout.readline()


def _tail(said: IO[bytes]) -> str:
    """Return the end of what the transform said, which may be very long."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _TAIL_BYTES))
    return said.read().decode(errors="replace").strip()


@asynccontextmanager
async def _child(said: IO[bytes], *argv: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process for the time of the block; neither it nor what it started outlives it."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=said, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
