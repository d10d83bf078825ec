"""The process of a transform: started early, it has imported all before the old object goes quiet."""

import asyncio
import functools
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.errors import ReleaseError, SegueError
from segue.model.ids import Version
from segue.model.progress import Progress, estimated
from segue.node.control import AuthorCodeError, HostFaultError
from segue.node.ending import ended
from segue.release.confine import Guard
from segue.release.transform import PASSING

logger = logging.getLogger(__name__)

#: Of what a transform said, this much is kept for the log.
_TAIL_BYTES = 64 * 1024
#: How much is read of a pipe at once.
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformTask:
    """What is transformed by what.

    Attributes:
        function: `module:function` in the release.
        release, version: where the new release is unpacked, and its version.
        previous, previous_version: the same of the release that wrote the old folder.
        old: the old object's folder, which the transform only reads; it need not be there before the run.
        simulation: the future simulation's folder; None if none was installed. It may become known for the run.
        disk: how much room the new state takes, as a share of the old one and the simulation's.
    """

    function: str
    release: Path
    version: Version
    previous: Path
    previous_version: Version
    old: Path
    simulation: Path | None
    disk: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformLimits:
    """What a transform may use.

    Attributes:
        timeout_s: seconds for importing the release, and again for the work itself.
        memory_mib: memory of each of its processes, in MiB; None for as much as there is.
    """

    timeout_s: float
    memory_mib: int | None = None


