"""Starts agents and upgrade servers in some milliseconds: `python -m segue.testing.crashing.lives` forks them.

It has imported all that they need, and has no threads. It takes one order a line on its standard input,
`{"id": 1, "kind": "agent" | "server", "log": path, …}`, answers each by `{"id": 1, "pid": …}`, and says
`{"id": 1, "status": …}` when that process has ended. When its input ends, it kills all that it started.
"""

import asyncio
import json
import logging
import os
import random
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.errors import SegueError
from segue.server.app import serve
from segue.testing.crashing import life, processes

_READY_S = 60.0
_LINE_LIMIT_BYTES = 2**20


@dataclass(slots=True)
class Life:
    """One process that was started, and its end."""

    pid: int
    _status: "asyncio.Future[int]"

    async def ended(self) -> int:
        """Return its exit status when it has ended, negative if a signal ended it."""
        await asyncio.wait([self._status])  # which leaves it alone if this is cancelled: others wait for it, too
        return self._status.result()

    def kill(self) -> bool:
        """Kill it, and say whether it was still there: until its end was told, its id is nobody else's."""
        if self._status.done():
            return False
        processes.kill([self.pid])
        return True


class Lives:
    """Asks the fork server, which `lives` has started.

    Args:
        process: the fork server.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._next_id = 0
        self._started: dict[int, asyncio.Future[int]] = {}
        self._ended: dict[int, asyncio.Future[int]] = {}

    async def agent(self, order: life.Order, *, log: Path, seed: int, runtime: Path) -> Life:
        """Start an agent.

        Args:
            order: what it is told.
            log: the file that it and its processes write to.
            seed: of its random numbers.
            runtime: the folder for its sockets' folder.
        """
        return await self._start(kind="agent", log=str(log), seed=seed, runtime=str(runtime), order=order.to_json())

    async def server(self, data: Path, *, port: int, log: Path) -> Life:
        """Start an upgrade server on a port of 127.0.0.1."""
        return await self._start(kind="server", log=str(log), seed=0, data=str(data), port=port)

    async def listen(self) -> None:
        """Take what the fork server says until it ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            match json.loads(line):
                case {"id": number, "pid": pid}:
                    self._started[number].set_result(pid)
                case {"id": number, "status": status}:
                    self._ended.pop(number).set_result(status)
        for waiting in (*self._started.values(), *self._ended.values()):
            if not waiting.done():
                waiting.set_exception(AssertionError("the fork server has ended: see its standard error"))

    async def _start(self, **order: Any) -> Life:
        self._next_id += 1
        number, loop = self._next_id, asyncio.get_running_loop()
        self._started[number], self._ended[number] = loop.create_future(), loop.create_future()
        status = self._ended[number]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, **order}).encode() + b"\n")
        async with asyncio.timeout(_READY_S):
            pid = await self._started[number]
        return Life(pid, status)


@asynccontextmanager
async def lives(under: Sequence[str] = ()) -> AsyncIterator[Lives]:
    """Run a fork server for the time of the context; what it started ends with it.

    Args:
        under: what to put before its command.
    """
    process = await asyncio.create_subprocess_exec(
        *under, sys.executable, "-m", "segue.testing.crashing.lives",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_LIMIT_BYTES,
    )  # fmt: skip
    assert process.stdin is not None
    try:
        async with asyncio.TaskGroup() as tasks:
            starts = Lives(process)
            listening = tasks.create_task(starts.listen())
            yield starts
            process.stdin.close()
            await listening
    finally:
        process.stdin.close()
        await process.wait()


def _be_agent(order: Mapping[str, Any]) -> None:
    os.environ["XDG_RUNTIME_DIR"] = order["runtime"]
    life.live(life.Order.from_json(order["order"]))


def _be_server(order: Mapping[str, Any]) -> None:
    with suppress(KeyboardInterrupt):
        serve(Path(order["data"]), host="127.0.0.1", port=order["port"])


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {"agent": _be_agent, "server": _be_server}


def _be(order: Mapping[str, Any]) -> None:
    """Be what `order` describes, in a process that was just forked; does not return."""
    status = 2
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for kept, here in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(kept, here)
        random.seed(order["seed"])
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)  # one line for each report would hide all others
        _KINDS[order["kind"]](order)
        status = 0
    except SegueError as error:
        logging.getLogger(__name__).error("ended by itself: %s", error)
        status = 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _reap(children: dict[int, int]) -> None:
    """Tell the ends of children: `{process id: order's id}`."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        _say(id=children.pop(pid), status=os.waitstatus_to_exitcode(status))


def _say(**line: Any) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def main() -> None:
    """Fork what standard input orders, until it ends."""
    told, woken = socket.socketpair()
    for end in (told, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    children: dict[int, int] = {}
    with selectors.DefaultSelector() as ready:
        ready.register(0, selectors.EVENT_READ)
        ready.register(told, selectors.EVENT_READ)
        rest = b""
        while True:
            for key, _ in ready.select():
                if key.fileobj is told:
                    told.recv(4096)
                    continue
                got = os.read(0, 2**16)
                if not got:
                    processes.kill(list(children))
                    return
                *lines, rest = (rest + got).split(b"\n")
                for line in lines:
                    order = json.loads(line)
                    pid = os.fork()
                    if not pid:
                        _be(order)
                    children[pid] = order["id"]
                    _say(id=order["id"], pid=pid)
            _reap(children)


if __name__ == "__main__":
    main()
