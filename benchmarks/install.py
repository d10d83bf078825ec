"""The time to install a simulation in a running node, against the time of the node's whole upgrade.

Each of several fresh nodes, of one block store of one node on processes of its own, goes from version 1 to version 2,
with nothing stored: what is left of an upgrade is what every upgrade takes. The node's journal is watched: it has an
event of each step when that step is over.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from segue.local import LocalSettings, LocalSystem
from segue.model.ids import ClassName, NodeId, SystemName
from segue.release.bundle import build
from segue.testing.rig import Rig
from segue.wire.client import UpgradeServer

_RELEASES = Path(__file__).parents[1] / "examples" / "blockstore"
_NODE = NodeId("n1")
#: A coarser look adds that much to what is measured, a finer one takes the time of the node's own processor.
_LOOK_S = 0.002
_LIMIT_S = 60.0

#: An event of the journal: when it was seen, by `time.perf_counter`, and what it says.
Seen: TypeAlias = tuple[float, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """How long the parts of a node's upgrade took, in milliseconds.

    Attributes:
        install_ms: from the agent's command to install the simulation until the node answered the new version, with
            no restart and no pause. The code is imported in it.
        upgrade_ms: from when the node learned of the release until its upgrade was committed.
        pause_ms: of that, how long no call was answered.
    """

    install_ms: float
    upgrade_ms: float
    pause_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallFigures:
    """Medians over nodes, in milliseconds; `ratio` is the median of each node's installation by its upgrade."""

    install_ms: float
    upgrade_ms: float
    pause_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    nodes: int


async def measure_upgrade() -> Upgrade:
    """Start a node of version 1, publish version 2, and see it upgraded."""
    settings = LocalSettings(system=SystemName("blockstore"), class_name=ClassName("BlockNode"), nodes=1, probation_s=0)
    first, second = (_RELEASES / f"blockstore-{version}" for version in (1, 2))
    with tempfile.TemporaryDirectory(prefix="segue-bench-") as folder:
        async with system(Path(folder), settings) as rig:
            await rig.server.publish(build(first))
            await rig.local.start_node(_NODE)
            await rig.until_serving(1)
            journal = rig.local.state(_NODE) / "journal.jsonl"
            known = journal.stat().st_size
            await rig.server.publish(build(second, previous=first))
            return _upgrade(await watched(journal, known))


def install_figures(upgrades: Sequence[Upgrade]) -> InstallFigures:
    """Put several nodes' upgrades together; the ratio's bounds are its least and its greatest."""
    ratios = [one.install_ms / one.upgrade_ms for one in upgrades]
    return InstallFigures(
        install_ms=round(statistics.median(one.install_ms for one in upgrades), 1),
        upgrade_ms=round(statistics.median(one.upgrade_ms for one in upgrades), 1),
        pause_ms=round(statistics.median(one.pause_ms for one in upgrades), 1),
        ratio=round(statistics.median(ratios), 4),
        ratio_low=round(min(ratios), 4),
        ratio_high=round(max(ratios), 4),
        nodes=len(upgrades),
    )


@asynccontextmanager
async def system(folder: Path, settings: LocalSettings) -> AsyncIterator[Rig]:
    """Run an upgrade server, and no node yet."""
    local = LocalSystem(folder / "system", settings)
    async with local, UpgradeServer(local.url) as server:
        await local.start_server()
        await local.until_listening()
        yield Rig(local, server, settings)


async def watched(journal: Path, known: int) -> dict[str, Seen]:
    """Return what a node's journal came to hold beyond its first `known` bytes, up to the end of an upgrade."""
    seen: dict[str, Seen] = {}
    async with asyncio.timeout(_LIMIT_S):
        while "PermitReturned" not in seen:
            await asyncio.sleep(_LOOK_S)
            if journal.stat().st_size == known:
                continue
            now = time.perf_counter()
            with journal.open("rb") as file:
                file.seek(known)
                added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            known += len(whole)
            seen.update({event["event"]: (now, event) for event in map(json.loads, whole.splitlines())})
    return seen


def _upgrade(seen: dict[str, Seen]) -> Upgrade:
    at = {name: now for name, (now, _) in seen.items()}
    quiesced, serving = (datetime.fromisoformat(seen[name][1]["at"]) for name in ("Quiesced", "HandedOver"))
    return Upgrade(
        install_ms=(at["FutureInstalled"] - at["Fetched"]) * 1000,
        upgrade_ms=(at["Committed"] - at["Learned"]) * 1000,
        pause_ms=(serving - quiesced).total_seconds() * 1000,
    )
