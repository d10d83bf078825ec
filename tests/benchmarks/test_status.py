"""What looks at a large fleet are measured on: a rollout in its middle, with nodes of every kind."""

from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.status import Looking, fill, measure_statuses, refresh
from segue.server.sql import SqlStore
from segue.server.summary import summary_of
from segue.testing.server import SYSTEM


def test_the_fleet_is_in_the_middle_of_a_rollout(tmp_path: Path) -> None:
    with closing(SqlStore(tmp_path / "database.sqlite")) as store:
        fill(store, 200, tmp_path / "bundles")
        refresh(store)
        picture = store.glance_at(SYSTEM)
        found = summary_of(picture, store.callers_of(SYSTEM), picture.at)
    (rollout,) = found.rollouts
    assert (found.nodes, found.versions) == (200, {1: 100, 2: 100})
    assert (rollout.done, rollout.left, found.away.count, found.silent.count) == (100, 100, 2, 0)
    assert found.classes[0].waiting == 98
    assert [attribute.name for attribute in found.attributes] == ["zone", "rack"]


@pytest.mark.end_to_end
@pytest.mark.timeout(120)
async def test_both_databases_are_looked_at() -> None:
    looking = Looking(nodes=20, rounds=1)
    ticks: list[int] = []
    found, left_out = await measure_statuses(looking, lambda: ticks.append(1))
    assert (len(ticks), left_out) == (looking.steps, "")
    assert set(found) == {"sqlite", "postgresql"}
    for figures in found.values():
        assert figures.nodes == 20
        assert figures.command_ms > figures.server_ms > 0
