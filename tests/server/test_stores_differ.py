"""Rule: the battery for stores finds a store that is wrong."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from segue.model.ids import Version
from segue.server.memory import MemoryStore
from segue.server.store import NotYet, Store
from segue.testing.stores import store_agreement


class Miscounts(MemoryStore):
    """Counts one call too many."""

    def hear(self, system, node, usage):  # type: ignore[no-untyped-def]
        return super().hear(system, node, [row.model_copy(update={"count": row.count + 1}) for row in usage])


class ForgetsSince(MemoryStore):
    """Takes the last time that a node asked for the first."""

    def admit(self, system, judge):  # type: ignore[no-untyped-def]
        verdict = judge(self.picture_of(system))
        if isinstance(verdict, NotYet):
            self._system(system).asks.pop(verdict.ask.node, None)
        return super().admit(system, lambda _: verdict)


class ReturnsTwice(MemoryStore):
    """Lets the last return of a permit count."""

    def give_back(self, system, node, permit, close):  # type: ignore[no-untyped-def]
        permits = self._system(system).permits
        if permit in permits:
            permits[permit] = replace(permits[permit], returned_at=None)
        return super().give_back(system, node, permit, close)


class LeavesGaps(MemoryStore):
    """Takes any version above the newest."""

    def append(self, release):  # type: ignore[no-untyped-def]
        releases = self._system(release.system).releases
        if release.version > Version(len(releases)):
            releases.append(release)
        return tuple(releases)


class ForgetsFinal(MemoryStore):
    """Takes every failure for one that passes."""

    def give_back(self, system, node, permit, close):  # type: ignore[no-untyped-def]
        return super().give_back(system, node, permit, lambda held: replace(close(held), final=False))


@pytest.mark.parametrize("wrong", [ForgetsFinal, Miscounts, ForgetsSince, ReturnsTwice, LeavesGaps])
def test_the_battery_finds_it(wrong: type[MemoryStore]) -> None:
    def open_wrong() -> AbstractContextManager[Store]:
        return nullcontext(wrong())

    found = settings(
        max_examples=400,
        stateful_step_count=20,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(store_agreement(open_wrong), settings=found)
