"""A power cut at any moment loses nothing: what counts is on disk before it has its name, and the journal comes after.

A kill does not show that, since the kernel still writes what a process left behind: the order of system calls does.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from segue.model.ids import Version
from segue.testing.crashing import system_calls
from segue.testing.crashing.disk import faults
from segue.testing.crashing.lives import lives
from segue.testing.crashing.plans import without_crash
from segue.testing.crashing.points import read_journal
from segue.testing.crashing.store import write_bundles
from segue.testing.crashing.trial import run_trial
from segue.testing.crashing.ways import WAYS, Way


@pytest.mark.end_to_end
@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "ways", [pytest.param(WAYS[:2], id="upgrade"), pytest.param(WAYS, id="every way", marks=pytest.mark.crash)]
)
async def test_on_the_way(ways: Sequence[Way], tmp_path: Path) -> None:
    """Nothing that the node needs could be lost at any moment, and nothing half done could count."""
    why_not = system_calls.why_not()
    if why_not:
        pytest.skip(why_not)
    bundles = write_bundles(tmp_path / "releases", max(way.target for way in ways))
    arrived: dict[Version, Path] = {}
    named: set[str] = set()
    for way in ways:
        trace, state = tmp_path / f"{way.name}.strace", tmp_path / way.name / "state"
        ran = arrived.get(way.ran)
        async with lives(system_calls.command(trace)) as starts:
            await run_trial(tmp_path / way.name, starts, without_crash(way, "no crash"), bundles, ran=ran)
        arrived.setdefault(way.target, state)
        before = len(read_journal(ran / "journal.jsonl")) if ran else 0
        calls = system_calls.read(trace.read_text(errors="replace").splitlines())
        wrong = list(faults(calls, state, before, read_journal(state / "journal.jsonl")))
        assert not wrong, "\n".join((way.name, *wrong))
        named |= {one.target.relative_to(state).parts[0] for one in calls if one.target and state in one.target.parents}
    assert {"states", "releases", "usage"} <= named
