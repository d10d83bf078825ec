"""The battery that any `Store` must pass: the memory store is the model, Hypothesis thinks of what to do.

    def open_mine(clock: Clock) -> AbstractContextManager[Store]: ...

    TestMine = store_agreement(open_mine).TestCase

Needs Hypothesis.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import SearchStrategy

from segue.model.clock import Clock
from segue.model.hand import Action, Deed
from segue.model.history import Kind
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.server.facts import Ask, Granted, Halt, HaltChanges, Held, NotYet, Permit, Picture, Release, Report, Verdict
from segue.server.history import END, Entry
from segue.server.memory import MemoryStore
from segue.server.store import Back, Judge, Store, Watch
from segue.wire.messages import AMOUNT_LIMIT, DiskRow, Heartbeat, ProgressRow, UpgradeRow, UsageRow

OpenStore: TypeAlias = Callable[[Clock], AbstractContextManager[Store]]

START = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
#: Few of each, so that what is done meets again.
SYSTEMS = st.sampled_from([SystemName("blockstore"), SystemName("blockstore-b")])
NODES = st.sampled_from([NodeId(name) for name in ("n1", "n2", "N2")])
CLASSES = st.sampled_from([ClassName("BlockNode"), ClassName("Edge")])
VERSIONS = st.integers(1, 4).map(Version)
TIMES = st.integers(0, 3_600_000_000).map(lambda us: START + timedelta(microseconds=us))
#: How the time goes on from one deed to the next, in microseconds: leases end meanwhile, and a clock may be set back.
STEPS = st.integers(0, 90_000_000) | st.integers(-5_000_000, 0)
#: Seconds for which a request counts.
GOOD_FOR = st.sampled_from([15.0, 16.25, 90.0])
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
    transform_bytes=st.integers(0, AMOUNT_LIMIT),
    quiesced_at=TIMES,
    serving_at=TIMES,
    hand_over=st.sampled_from(["port", "stop and start"]),
    probation_failed=st.booleans(),
)
AMOUNTS = st.integers(0, AMOUNT_LIMIT)
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
    failure_details=TEXTS,
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
    forced=st.booleans(),
    unused_s=st.none() | st.floats(0, 1e9),
)

HALTS: SearchStrategy[Halt] = st.builds(
    Halt,
    class_name=CLASSES,
    version=VERSIONS,
    at=TIMES,
    limit=st.integers(1, 9),
    failed=st.lists(NODES, max_size=2).map(tuple),
    silent=st.lists(NODES, max_size=2).map(tuple),
)
_Changes: TypeAlias = tuple[list[Halt], set[Version]]
#: Halts that begin, none twice at once, and versions of which those that stand are over.
CHANGES: SearchStrategy[_Changes] = st.tuples(
    st.lists(HALTS, max_size=2, unique_by=lambda halt: (halt.class_name, halt.version)),
    st.sets(VERSIONS, max_size=2),
)


def store_agreement(open_store: OpenStore) -> type[RuleBasedStateMachine]:
    """Make the machine that does the same to a store and to the model, and wants the same from both.

    Args:
        open_store: opens an empty store that goes by a clock, and lets go of it at the end.
    """

    class StoreAgreement(_StoreAgreement):
        def open(self) -> AbstractContextManager[Store]:
            return open_store(self.clock)

    return StoreAgreement


class JudgeFailedError(Exception):
    """What a judge raises in the battery."""


class _Clock:
    """The database's clock, as the battery moves it."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at


