"""Runs a release's transform in a process of its own, and makes its work the node's state in one rename."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from segue import journey
from segue.model.progress import Progress
from segue.node.transform_process import TransformLimits, TransformProcess, TransformTask, warm_transform
from segue.release.durable import sync_path

#: What becomes the state; all else in the folder of the work is the process's own.
_KEPT = ("object", "past")


async def run_transform(
    task: TransformTask,
    *,
    making: Path,
    states: Path,
    limits: TransformLimits,
    warmed: TransformProcess | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> journey.Transformed:
    """Make `states` from the old folder: whole and on disk, or not at all.

    Safe to run twice: once `states` is there, its own record says how it went.

    Args:
        task: what is transformed by what.
        making: a folder on the same file system as `states`; the work is done below it.
        states: where the new state goes: `object/`, `past/`, and `transform.json`.
        limits: what the transform may use.
        warmed: a process that was started early for this task; it is ended here in any case. If it died meanwhile,
            another one is started.
        on_progress: called in the event loop, about five times a second.

    Raises:
        ReleaseError: the transform raised, or took too long; the message is the last line that it wrote.
        PeerError: it was killed, or the machine could not: that may not happen the next time.
        OSError: the disk does not take it.
    """
    record = states / "transform.json"
    process = warmed
    try:
        if states.exists():
            sync_path(states.parent)  # a crash may have come before its name was on disk
            return journey.Transformed(**json.loads(record.read_text()))
        began = time.perf_counter()
        if process is None or not process.alive:
            if process is not None:
                await process.end()
            process = await warm_transform(task, making=making, limits=limits)
        size_bytes = await process.run(task, on_progress)
        took_ms = (time.perf_counter() - began) * 1000
        _put_in_place(process.work, states, record.name, {"took_ms": took_ms, "size_bytes": size_bytes})
    finally:
        if process is not None:
            await process.end()
    return journey.Transformed(took_ms=took_ms, size_bytes=size_bytes)


def _put_in_place(work: Path, states: Path, record: str, done: dict[str, float]) -> None:
    """Make the work of a transform the state. What is in `_KEPT` is on disk already, with all folders in it."""
    for entry in list(work.iterdir()):
        if entry.name not in _KEPT:
            _remove(entry)
    (work / record).write_text(json.dumps(done))
    sync_path(work / record)
    sync_path(work)
    work.rename(states)
    sync_path(states.parent)


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
