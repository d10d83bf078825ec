"""The battery that any `Store` must pass: the memory store is the model, Hypothesis thinks of what to do.

    def open_mine() -> AbstractContextManager[Store]: ...

    TestMine = store_agreement(open_mine).TestCase

Needs Hypothesis.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import SearchStrategy

from segue.model.hand import Action, Deed
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.server.memory import MemoryStore
from segue.server.store import Ask, Granted, Held, Judge, NodeRecord, NotYet, Permit, Picture, Release, Store, Verdict
from segue.wire.messages import DiskRow, Heartbeat, ProgressRow, UpgradeRow, UsageRow

OpenStore: TypeAlias = Callable[[], AbstractContextManager[Store]]

START = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
#: Few of each, so that what is done meets again.
SYSTEMS = st.sampled_from([SystemName("blockstore"), SystemName("blockstore-b")])
NODES = st.sampled_from([NodeId(name) for name in ("n1", "n2", "N2")])
CLASSES = st.sampled_from([ClassName("BlockNode"), ClassName("Edge")])
VERSIONS = st.integers(1, 4).map(Version)
TIMES = st.integers(0, 3_600_000_000).map(lambda us: START + timedelta(microseconds=us))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)

USAGE: SearchStrategy[list[UsageRow]] = st.lists(
    st.builds(
        UsageRow,
        incarnation=st.sampled_from(["a", "b"]),
        node_version=VERSIONS,
        caller_version=VERSIONS,
        caller=st.sampled_from(["10.0.0.7", "billing", "(others)"]),
        method=st.sampled_from(["/s/Put", "/s/Get"]),
        answered_by=st.sampled_from(["current", "past", "future"]),
        from_node=st.booleans(),
        outcome=st.sampled_from(["OK", "NOT_FOUND"]),
        count=st.integers(0, 2**53),
    ),
    max_size=5,
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
UPGRADES: SearchStrategy[UpgradeRow] = st.builds(
    UpgradeRow,
    from_version=VERSIONS,
    to_version=VERSIONS,
    pids=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pause_ms=FLOATS,
    install_future_ms=FLOATS,
    transform_ms=FLOATS,
    transform_bytes=st.integers(0, 2**63 - 1),
    quiesced_at=TIMES,
    serving_at=TIMES,
    hand_over=st.sampled_from(["port", "stop and start"]),
    probation_failed=st.booleans(),
)
AMOUNTS = st.integers(0, 2**63 - 1)
PROGRESS: SearchStrategy[ProgressRow] = st.builds(
    ProgressRow,
    items_done=AMOUNTS,
    items_total=st.none() | AMOUNTS,
    bytes_done=AMOUNTS,
    bytes_total=st.none() | AMOUNTS,
    seconds_left=st.none() | st.floats(0, 1e9),
)
DISKS: SearchStrategy[DiskRow] = st.builds(
    DiskRow, state_bytes=AMOUNTS, old_bytes=AMOUNTS, releases_bytes=AMOUNTS, free_bytes=AMOUNTS, measured_at=TIMES
)
HEARTBEATS: SearchStrategy[Heartbeat] = st.builds(
    Heartbeat,
    class_name=CLASSES,
    version=st.integers(0, 4),
    address=TEXTS,
    attributes=st.dictionaries(TEXTS, TEXTS, max_size=2),
    phase=TEXTS,
    target_version=st.none() | VERSIONS,
    pid=st.none() | st.integers(1, 2**22),
    failure=st.none() | TEXTS,
    facts=st.dictionaries(TEXTS, FLOATS, max_size=2),
    usage=st.just(()),
    upgrades=st.lists(UPGRADES, max_size=2).map(tuple),
    hand_over=st.sampled_from(["port", "stop and start"]),
    progress=st.none() | PROGRESS,
    attempts=st.integers(0, 9),
    attempts_limit=st.none() | st.integers(0, 9),
    retry_at=st.none() | TIMES,
    waits_for_operator=st.booleans(),
    crashes=st.integers(0, 9),
    disk=st.none() | DISKS,
)
ACTIONS: SearchStrategy[Action] = st.builds(
    Action,
    deed=st.sampled_from(Deed),
    at=TIMES,
    who=TEXTS,
    why=TEXTS,
    version=st.none() | VERSIONS,
    node=st.none() | NODES,
    gate=st.none() | TEXTS.filter(bool),
)


def store_agreement(open_store: OpenStore) -> type[RuleBasedStateMachine]:
    """Make the machine that does the same to a store and to the model, and wants the same from both.

    Args:
        open_store: opens an empty store, and lets go of it at the end.
    """

    class StoreAgreement(_StoreAgreement):
        def open(self) -> AbstractContextManager[Store]:
            return open_store()

    return StoreAgreement


class JudgeFailedError(Exception):
    """What a judge raises in the battery."""


class _StoreAgreement(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.model = MemoryStore()
        self.heard: set[tuple[SystemName, NodeId]] = set()
        self.granted: list[tuple[SystemName, NodeId, str]] = []
        self.clock = START
        self.store: Store = self.model
        self.systems: set[SystemName] = set()

    def open(self) -> AbstractContextManager[Store]:
        raise NotImplementedError

    @initialize()
    def open_the_store(self) -> None:
        self.store = self.resources.enter_context(self.open())

    @rule(system=SYSTEMS, ahead=st.integers(-1, 2), content=st.sampled_from("abc"), at=TIMES, words=TEXTS)
    def publish(self, system: SystemName, ahead: int, content: str, at: datetime, words: str) -> None:
        release = Release(
            system=system,
            version=Version(len(self.model.history_of(system)) + ahead),
            sha256=ContentHash(content * 64),
            size_bytes=len(words),
            description=words,
            published_at=at,
            manifest="{}",
        )
        self.systems.add(system)
        assert self.store.append(release) == self.model.append(release)

    @rule(system=SYSTEMS, node=NODES, said=HEARTBEATS, usage=USAGE, at=TIMES)
    def hear(self, system: SystemName, node: NodeId, said: Heartbeat, usage: list[UsageRow], at: datetime) -> None:
        self.systems.add(system)
        record = NodeRecord(id=node, version=Version(said.version), said=said, last_seen=at)
        assert self.store.hear(system, record, usage) == self.model.hear(system, record, usage)
        self.heard.add((system, node))

    @precondition(lambda self: self.heard)
    @rule(data=st.data(), limit=st.integers(0, 2), to_version=VERSIONS, through=st.integers(1, 3), class_name=CLASSES)
    def ask(self, data: st.DataObject, limit: int, to_version: Version, through: int, class_name: ClassName) -> None:
        system, node = data.draw(st.sampled_from(sorted(self.heard)))
        self.clock += timedelta(seconds=1)
        ask = Ask(
            node=node,
            class_name=class_name,
            from_version=Version(max(0, to_version - through)),
            to_version=to_version,
            asked_at=self.clock,
            last_asked_at=self.clock,
        )
        judge = _at_most(limit, ask, f"p{len(self.granted)}")
        verdict = self.store.admit(system, judge)
        assert verdict == self.model.admit(system, judge)
        if isinstance(verdict, Granted):
            self.granted.append((system, node, verdict.permit.id))

    @precondition(lambda self: self.heard)
    @rule(data=st.data())
    def ask_a_judge_that_raises(self, data: st.DataObject) -> None:
        system, _node = data.draw(st.sampled_from(sorted(self.heard)))

        def judge(picture: Picture) -> Verdict:
            raise JudgeFailedError(picture.system)

        for store in (self.store, self.model):
            try:
                store.admit(system, judge)
            except JudgeFailedError:
                continue
            raise AssertionError(f"{store!r} swallowed what its judge raised")

    @precondition(lambda self: self.granted)
    @rule(data=st.data(), failure=st.none() | TEXTS, final=st.booleans(), by=st.none() | VERSIONS, at=TIMES)
    def give_back(
        self, data: st.DataObject, failure: str | None, final: bool, by: Version | None, at: datetime
    ) -> None:
        system, node, permit = data.draw(st.sampled_from(self.granted))
        shown: list[Permit] = []

        def close(held: Permit) -> Permit:
            shown.append(held)
            return replace(held, returned_at=at, failure=failure, final=final, failed_version=by)

        returned = [store.give_back(system, node, permit, close) for store in (self.store, self.model)]
        assert returned == [True, True]
        assert shown in ([], [held for held in shown[:1] if held.returned_at is None] * 2)

    @rule(system=SYSTEMS, node=NODES, permit=st.sampled_from(["p0", "p1", "zz"]), at=TIMES)
    def give_back_anything(self, system: SystemName, node: NodeId, permit: str, at: datetime) -> None:
        def close(held: Permit) -> Permit:
            return replace(held, returned_at=at, failure="x")

        returned = [store.give_back(system, node, permit, close) for store in (self.store, self.model)]
        assert returned[0] == returned[1]

    @rule(system=SYSTEMS, action=ACTIONS)
    def act(self, system: SystemName, action: Action) -> None:
        """Whoever decides is shown the same by both; a node that is forgotten is gone until it speaks again."""
        shown: list[Picture] = []

        def judge(picture: Picture) -> Action:
            shown.append(picture)
            return action

        self.systems.add(system)
        assert self.store.act(system, judge) == self.model.act(system, judge) == action
        assert shown[0] == shown[1]
        assert self.store.actions_of(system) == (*shown[0].actions, action)
        after = self.store.picture_of(system)
        if action.deed is Deed.FORGET and action.node is not None:
            assert [node.id for node in after.nodes if node.id == action.node and node.last_seen <= action.at] == []
            assert not [held for held in after.permits if held.node == action.node and held.returned_at is None]
            assert action.node not in [ask.node for ask in after.asks]

    @rule(system=SYSTEMS)
    def act_by_a_judge_that_raises(self, system: SystemName) -> None:
        def judge(picture: Picture) -> Action:
            raise JudgeFailedError(picture.system)

        for store in (self.store, self.model):
            try:
                store.act(system, judge)
            except JudgeFailedError:
                continue
            raise AssertionError(f"{store!r} swallowed what its judge raised")

    @invariant()
    def agree(self) -> None:
        """Compare pictures after every step: what a step does wrongly is seen at that step."""
        for system in self.systems:
            picture = self.store.picture_of(system)
            assert picture == self.model.picture_of(system)
            _check_times(picture)

    def teardown(self) -> None:
        try:
            assert self.store.systems() == self.model.systems()
            for system in (*self.systems, SystemName("unheard-of")):
                assert self.store.usage_of(system) == self.model.usage_of(system)
                assert self.store.callers_of(system) == self.model.callers_of(system)
                assert self.store.history_of(system) == self.model.history_of(system)
                assert self.store.picture_of(system).is_known == self.model.picture_of(system).is_known
        finally:
            self.resources.close()


def _at_most(limit: int, ask: Ask, permit: str) -> Judge:
    def judge(picture: Picture) -> Verdict:
        away = [held for held in picture.permits if held.returned_at is None]
        for held in away:
            if held.node == ask.node:
                return Held(replace(held, to_version=min(held.to_version, ask.to_version)))
        if len(away) >= limit:
            return NotYet(ask, f"{len(away)} away")
        return Granted(
            Permit(
                id=permit,
                node=ask.node,
                class_name=ask.class_name,
                from_version=ask.from_version,
                to_version=ask.to_version,
                granted_at=ask.last_asked_at,
            )
        )

    return judge


def _check_times(picture: Picture) -> None:
    """Equality of aware times does not see the zone: look at it."""
    times = [
        *(release.published_at for release in picture.releases),
        *(node.last_seen for node in picture.nodes),
        *(at for permit in picture.permits for at in (permit.granted_at, permit.returned_at)),
        *(at for ask in picture.asks for at in (ask.asked_at, ask.last_asked_at)),
        *(action.at for action in picture.actions),
    ]
    assert all(at is None or at.utcoffset() == timedelta(0) for at in times)
