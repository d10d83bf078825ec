"""The load and the plain server that an upgrade is compared with: what is counted is what happened."""

import random
from pathlib import Path

import pytest

from benchmarks.load import Caller, Load, loaded
from benchmarks.pause import Pause, measure_pauses, pause_figures
from benchmarks.restart import plain
from segue.testing.lineage import tally_callers, write_lineage


@pytest.mark.end_to_end
@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_a_cold_restart_is_seen_by_its_callers(tmp_path: Path) -> None:
    """Calls fail while there is nobody, and what was stored is there afterwards."""
    lineage = write_lineage(tmp_path / "releases", 1)
    state = tmp_path / "state"
    state.mkdir()
    with tally_callers(lineage) as calling:
        async with plain(lineage.folders[0], state, calling) as server:
            async with calling(1, server.address) as caller:
                assert await caller.add("kept", 3) == 3
            seen = await server.restart(random.Random(1))
            assert min(seen.cold_ms, seen.longest_gap_ms) > 0
            assert 0 < seen.failed_calls < seen.calls
            async with calling(1, server.address) as caller:
                assert await caller.read("kept") == 3
            async with loaded(calling, server.address, random.Random(1)) as load:
                await load.callers[0].call()
            assert load.calls > 0
            assert load.failed_calls == 0


@pytest.mark.end_to_end
@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_an_upgrade_is_measured_under_load() -> None:
    """No call fails in it, and some do in a cold restart; the transform is part of the pause."""
    pauses, restarts = await measure_pauses(1, random.Random(1), lambda: None)
    found = pause_figures(pauses)
    assert found.failed_calls == 0 < found.calls
    assert 0 < found.median_ms < found.with_transform_ms
    assert restarts[0].failed_calls > 0


def test_what_callers_met_is_of_all_of_them() -> None:
    """The longest call and the longest gap are any caller's; calls are all that were made."""
    load = Load()
    for took_s, answered_at, failed in (([0.1, 0.3], [1.0, 1.5], 0), ([0.2], [1.0], 2), ([], [], 1)):
        caller = Caller(None, "")  # type: ignore[arg-type]
        caller.took_s, caller.answered_at, caller.failed = took_s, answered_at, failed
        load.callers.append(caller)
    assert (load.calls, load.failed_calls) == (6, 3)
    assert load.longest_call_ms() == pytest.approx(300)
    assert load.longest_gap_ms() == pytest.approx(500)


def test_the_transform_is_taken_off_each_upgrade() -> None:
    """And not one median off another."""
    pauses = [
        Pause(pause_ms=pause_ms, transform_ms=transform_ms, longest_call_ms=pause_ms + 7, calls=10, failed_calls=1)
        for pause_ms, transform_ms in ((100.0, 90.0), (200.0, 150.0), (300.0, 280.0))
    ]
    found = pause_figures(pauses)
    assert (found.median_ms, found.callers_ms, found.with_transform_ms) == (20.0, 27.0, 200.0)
    assert (found.upgrades, found.calls, found.failed_calls) == (3, 30, 3)
    assert found.verdict == "kept"
