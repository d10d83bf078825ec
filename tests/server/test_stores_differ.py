"""Rule: the battery for stores finds a store that is wrong."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from segue.model.clock import Clock
from segue.model.ids import Version
from segue.server.facts import NotYet
from segue.server.memory import MemoryStore
from segue.server.store import Close, Store, see_nothing, welcome
from segue.testing.stores import store_agreement


class Miscounts(MemoryStore):
    """Counts one call too many."""

    def hear(self, reports, greet=welcome):  # type: ignore[no-untyped-def]
        return super().hear(
            [
                replace(one, usage=tuple(row.model_copy(update={"count": row.count + 1}) for row in one.usage))
                for one in reports
            ],
            greet,
        )


class BelievesTheLast(MemoryStore):
    """Lets a count that comes late take the place of a larger one."""

    def _hear(self, known, report, at, greet):  # type: ignore[no-untyped-def]
        for row in report.usage:
            called = (row.node_version, row.caller_version, row.caller, row.method)
            kind = (*called, row.answered_by, row.from_node, row.outcome)
            known.usage.pop((report.node, row.incarnation, kind), None)
        return super()._hear(known, report, at, greet)


class ForgetsWhen(MemoryStore):
    """Takes each report of a count for a call that was just made."""

    def _hear(self, known, report, at, greet):  # type: ignore[no-untyped-def]
        heard = super()._hear(known, report, at, greet)
        known.usage.update({key: (count, at) for key, (count, _) in known.usage.items()})
        return heard


class KnowsEveryTag(MemoryStore):
    """Takes it that nothing changed from whoever says so."""

    def _hear(self, known, report, at, greet):  # type: ignore[no-untyped-def]
        if report.tag and report.node in known.tags:
            known.tags[report.node] = report.tag
        return super()._hear(known, report, at, greet)


class RewritesHistory(MemoryStore):
    """Removes what is old, whatever it is."""

    def tend(self, keep, watch=see_nothing):  # type: ignore[no-untyped-def]
        for known in self._systems.values():
            known.history = [entry for entry in known.history if entry.at >= self.now() - keep]
        return super().tend(keep, watch)


class NeverLapses(MemoryStore):
    """Keeps every lease alive."""

    def _settled(self, system):  # type: ignore[no-untyped-def]
        picture, _ = super()._settled(system)
        return replace(picture, permits=self._picture(system).permits), []


class KeepsPermits(MemoryStore):
    """Leaves a permit with a node that is not there any more."""

    def _greet(self, known, report, at, greet):  # type: ignore[no-untyped-def]
        def greeted(*seen):  # type: ignore[no-untyped-def]
            greet(*seen)

        super()._greet(known, report, at, greeted)


class ForgetsSince(MemoryStore):
    """Takes the last time that a node asked for the first."""

    def admit(self, system, judge):  # type: ignore[no-untyped-def]
        verdicts = judge(self.picture_of(system))
        for verdict in verdicts:
            if isinstance(verdict, NotYet):
                self._system(system).asks.pop(verdict.ask.node, None)
        return super().admit(system, lambda _: verdicts)


class ReturnsTwice(MemoryStore):
    """Lets the last return of a permit count."""

    def give_back(self, system, returns, watch=see_nothing):  # type: ignore[no-untyped-def]
        permits = self._system(system).permits
        for back in returns:
            if back.permit in permits:
                permits[back.permit] = replace(permits[back.permit], returned_at=None)
        return super().give_back(system, returns, watch)


class LeavesGaps(MemoryStore):
    """Takes any version above the newest."""

    def append(self, release, watch=see_nothing):  # type: ignore[no-untyped-def]
        releases = self._system(release.system).releases
        if release.version > Version(len(releases)):
            releases.append(release)
        return tuple(releases)


class ForgetsFinal(MemoryStore):
    """Takes every failure for one that passes."""

    def give_back(self, system, returns, watch=see_nothing):  # type: ignore[no-untyped-def]
        def passing(close: Close) -> Close:
            return lambda held, now: replace(close(held, now), final=False)

        return super().give_back(system, [replace(back, close=passing(back.close)) for back in returns], watch)


class HaltsTwice(MemoryStore):
    """Writes down a halt again that stands already."""

    def _keep_halts(self, known, changes, at):  # type: ignore[no-untyped-def]
        for halt in changes.begun:
            known.halts.pop((halt.class_name, halt.version), None)
        super()._keep_halts(known, changes, at)


class AlwaysListened(MemoryStore):
    """Counts time in which nobody was there to hear nodes."""

    def tend(self, keep, watch=see_nothing):  # type: ignore[no-untyped-def]
        began_at = self._began_at
        did = super().tend(keep, watch)
        self._began_at = began_at or self._began_at
        return did


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "wrong",
    [
        KeepsPermits,
        ForgetsFinal,
        Miscounts,
        BelievesTheLast,
        ForgetsWhen,
        ForgetsSince,
        KnowsEveryTag,
        NeverLapses,
        RewritesHistory,
        ReturnsTwice,
        LeavesGaps,
        HaltsTwice,
        AlwaysListened,
    ],
)
def test_the_battery_finds_it(wrong: type[MemoryStore]) -> None:
    def open_wrong(clock: Clock) -> AbstractContextManager[Store]:
        return nullcontext(wrong(clock))

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
