"""Runs the `segue` command in the test's process, as a person's shell would see it."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from segue.cli import main
from segue.model.ids import NodeId
from segue.server.app import create_app
from segue.server.bundles import BundleFolder
from segue.server.memory import MemoryStore
from segue.testing.server import SYSTEM, HeldClock, bundle_of
from segue.wire.client import UpgradeServer
from segue.wire.messages import Heartbeat, HeartbeatReply, PermitAnswer, PermitRequest


async def _publish(server: UpgradeServer, *, bundle: bytes) -> None:
    await server.publish(bundle)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def segue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `segue` with some arguments."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr("sys.argv", ["segue", *arguments])
        monkeypatch.setenv("SEGUE_LOG", "{}")  # `segue node` sets it for what it starts: it is put back
        status: int | str | None = 0
        try:
            main()
        except SystemExit as end:
            status = 0 if end.code is None else end.code
        said = capsys.readouterr()
        return Outcome(status if isinstance(status, int) else 1, said.out, said.err)

    return run


@dataclass(frozen=True, slots=True)
class Served:
    """An upgrade server on a port of this machine, in a thread of the test's process.

    Attributes:
        url: where it is.
        clock: the server's, held.
        store: the server's.
    """

    url: str
    clock: HeldClock
    store: MemoryStore

    def tell(self, ask: Callable[[UpgradeServer], Awaitable[object]]) -> object:
        """Ask it as an agent or an author does, and return the answer."""

        async def asked() -> object:
            async with UpgradeServer(self.url) as server:
                return await ask(server)

        return asyncio.run(asked())

    def publish(self, *versions: int, **more: Any) -> None:
        """Publish releases that have a manifest and no code."""
        for version in versions:
            bundle = bundle_of(version, **more)
            self.tell(partial(_publish, bundle=bundle))

    def beat(self, node: str, version: int = 1, **more: Any) -> HeartbeatReply:
        """Report a node."""
        known: dict[str, Any] = {"class_name": "BlockNode", "address": "127.0.0.1:9001", "attributes": {"zone": "a"}}
        said = Heartbeat(**{**known, "version": version, "phase": "serving"} | more)
        reply = self.tell(lambda server: server.heartbeat(SYSTEM, NodeId(node), said))
        assert isinstance(reply, HeartbeatReply)
        return reply

    def ask(self, node: str, to: int = 2, since: int = 1) -> PermitAnswer:
        """Have a node ask for its permit."""
        request = PermitRequest(class_name="BlockNode", from_version=since, to_version=to)
        answer = self.tell(lambda server: server.ask_permit(SYSTEM, NodeId(node), request))
        assert isinstance(answer, PermitAnswer)
        return answer

    def give_back(self, node: str, permit: str | None, failure: str | None = None) -> None:
        """Have a node return its permit, after a failure that is final if there was one."""
        assert permit is not None
        self.tell(lambda server: server.return_permit(SYSTEM, NodeId(node), permit, failure, final=failure is not None))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """An upgrade server with nothing in it."""
    clock = HeldClock()
    store = MemoryStore(clock)
    app = create_app(store, BundleFolder(tmp_path / "bundles"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", clock, store)
        finally:
            server.should_exit = True
            thread.join()
