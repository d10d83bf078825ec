"""Whatever is lost, repeated or late, and whoever starts anew: in the end the server has counted each call once."""

import json
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from segue.layer.usage import Unreported, Usage
from segue.model.ids import NodeId, SystemName, Version
from segue.model.usage import CallCounts
from segue.node.reports import Gathered, Reports
from segue.server.facts import Report
from segue.server.memory import MemoryStore
from segue.server.sql import SqlStore
from segue.server.store import Store
from segue.wire.messages import Heartbeat, UsageRow

T = TypeVar("T")

SYSTEM = SystemName("blockstore")
#: Small, so that most heartbeats have no room for all.
ROWS = 3


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits")


class Process:
    """An application's process as the agent sees it, with the real counts in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.usage = Usage(callers_limit=2)
        self._unreported = Unreported(self.usage)

    async def report(self, acknowledged: int = 0, rows: int = 0) -> dict[str, Any]:
        report: dict[str, Any] = {"facts": {}}
        if not rows:
            return report
        batch = self._unreported.take(acknowledged, rows)
        return report | self._calls(batch.counts) | {"batch": batch.number, "more": batch.more}

    def end(self, folder: Path) -> None:
        last = {"facts": {}} | self._calls(self._unreported.rest())
        (folder / f"{self.name}.json").write_text(json.dumps(last))

    def _calls(self, counts: CallCounts) -> dict[str, Any]:
        return {"incarnation": self.name, "calls": [{**asdict(key), "count": count} for key, count in counts.items()]}


class Fleet(RuleBasedStateMachine):
    """One node with its agent and up to two processes, and an upgrade server on a store."""

    def __init__(self, open_store: Callable[[Path, Store | None], Store]) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self.state = Path(self._folder.name)
        (self.state / "usage").mkdir()
        self._open_store = open_store
        self.store = open_store(self.state, None)
        self.all_processes: list[Process] = []
        self.processes = [self._process()]
        self.reports = Reports(self.state / "usage", ROWS)
        self.late: list[tuple[UsageRow, ...]] = []
        self.calls: Counter[tuple[int, str, str]] = Counter()

    def _process(self) -> Process:
        self.all_processes.append(Process(f"p{len(self.all_processes)}"))
        return self.all_processes[-1]

    def _gather(self) -> tuple[Gathered, tuple[UsageRow, ...]]:
        gathered = now(self.reports.gather(self.processes))
        rows = tuple(
            UsageRow(incarnation=report["incarnation"], **call)
            for report in gathered.reports
            for call in report.get("calls", ())
        )
        assert len(rows) <= ROWS
        return gathered, rows

    def _hear(self, rows: tuple[UsageRow, ...]) -> None:
        said = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="serving")
        self.store.hear([Report(system=SYSTEM, node=NodeId("n1"), said=said, usage=rows)])

    @rule(
        data=st.data(),
        version=st.integers(1, 2),
        method=st.just("/s/Get"),
        who=st.sampled_from(["billing", "ipv4:10.0.0.7:1", "ipv4:10.0.0.7:2", "n2"]),
        outcome=st.sampled_from(["OK", "NOT_FOUND"]),
        count=st.integers(1, 3),
    )
    def call(self, data: st.DataObject, version: int, method: str, who: str, outcome: str, count: int) -> None:
        process = data.draw(st.sampled_from(self.processes), label="process")
        tally = process.usage.tally(Version(version), method, "current", False, Version(version))
        tally[who][outcome] += count
        self.calls[version, method, outcome] += count

    @rule()
    def heartbeat(self) -> None:
        gathered, rows = self._gather()
        self._hear(rows)
        self.reports.arrived(gathered)

    @rule()
    def heartbeat_whose_answer_is_lost(self) -> None:
        _, rows = self._gather()
        self._hear(rows)

    @rule(arrives_late=st.booleans())
    def heartbeat_that_is_lost(self, arrives_late: bool) -> None:
        _, rows = self._gather()
        if arrives_late:
            self.late.append(rows)

    @rule()
    def heartbeat_that_arrives_again_later(self) -> None:
        gathered, rows = self._gather()
        self._hear(rows)
        self.reports.arrived(gathered)
        self.late.append(rows)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def arrive_late(self, data: st.DataObject) -> None:
        self._hear(self.late.pop(data.draw(st.integers(0, len(self.late) - 1))))

    @rule()
    def agent_restarts(self) -> None:
        self.reports = Reports(self.state / "usage", ROWS)

    @precondition(lambda self: len(self.processes) < 2)
    @rule()
    def application_starts_beside(self) -> None:
        self.processes.append(self._process())

    @rule()
    def application_restarts(self) -> None:
        self.processes.pop(0).end(self.state / "usage")
        if not self.processes:
            self.processes.append(self._process())

    @rule()
    def server_restarts(self) -> None:
        self.store = self._open_store(self.state, self.store)

    def teardown(self) -> None:
        try:
            for _ in range(100):
                gathered, rows = self._gather()
                self._hear(rows)
                self.reports.arrived(gathered)
                if not gathered.more:
                    break
            else:
                raise AssertionError("there is ever more to report")
            for rows in self.late:
                self._hear(rows)
            stored = {
                (row.caller_version, row.caller, row.method, row.outcome): row.count
                for row in self.store.usage_of(SYSTEM)
            }
            counted: Counter[tuple[int, str, str, str]] = Counter()
            for process in self.all_processes:
                for key, count in process.usage.counts().items():
                    counted[key.caller_version, key.caller, key.method, key.outcome] += count
            assert stored == counted
            assert self.calls == _without_callers(stored)
            assert self._gather()[1] == ()
            assert list((self.state / "usage").iterdir()) == []
        finally:
            if isinstance(self.store, SqlStore):
                self.store.close()
            self._folder.cleanup()


def _without_callers(counts: Mapping[tuple[Version, str, str, str], int]) -> Counter[tuple[int, str, str]]:
    sums: Counter[tuple[int, str, str]] = Counter()
    for (version, _caller, method, outcome), count in counts.items():
        sums[version, method, outcome] += count
    return sums


class InMemory(Fleet):
    """A store that is forgotten with its server, which here never ends."""

    def __init__(self) -> None:
        super().__init__(lambda _, before: before or MemoryStore())


class InSql(Fleet):
    """A store on disk, opened anew by each server."""

    def __init__(self) -> None:
        super().__init__(_reopened)


def _reopened(folder: Path, before: Store | None) -> Store:
    if isinstance(before, SqlStore):
        before.close()
    return SqlStore(folder / "database.sqlite")


TestInMemory = InMemory.TestCase
TestInMemory.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestInSql = InSql.TestCase
TestInSql.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