class _StoreAgreement(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.clock = _Clock()
        self.model = MemoryStore(self.clock)
        #: {(system, node): what each store calls that which it said last}
        self.heard: dict[tuple[SystemName, NodeId], list[str]] = {}
        self.granted: list[tuple[SystemName, NodeId, str]] = []
        self.store: Store = self.model
        self.systems: set[SystemName] = set()

    @property
    def both(self) -> tuple[Store, Store]:
        return self.store, self.model

    def open(self) -> AbstractContextManager[Store]:
        raise NotImplementedError

    @initialize()
    def open_the_store(self) -> None:
        self.store = self.resources.enter_context(self.open())

    @rule(passes_us=STEPS)
    def pass_time(self, passes_us: int) -> None:
        self.clock.at += timedelta(microseconds=passes_us)

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

    @rule(said=st.lists(st.tuples(SYSTEMS, NODES, HEARTBEATS, USAGE), min_size=1, max_size=3))
    def hear(self, said: list[tuple[SystemName, NodeId, Heartbeat, list[UsageRow]]]) -> None:
        reports = [
            Report(system=system, node=node, said=words, usage=tuple(usage)) for system, node, words, usage in said
        ]
        heard = [store.hear(reports) for store in self.both]
        assert [[one.newest for one in of_store] for of_store in heard[:1]] * 2 == [
            [one.newest for one in of_store] for of_store in heard
        ]
        for report, *ones in zip(reports, *heard, strict=True):
            self.systems.add(report.system)
            self.heard[report.system, report.node] = [one.tag or "" for one in ones]
            assert all(one.tag for one in ones), "who says all need not say it again"

    @precondition(lambda self: self.heard)
    @rule(data=st.data(), usage=USAGE)
    def hear_that_nothing_changed(self, data: st.DataObject, usage: list[UsageRow]) -> None:
        system, node = data.draw(st.sampled_from(sorted(self.heard)))
        others = data.draw(st.sampled_from([self.heard[system, node], ["of another"] * 2]))
        heard = [
            store.hear([Report(system=system, node=node, tag=tag, usage=tuple(usage))])[0]
            for store, tag in zip(self.both, others, strict=True)
        ]
        assert heard[0].newest == heard[1].newest
        assert [one.tag for one in heard] in ([None, None], others)

    @precondition(lambda self: self.heard)
    @rule(data=st.data(), said=HEARTBEATS, why=st.none() | TEXTS, refused=st.sampled_from([False, False, False, True]))
    def greet(self, data: st.DataObject, said: Heartbeat, why: str | None, refused: bool) -> None:
        """Hear of a node that is looked at first: it may be refused, or lose its permit."""
        # Those that were granted a permit have more to lose.
        granted = [(system, node) for system, node, _permit in self.granted]
        system, node = data.draw(st.sampled_from(granted or sorted(self.heard)))
        report = Report(system=system, node=node, said=said)
        shown: list[tuple[object, ...]] = []
        tags: list[str] = []

        def greet(*facts: object) -> str | None:
            shown.append(facts)
            if refused:
                raise JudgeFailedError(system)
            return why

        for store in self.both:
            seen = len(shown)
            try:
                tags += [one.tag or "" for one in store.hear([report], greet)]
            except JudgeFailedError:
                assert refused
                continue
            assert not (refused and len(shown) > seen), f"{store!r} swallowed what its greeting raised"
        assert shown[:1] == shown[1:]
        if tags:
            self.heard[system, node] = tags

    @precondition(lambda self: self.heard)
    @rule(data=st.data(), limit=st.integers(0, 3), wrong=st.none() | st.integers(0, 3))
    def ask(self, data: st.DataObject, limit: int, wrong: int | None) -> None:
        """Several ask at once, some of them twice; one may be refused by an error, which is its own."""
        heard = data.draw(st.sampled_from(sorted(self.heard)))
        nodes = st.sampled_from(sorted(node for system, node in self.heard if system == heard[0]))
        self.clock.at += timedelta(seconds=1)
        made = data.draw(
            st.lists(st.tuples(nodes, VERSIONS, st.integers(1, 3), CLASSES, GOOD_FOR), min_size=1, max_size=4)
        )
        asks = [
            Ask(
                node=node,
                class_name=class_name,
                from_version=Version(max(0, to_version - through)),
                to_version=to_version,
                asked_at=self.clock.at,
                last_asked_at=self.clock.at,
                good_for_s=good_for_s,
            )
            for node, to_version, through, class_name, good_for_s in made
        ]
        shown: list[Picture] = []
        judge = _at_most(limit, asks, f"p{len(self.granted)}", wrong, shown, data.draw(st.none() | HALTS))
        verdicts = self.store.admit(heard[0], judge)
        assert list(map(_said, verdicts)) == list(map(_said, self.model.admit(heard[0], judge)))
        _compare_shown(*shown)
        for verdict in verdicts:
            if isinstance(verdict, Granted):
                self.granted.append((heard[0], verdict.permit.node, verdict.permit.id))

    @precondition(lambda self: self.heard)
    @rule(data=st.data())
    def ask_a_judge_that_raises(self, data: st.DataObject) -> None:
        system, _node = data.draw(st.sampled_from(sorted(self.heard)))

        def judge(picture: Picture) -> Sequence[Verdict | Exception]:
            raise JudgeFailedError(picture.system)

        for store in self.both:
            try:
                store.admit(system, judge)
            except JudgeFailedError:
                continue
            raise AssertionError(f"{store!r} swallowed what its judge raised")

    @precondition(lambda self: self.granted)
    @rule(data=st.data(), failure=st.none() | TEXTS, final=st.booleans(), by=st.none() | VERSIONS)
    def give_back(self, data: st.DataObject, failure: str | None, final: bool, by: Version | None) -> None:
        """Several come back at once, again, or without a permit; one that failed for good may halt a rollout."""
        system, _, _ = data.draw(st.sampled_from(self.granted))
        mine = st.sampled_from([(node, permit) for of, node, permit in self.granted if of == system])
        some = data.draw(st.lists(mine | st.tuples(NODES, st.just("zz")), min_size=1, max_size=3))
        watch = _watching(data.draw(CHANGES))
        shown: list[tuple[Permit, datetime]] = []

        def close(held: Permit, now: datetime) -> Permit:
            shown.append((held, now))
            return replace(held, returned_at=now, failure=failure, final=final, failed_version=by)

        backs = [Back(node, permit, close) for node, permit in some]
        wanted = tuple(permit != "zz" for _, permit in some)
        assert [store.give_back(system, backs, watch) for store in self.both] == [wanted, wanted]
        half = len(shown) // 2
        assert shown[:half] == shown[half:]
        assert all(held.returned_at is None for held, _ in shown)
        assert len({held.id for held, _ in shown}) == half

    @rule(system=SYSTEMS, node=NODES, permit=st.sampled_from(["p0.0", "p1.0", "zz"]))
    def give_back_anything(self, system: SystemName, node: NodeId, permit: str) -> None:
        def close(held: Permit, now: datetime) -> Permit:
            return replace(held, returned_at=now, failure="x")

        returned = [store.give_back(system, [Back(node, permit, close)]) for store in self.both]
        assert returned[0] == returned[1]

    @rule(system=SYSTEMS, action=ACTIONS, changes=CHANGES)
    def act(self, system: SystemName, action: Action, changes: _Changes) -> None:
        """Whoever decides is shown the same by both; a node that is forgotten is gone until it speaks again."""
        shown: list[Picture] = []

        def judge(picture: Picture) -> Action:
            shown.append(picture)
            return action

        self.systems.add(system)
        watch = _watching(changes)
        assert self.store.act(system, judge, watch) == self.model.act(system, judge, watch) == action
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

    @rule(keep_s=st.integers(0, 120), times=st.sampled_from([1, 2, 15]), passes_s=st.sampled_from([5, 100, 3700]))
    def tend(self, keep_s: int, times: int, passes_s: int) -> None:
        """Leases end in time in which somebody is there, and in no other."""
        for _ in range(times):
            self.clock.at += timedelta(seconds=passes_s)
            tended = [store.tend(timedelta(seconds=keep_s)) for store in self.both]
            assert tended[0] == tended[1]

    @rule(changes=CHANGES)
    def tend_to_halts(self, changes: _Changes) -> None:
        self.clock.at += timedelta(seconds=5)
        watch = _watching(changes)
        tended = [store.tend(timedelta(days=1), watch) for store in self.both]
        assert tended[0] == tended[1]

    @invariant()
    def agree(self) -> None:
        """Compare pictures after every step: what a step does wrongly is seen at that step."""
        for system in self.systems:
            picture = self.store.picture_of(system)
            assert picture == self.model.picture_of(system)
            assert picture.listens_since == self.model.picture_of(system).listens_since
            _check_times(picture)

    def teardown(self) -> None:
        try:
            assert self.store.systems() == self.model.systems()
            for system in (*self.systems, SystemName("unheard-of")):
                assert self.store.callers_of(system) == self.model.callers_of(system)
                assert self.store.tally_of(system) == self.model.tally_of(system)
                for node in (None, NodeId("n1")):
                    assert self.store.glance_at(system, node) == self.model.glance_at(system, node)
                    assert self.store.usage_of(system, node) == self.model.usage_of(system, node)
                assert self.store.history_of(system) == self.model.history_of(system)
                assert self.store.picture_of(system).is_known == self.model.picture_of(system).is_known
                whole = self.store.history(system)
                assert whole == self.model.history(system)
                assert all(entry.at.utcoffset() == timedelta(0) for entry in whole)
                after = whole[len(whole) // 2].number if whole else 0
                parts = [store.history(system, after=after, limit=2, node=NodeId("n1")) for store in self.both]
                assert parts[0] == parts[1]
                self._compare_history(system, whole, after)
        finally:
            self.resources.close()

    def _compare_history(self, system: SystemName, whole: tuple[Entry, ...], middle: int) -> None:
        """Want that both tell the same of what is asked for, from either end."""
        numbers = [store.last_number(system) for store in self.both]
        assert numbers[0] == numbers[1] >= (whole[-1].number if whole else 0)
        kinds = (Kind.RUNS, Kind.ACTED, Kind.PHASE)
        for node in (None, NodeId("n1")):
            known = [one for one in whole if one.kind in kinds and node in (None, one.node)]
            first = [store.history(system, after=middle, limit=2, node=node, kinds=kinds) for store in self.both]
            assert list(first[0]) == list(first[1]) == [one for one in known if one.number > middle][:2]
            for before in (END, middle):
                last = [store.history(system, before=before, limit=2, node=node, kinds=kinds) for store in self.both]
                assert list(last[0]) == list(last[1]) == [one for one in known if one.number < before][-2:]


def _compare_shown(found: Picture, wanted: Picture) -> None:
    """Want that a judge is shown the same, but for permits that lead no further than where every node is."""
    lowest = min((node.version for node in wanted.nodes if node.version), default=0)
    matter = [held for held in wanted.permits if held.returned_at is None or held.to_version > lowest]
    assert (found.nodes, found.asks, found.releases, found.at, found.halts) == (
        wanted.nodes, wanted.asks, wanted.releases, wanted.at, wanted.halts
    )  # fmt: skip
    assert list(found.permits) == matter


def _watching(changes: _Changes) -> Watch:
    """Have these halts begin, and these places be without one: of those that stand, or not."""
    begun, over = changes

    def watch(picture: Picture) -> HaltChanges:
        ending = tuple((halt, "it is over") for halt in picture.halts if halt.version in over)
        return HaltChanges(begun=tuple(begun), over=ending)

    return watch


def _at_most(
    limit: int, asks: Sequence[Ask], permit: str, wrong: int | None, shown: list[Picture], halt: Halt | None
) -> Judge:
    """Return a judge that lets so many be away; the one that is `wrong`, by its place, is refused by an error."""

    def judge(picture: Picture) -> Sequence[Verdict | Exception]:
        shown.append(picture)
        away = {held.node: held for held in picture.permits if held.returned_at is None}
        verdicts: list[Verdict | Exception] = []
        for place, ask in enumerate(asks):
            if place == wrong:
                verdicts.append(JudgeFailedError(ask.node))
            elif held := away.get(ask.node):
                away[ask.node] = replace(held, to_version=min(held.to_version, ask.to_version))
                verdicts.append(Held(away[ask.node]))
            elif len(away) >= limit:
                verdicts.append(NotYet(ask, f"{len(away)} away", halt=halt))
            else:
                away[ask.node] = _permit(ask, f"{permit}.{place}")
                verdicts.append(Granted(away[ask.node]))
        return verdicts

    return judge


def _permit(ask: Ask, permit: str) -> Permit:
    return Permit(
        id=permit,
        node=ask.node,
        class_name=ask.class_name,
        from_version=ask.from_version,
        to_version=ask.to_version,
        granted_at=ask.last_asked_at,
    )


def _said(verdict: Verdict | Exception) -> object:
    """Return what is the same of two verdicts that are: two errors are never equal."""
    return str(verdict) if isinstance(verdict, Exception) else verdict


def _check_times(picture: Picture) -> None:
    """Equality of aware times does not see the zone: look at it."""
    times = [
        *(release.published_at for release in picture.releases),
        *(node.last_seen for node in picture.nodes),
        *(at for permit in picture.permits for at in (permit.granted_at, permit.returned_at)),
        *(at for ask in picture.asks for at in (ask.asked_at, ask.last_asked_at)),
        *(action.at for action in picture.actions),
        *(halt.at for halt in picture.halts),
    ]
    assert all(at is None or at.utcoffset() == timedelta(0) for at in times)
