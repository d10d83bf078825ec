"""Runs a release's transform in a process of its own, and makes its work the node's state in one rename."""

import asyncio
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from segue import journey
from segue.errors import ReleaseError
from segue.model.ids import Version
from segue.release.durable import sync_path

logger = logging.getLogger(__name__)


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
    }
    async with _child(sys.executable, "-m", "segue.release.transform") as process:
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate(json.dumps(order).encode())
        except TimeoutError:
            raise ReleaseError(
                f"the transform to version {task.version} was not done within {timeout_s:g} s: "
                "make it faster, or give the node more time"
            ) from None
    complaints = err.decode(errors="replace").strip()
    if process.returncode != 0:
        logger.error("the transform to version %s failed:\n%s", task.version, complaints)
        last = complaints.splitlines()[-1] if complaints else f"it ended with status {process.returncode}"
        raise ReleaseError(f"the transform to version {task.version} failed: {last}")
    if not out.endswith(b"\n"):
        raise ReleaseError(
            f"the transform to version {task.version} ended its process before it was done: let it return instead"
        )
    return int(json.loads(out.splitlines()[-1])["size_bytes"])


@asynccontextmanager
async def _child(*argv: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process with pipes for the time of the block; it does not outlive it."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
