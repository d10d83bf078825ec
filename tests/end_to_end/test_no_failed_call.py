"""The promise, where it is hardest: one node, no replicas, plain clients, upgrade after upgrade."""

import asyncio
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from segue.local import LocalSettings, LocalSystem
from segue.model.ids import NodeId
from segue.release.bundle import build
from segue.testing.counting import COUNTER, SYSTEM, write_counting
from segue.testing.load import Load
from segue.testing.rig import Rig
from segue.wire.client import UpgradeServer
from segue.wire.messages import UpgradeRow

pytestmark = [pytest.mark.end_to_end, pytest.mark.alone, pytest.mark.timeout(600)]

SEED = 20_260_302
UPGRADES, CALLS = 10, 15_000
#: Connections that stay, as long as the node lets them.
CHANNELS = 12
N1 = NodeId("n1")


async def test_no_call_fails(tmp_path: Path) -> None:
    """15,000 calls of all kinds over ten upgrades: each is answered, once, and right."""
    print(f"seed {SEED}")
    releases = write_counting(tmp_path / "releases", UPGRADES + 1)
    settings = LocalSettings(system=SYSTEM, class_name=COUNTER, nodes=1, poll_s=0.1, max_connection_age_s=1)
    local = LocalSystem(tmp_path / "system", settings)
    async with local, UpgradeServer(local.url) as server:
        rig = Rig(local, server, settings)
        await local.start_server()
        await local.until_listening()
        await server.publish(build(releases[0]))
        await local.start_nodes()
        await rig.until_serving(1)
        load = Load(address=local.members[N1], rng=random.Random(SEED))
        upgrades = await _upgrade_under(load, rig, releases)
        kept = [path.name.partition("-")[0] for path in (local.state(N1) / "old").iterdir()]
    assert not load.failed
    assert kept == [str(UPGRADES)], "old states are kept one at a time"
    assert load.outcomes["OK"] >= CALLS
    assert load.connections > 100
    assert len(upgrades) >= UPGRADES
    for upgrade in upgrades:
        waited = [began for began, ended in load.calls if began < upgrade.serving_at and ended > upgrade.quiesced_at]
        assert waited, f"nobody called while the node went to version {upgrade.to_version}"


async def _upgrade_under(load: Load, rig: Rig, releases: Sequence[Path]) -> Sequence[UpgradeRow]:
    """Go from release to release while clients call, and return the upgrades."""
    async with asyncio.TaskGroup() as clients:
        for _ in range(CHANNELS):
            clients.create_task(load.stay(1))
        clients.create_task(load.come())
        for version, (previous, release) in enumerate(pairwise(releases), start=2):
            await rig.server.publish(build(release, previous=previous))
            load.newest = version
            clients.create_task(load.stay(version))
            await rig.until_serving(version)
        while len(load.calls) < CALLS:  # noqa: ASYNC110 - the callers need not say it each time
            await asyncio.sleep(0.1)
        load.stopped = True
    return (await rig.server.status(SYSTEM)).nodes[0].upgrades
