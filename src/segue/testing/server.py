"""A whole upgrade server in this process, for tests: its clock is held, its answers are checked."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from segue.model.ids import NodeId, SystemName, Version
from segue.release import archive
from segue.server.app import create_app
from segue.server.bundles import BundleFolder
from segue.server.memory import MemoryStore
from segue.server.sql import SqlStore
from segue.server.store import Store
from segue.server.webhooks import Webhooks
from segue.testing.declared import DeclaredTransport
from segue.wire.client import UpgradeServer
from segue.wire.messages import AgentRow, Heartbeat, PermitAnswer, PermitRequest, UsageRow

SYSTEM = SystemName("blockstore")


class HeldClock:
    """A clock that stands at noon of 2030-01-01 until it is moved."""

    def __init__(self) -> None:
        self._now = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
        self._steady_s = 0.0

    def now(self) -> datetime:
        """Return the time: aware, UTC."""
        return self._now

    def move(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._now += timedelta(seconds=seconds)
        self._steady_s += seconds

    def jump(self, seconds: float) -> None:
        """Put the clock forward by `seconds`, or back, while no time passes."""
        self._now += timedelta(seconds=seconds)

    def steady(self) -> float:
        """Return the seconds that have passed, whatever was done to the clock: as `time.monotonic`."""
        return self._steady_s


class ShiftedClock:
    """The machine's clock, put forward and back as it is told."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        """Return the time that it shows: aware, UTC."""
        return datetime.now(UTC) + self._ahead

    def jump(self, seconds: float) -> None:
        """Put the clock forward by `seconds`, or back."""
        self._ahead += timedelta(seconds=seconds)


def bundle_of(
    version: int,
    *,
    system: str = "blockstore",
    schedule: str = "max_unavailable = 1",
    description: str = "",
    classes: Sequence[str] = ("BlockNode",),
    untouched: Sequence[str] = (),
) -> bytes:
    """Return a bundle that has a manifest and no code: the upgrade server never looks at any.

    Args:
        version: its place in the history of `system`.
        system: the system's name.
        schedule: lines of TOML, of every class, for every version but 1.
        description: the author's words.
        classes: their names.
        untouched: those of them that have no upgrade.
    """
    manifest = f"""
        [release]
        system = "{system}"
        version = {version}
        description = "{description}"
    """
    for cls in classes:
        manifest += f"""
        [classes.{cls}]
        object = "blockstore.node:{cls}"
        """
        if version > 1 and cls not in untouched:
            manifest += f"""
            [classes.{cls}.upgrade]
            transform = "blockstore.upgrade:transform"
            past = "blockstore.upgrade:Past"
            future = "blockstore.upgrade:Future"
            [classes.{cls}.upgrade.schedule]
            {schedule}
            """
    return archive.pack({"release.toml": manifest.encode()})


@dataclass
class Bench:
    """A server, the two ways to speak to it, and short words for what tests do most.

    Attributes:
        server: the client that agents use.
        http: for requests that no agent makes.
        transport: knows which answers there were.
        clock: the upgrade database's.
        store: the server's.
        system: the system that the short words are about.
    """

    server: UpgradeServer
    http: httpx.AsyncClient
    transport: DeclaredTransport
    clock: HeldClock
    store: Store
    system: SystemName = SYSTEM

    async def beat(
        self,
        node: str,
        version: int = 1,
        *,
        zone: str = "a",
        cls: str = "BlockNode",
        usage: tuple[UsageRow, ...] = (),
        agent: AgentRow | None = None,
        address: str = "127.0.0.1:9001",
        facts: Mapping[str, float] | None = None,
    ) -> int:
        """Report `node` on `version`; return the newest version."""
        said = Heartbeat(
            class_name=cls,
            version=version,
            address=address,
            attributes={"zone": zone},
            phase="serving",
            usage=usage,
            agent=agent,
            facts=dict(facts or {}),
        )
        return (await self.server.heartbeat(self.system, NodeId(node), said)).newest

    async def ask(
        self,
        node: str,
        *,
        to: int = 2,
        since: int | None = None,
        cls: str = "BlockNode",
        avoided: tuple[int, ...] = (),
    ) -> PermitAnswer:
        """Ask for the permit to go from `since`, by default the version before, to `to`, and to none of `avoided`."""
        since = to - 1 if since is None else since
        request = PermitRequest(class_name=cls, from_version=since, to_version=to, avoided=avoided)
        return await self.server.ask_permit(self.system, NodeId(node), request)

    async def give_back(
        self, node: str, permit: str | None, failure: str | None = None, *, final: bool = False, by: int | None = None
    ) -> None:
        """Return the permit that `node` was granted; `by` is the release that it failed by."""
        assert permit is not None
        await self.server.return_permit(
            self.system, NodeId(node), permit, failure, final=final, failed_version=Version(by) if by else None
        )

    async def error(self, method: str, path: str, **request: object) -> tuple[int, dict[str, str]]:
        """Make a request that is refused; return the status and the refusal."""
        response = await self.http.request(method, path, **request)  # type: ignore[arg-type]
        return response.status_code, response.json()


#: `{limit of a bundle's bytes: the server's OpenAPI document}`: nothing else of a server is in it.
_documents: dict[int, Mapping[str, Any]] = {}


@asynccontextmanager
async def open_bench(
    store: MemoryStore | SqlStore, folder: Path, *, limit_bytes: int = 100_000
) -> AsyncIterator[Bench]:
    """Run a server on `store`, whose clock is held, with bundles in `folder`, for as long as the context lasts."""
    store.clock = clock = HeldClock()
    webhooks = Webhooks(clock, steady=clock.steady)
    app = create_app(store, BundleFolder(folder), limit_bytes=limit_bytes, webhooks=webhooks)
    if limit_bytes not in _documents:
        _documents[limit_bytes] = app.openapi()
    transport = DeclaredTransport(app, document=_documents[limit_bytes])
    async with (
        UpgradeServer("http://segue", transport=transport) as server,
        httpx.AsyncClient(base_url="http://segue", transport=transport) as http,
    ):
        yield Bench(server, http, transport, clock, store)
    webhooks.close()
