"""A power cut at any moment loses nothing: what counts is on disk before it has its name, and the journal comes after.

A kill does not show that, since the kernel still writes what a process left behind: the order of system calls does.
"""

from pathlib import Path

import pytest

from segue.testing.crashing import system_calls
from segue.testing.crashing.disk import faults
from segue.testing.crashing.lives import lives
from segue.testing.crashing.plans import without_crash
from segue.testing.crashing.points import read_journal
from segue.testing.crashing.store import write_bundles
from segue.testing.crashing.trial import run_trial
from segue.testing.crashing.ways import WAYS

FIRST_START, UPGRADE = (way for way in WAYS if way.name in ("first-start", "upgrade"))


@pytest.mark.end_to_end
@pytest.mark.timeout(300)
async def test_a_first_start_and_an_upgrade(tmp_path: Path) -> None:
    """Nothing that the node needs could be lost at any moment, and nothing half done could count."""
    why_not = system_calls.why_not()
    if why_not:
        pytest.skip(why_not)
    bundles, traces = write_bundles(tmp_path / "releases", UPGRADE.target), {}
    ran = None
    for way in (FIRST_START, UPGRADE):
        traces[way.name] = trace = tmp_path / f"{way.name}.strace"
        async with lives(system_calls.command(trace)) as starts:
            await run_trial(tmp_path / way.name, starts, without_crash(way, "no crash"), bundles, ran=ran)
        ran = tmp_path / way.name / "state"
    first = read_journal(tmp_path / "first-start" / "state" / "journal.jsonl")
    for way, before in ((FIRST_START, 0), (UPGRADE, len(first))):
        state = tmp_path / way.name / "state"
        calls = system_calls.read(traces[way.name].read_text(errors="replace").splitlines())
        wrong = list(faults(calls, state, before, read_journal(state / "journal.jsonl")))
        assert not wrong, "\n".join(wrong)
    named = [call.target.relative_to(state).parts[0] for call in calls if call.target and state in call.target.parents]
    assert {"states", "releases", "usage"} <= set(named)