class TransformProcess:
    """A process that can transform at once. Made by `warm_transform`; whoever has it ends it.

    Attributes:
        task: what it was made for.
        work: the folder that it works in, which goes when it is ended.
    """

    def __init__(self, task: TransformTask, limits: TransformLimits, making: Path) -> None:
        self.task = task
        self.work = Path(tempfile.mkdtemp(prefix=f"{task.version}-", dir=making))
        self._limits = limits
        #: Reaped by us alone, and when its group is gone: until then its id, which is the group's, is nobody else's.
        self._process: subprocess.Popen[bytes] | None = None
        self._gone = -1
        self._tail, self._line = b"", b""
        self._pipes: Sequence[_Pipe] = ()
        self._ready = asyncio.Event()
        self._size_bytes: int | None = None
        self._on_progress: Callable[[Progress], None] | None = None

    @property
    def alive(self) -> bool:
        """True if it waits for its order."""
        return self._ready.is_set() and self._gone >= 0 and not _is_gone(self._gone)

    @property
    def pid(self) -> int:
        """The process's id, which is its group's too."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the process, and wait until it has imported the release.

        Raises:
            ReleaseError: the release does not import, or not in time.
            PeerError: the process was killed, or the machine could not.
            OSError: no process can be started.
        """
        out, err = _Pipe(self._take_line), _Pipe(self._keep)
        self._pipes = (out, err)
        try:
            self._process = _spawn(out, err)
        finally:
            out.close_far_end()
            err.close_far_end()
        self._gone = os.pidfd_open(self._process.pid)
        task = self.task
        self._give(
            {
                "release": str(task.release),
                "version": task.version,
                "previous": str(task.previous),
                "previous_version": task.previous_version,
                "transform": task.function,
                "work": str(self.work),
                "memory_mib": self._limits.memory_mib,
                "leash": True,
            }
        )
        async with asyncio.TaskGroup() as tasks:
            end = tasks.create_task(ended(self._gone))
            ready = tasks.create_task(self._ready.wait())
            done, waiting = await asyncio.wait(
                (end, ready), timeout=self._limits.timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            for one in waiting:
                one.cancel()
        if not done:
            raise self._too_slow("import what it needs")
        if ready not in done:
            raise await self._failure()

    async def run(self, task: TransformTask, on_progress: Callable[[Progress], None] | None) -> int:
        """Run the transform, and return the bytes that it wrote, which are on disk then.

        When it returns, the process and what it started are gone.

        Args:
            task: as `self.task`, with what is known now: where the old state and the simulation's are.
            on_progress: called in the event loop, about five times a second.

        Raises:
            ReleaseError: the transform failed, or was not done in time.
            PeerError: it was killed, or the machine could not.
        """
        self._on_progress = on_progress
        simulation = str(task.simulation) if task.simulation else None
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                self._give({"old": str(task.old), "simulation": simulation})
                await ended(self._gone)
        except TimeoutError:
            raise self._too_slow("do its work") from None
        failure = await self._failure()
        if self._size_bytes is None:
            raise failure
        return self._size_bytes

    async def end(self) -> None:
        """End it, and what it started, and remove its folder. Safe to call again."""
        await self._kill()
        for pipe in self._pipes:
            pipe.close()
        self._pipes = ()
        if self._gone >= 0:
            os.close(self._gone)
            self._gone = -1
        shutil.rmtree(self.work, ignore_errors=True)

    def _give(self, order: dict[str, Any]) -> None:
        """Give it an order: one of the two, which a pipe has room for together."""
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(ConnectionError):  # it ended: its status says more
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    async def _kill(self) -> int:
        """End all of its process group, and return its exit status. Safe to call again."""
        process = self._process
        if process is None:
            return 0
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            if self._gone >= 0:
                await ended(self._gone)
            process.wait()
            assert process.stdin is not None
            with suppress(ConnectionError):  # an order that it did not take
                process.stdin.close()
        assert process.returncode is not None
        return process.returncode

    def _too_slow(self, what: str) -> ReleaseError:
        return ReleaseError(
            f"the transform to version {self.task.version} did not {what} within {self._limits.timeout_s:g} s "
            "(--transform-timeout-s): allow more, or make it faster"
        )

    async def _failure(self) -> SegueError:
        """Say why a process that ended by itself did so before it was done."""
        status = await self._kill()
        for pipe in self._pipes:
            pipe.drain()
        complaints = self._tail.decode(errors="replace").strip()
        last = complaints.splitlines()[-1] if complaints else "it said nothing"
        what = f"the transform to version {self.task.version}"
        if status < 0:
            memory = self._limits.memory_mib
            limit = f" (each of its processes may use {memory} MiB, --transform-memory-mib)" if memory else ""
            return HostFaultError(f"{what} was killed by signal {-status}{limit}: {last}", complaints)
        if status == 0:
            return AuthorCodeError(f"{what} ended its process before it was done: let it return instead", complaints)
        kind = HostFaultError if status == PASSING else AuthorCodeError
        return kind(f"{what} failed: {last}", complaints)

    def _keep(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-_TAIL_BYTES:]

    def _take_line(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, said: dict[str, Any]) -> None:
        match said:
            case {"ready": {"guard": guard}}:
                if guard != Guard.KERNEL:
                    _say_that_the_guard_is_weak()
                self._ready.set()
            case {"progress": progress}:
                if self._on_progress is not None:
                    self._on_progress(estimated(**progress))
            case {"done": {"size_bytes": size_bytes}}:
                self._size_bytes = size_bytes


async def warm_transform(task: TransformTask, *, making: Path, limits: TransformLimits) -> TransformProcess:
    """Start a transform's process, and return it when it has imported all; `run_transform` takes it.

    Args:
        task: what it will do; `old` and `simulation` need not be known yet.
        making: a folder on the same file system as the states; the work is done below it.
        limits: what it may use.

    Raises:
        ReleaseError: the release does not import, or not in time.
        PeerError: the process was killed, or the machine could not.
        OSError: the machine takes no folder or process.
    """
    process = TransformProcess(task, limits, making)
    try:
        await process.start()
    except BaseException:
        await process.end()
        raise
    return process


class _Pipe:
    """A pipe from the process, read as it comes.

    Its end tells nothing, since what the process started may hold it: the process's pidfd does.
    """

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._descriptor, self.far_end = os.pipe()
        os.set_blocking(self._descriptor, False)
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def close_far_end(self) -> None:
        """Leave the far end to the process."""
        os.close(self.far_end)

    def drain(self) -> None:
        """Take what is there now."""
        while self._descriptor >= 0 and self._read():
            pass

    def close(self) -> None:
        """Read no more."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self._take(data)
        return True


def _spawn(out: "_Pipe", err: "_Pipe") -> subprocess.Popen[bytes]:
    # Not asyncio's, which reaps a process as soon as that has ended.
    return subprocess.Popen(
        (sys.executable, "-m", "segue.release.transform"),
        stdin=subprocess.PIPE,
        stdout=out.far_end,
        stderr=err.far_end,
        start_new_session=True,
    )


def _is_gone(descriptor: int) -> bool:
    """Say whether the process of this pidfd has ended."""
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    return bool(look.poll(0))


@functools.cache
def _say_that_the_guard_is_weak() -> None:
    logger.warning(
        "this kernel has no Landlock: a transform's Python code cannot write into the old state, "
        "but programs that it starts and compiled code can"
    )
