"""Rollouts in virtual time, under clocks that differ: limits hold at every second, and healthy fleets get there."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from segue.model.amount import Amount, Percent, at_least
from segue.model.fleet import Fleet, NodeFact
from segue.model.hand import Action, Deed, Hand
from segue.model.ids import ClassName, NodeId, Version
from segue.schedule import Budget, Canary, Halted, Rate, Rules, Waves, decide, halted

START = datetime(2024, 5, 2, 12, 0, 0, tzinfo=UTC)
STALE_S, LEASE_S = 5, 10
STEADY = settings(derandomize=True, deadline=None, max_examples=40)

CLASSES = (ClassName("Origin"), ClassName("Edge"))
Fate = Literal["upgrades", "fails", "dies", "reboots"]
#: For so long a node that reboots is not heard: longer than it takes any node here to be lost.
REBOOT_S = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What will happen to one node, in seconds since the start.

    Attributes:
        class_name: what it runs; each class has an upgrade of its own.
        fate: how its upgrade will go, `takes_s` after the grant; a node that dies falls silent for good, one that
            reboots for a while, and is upgraded when it is back.
        report_s: it says nothing in between.
        waits_from_s: when it asks for a permit.
        silences: `(from, to)` when it cannot be heard.
    """

    zone: str
    class_name: ClassName = CLASSES[0]
    fate: Fate = "upgrades"
    takes_s: int = 3
    waits_from_s: int = 0
    report_s: int = 1
    silences: tuple[tuple[int, int], ...] = ()


@dataclass
class Rollout:
    """One system, second by second; it knows what is so, and `decide` only what nodes said."""

    lives: dict[NodeId, Life]
    rules: Rules
    skews: tuple[int, ...] = (0,)
    hand: Hand = field(default_factory=Hand)
    second: int = 0
    facts: dict[NodeId, NodeFact] = field(default_factory=dict)
    #: `{class: [(the second that it really was, the time by the server's clock)]}`
    granted: dict[ClassName, list[tuple[int, datetime]]] = field(default_factory=lambda: {name: [] for name in CLASSES})
    #: `{class: {node whose silence halted its rollout: when}}`, as the server writes it down
    lost_at: dict[ClassName, dict[NodeId, datetime]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node, life in self.lives.items():
            self.facts[node] = NodeFact(
                id=node,
                class_name=life.class_name,
                version=Version(1),
                attributes={"zone": life.zone} if life.zone else {},
                last_seen=START,
                report_s=float(life.report_s),
            )

    @property
    def now(self) -> datetime:
        """The server's clock: several servers' clocks differ, and any of them may answer."""
        return START + timedelta(seconds=self.second + self.skews[self.second % len(self.skews)])

    @property
    def upgraded(self) -> set[NodeId]:
        return {node for node, fact in self.facts.items() if fact.version == 2}

    @property
    def away(self) -> set[NodeId]:
        return {
            node
            for node, fact in self.facts.items()
            if fact.away_since or self.unheard_s(node) >= max(STALE_S, 3 * fact.report_s)
        }

    def unheard_s(self, node: NodeId) -> float:
        return (self.now - self.facts[node].last_seen).total_seconds()

    def is_lost(self, node: NodeId) -> bool:
        """Say whether the node is lost by every server's clock."""
        slack = max(self.skews) - min(self.skews)
        return self.unheard_s(node) >= max(LEASE_S, 6 * self.lives[node].report_s) + slack

    def is_heard(self, node: NodeId) -> bool:
        """Say whether anything that the node says now is heard."""
        life, away_since = self.lives[node], self.facts[node].away_since
        if away_since and life.fate in ("dies", "reboots"):
            died_s = (self.now - away_since).total_seconds() - life.takes_s
            if died_s >= 0 and (life.fate == "dies" or died_s < REBOOT_S):
                return False
        return not any(start <= self.second < end for start, end in life.silences)

    def live(self) -> None:
        """Let a second pass on every node."""
        self.second += 1
        for node, life in self.lives.items():
            if self.second % life.report_s or not self.is_heard(node):
                continue
            fact = replace(self.facts[node], last_seen=self.now)
            if fact.away_since and self.now - fact.away_since >= timedelta(seconds=life.takes_s):
                if life.fate != "fails":
                    fact = replace(fact, version=Version(2), away_since=None, upgraded_at=self.now)
                else:
                    fact = replace(fact, away_since=None, failed=True, failed_at=self.now)
            elif not (fact.away_since or fact.waits_since or fact.failed or fact.version == 2):
                fact = replace(fact, waits_since=self.now if self.second >= life.waits_from_s else None)
            self.facts[node] = fact

    def fleet(self, name: ClassName) -> Fleet:
        """Return what the server knows when it decides on a class."""
        return Fleet(
            class_name=name,
            target=Version(2),
            nodes=self.facts,
            begun_at=START,
            hand=self.hand,
            grants=tuple(at for _, at in self.granted[name]),
            lost_at=self.lost_at.get(name, {}),
        )

    def grant(self) -> set[NodeId]:
        """Let the server decide on each class, and write down what it granted, and by whom a rollout was halted."""
        granted: set[NodeId] = set()
        for name in CLASSES:
            halt = halted(self.fleet(name), self.rules, self.now)
            if halt is not None and name not in self.lost_at:
                assert isinstance(halt.reason, Halted)
                self.lost_at[name] = dict.fromkeys(halt.reason.silent, self.now)
            for node in decide(self.fleet(name), self.rules, self.now).grants:
                self.facts[node] = replace(self.facts[node], away_since=self.now, waits_since=None)
                granted.add(node)
                self.granted[name].append((self.second, self.now))
        return granted

    def check(self, grants: set[NodeId], upgraded: set[NodeId], failed: set[NodeId]) -> None:
        for budget in self.rules.budgets:
            group_of = {node: life.zone or "(none)" if budget.per else "all" for node, life in self.lives.items()}
            away, sizes = Counter(group_of[node] for node in self.away), Counter(group_of.values())
            for node in grants:
                group = group_of[node]
                assert away[group] <= budget.limit_of(sizes[group]), (budget, group, self)
        for name in CLASSES:
            of_class = {node for node, life in self.lives.items() if life.class_name == name}
            if not grants & of_class:
                continue
            if self.rules.canary is not None:
                self.check_canary(self.rules.canary, of_class, upgraded & of_class, failed & of_class)
            if self.rules.waves is not None:
                self.check_waves(self.rules.waves, of_class, failed & of_class)
            if self.rules.rate is not None:
                self.check_rate(self.rules.rate, self.granted[name])
            if self.rules.failure_budget is not None:
                limit = at_least(self.rules.failure_budget, len(of_class))
                assert len(failed & of_class) < limit, self
                released = {node for node in of_class if self.facts[node].away_since or self.facts[node].version == 2}
                assert len(failed & of_class) + sum(self.is_lost(node) for node in released) < limit, self

    def check_waves(self, waves: Waves, of_class: set[NodeId], failed: set[NodeId]) -> None:
        """No wave begins before the one before it has soaked."""
        soak = timedelta(seconds=waves.soak_s)
        facts = [self.facts[node] for node in of_class]
        if self.rules.failure_budget is not None:
            facts = [fact for fact in facts if not self.is_out_of_waves(fact, soak)]
        soaked = sum(fact.upgraded_at is not None and fact.upgraded_at <= self.now - soak for fact in facts)
        gone = sum(fact.away_since is not None or fact.version == 2 for fact in facts)
        members = len(facts) - (len(failed) if self.rules.failure_budget else 0)
        gone += 0 if self.rules.failure_budget else len(failed)
        size = next((size for size in (at_least(one, members) for one in waves.sizes) if soaked < size), len(of_class))
        assert gone <= size, (gone, size, self)

    def is_out_of_waves(self, fact: NodeFact, soak: timedelta) -> bool:
        """Say whether the budget of failures alone counts the node: it was lost before it had soaked."""
        has_gone = fact.away_since is not None or fact.version == 2
        has_soaked = fact.upgraded_at is not None and fact.upgraded_at + soak <= fact.last_seen
        return has_gone and not has_soaked and self.unheard_s(fact.id) >= max(LEASE_S, 6 * fact.report_s)

    def check_rate(self, rate: Rate, granted: list[tuple[int, datetime]]) -> None:
        """By the clock, and so in truth but for what clocks differ."""
        recent = [at for _, at in granted if self.now - at < timedelta(seconds=rate.per_s)]
        assert len(recent) <= rate.nodes, self
        slack = max(self.skews) - min(self.skews)
        really = [second for second, _ in granted if self.second - second < rate.per_s - slack]
        assert len(really) <= rate.nodes, self

    def check_canary(self, canary: Canary, of_class: set[NodeId], upgraded: set[NodeId], failed: set[NodeId]) -> None:
        soak = timedelta(seconds=canary.soak_s)
        soaked = [n for n in upgraded if self.facts[n].upgraded_at <= self.now - soak]  # type: ignore[operator]
        assert not isinstance(canary.nodes, tuple)
        needed = at_least(canary.nodes, len(of_class))
        if len(soaked) < needed:
            gone = upgraded | {node for node in of_class if self.facts[node].away_since}
            assert len(gone) <= needed, (gone, self)
            assert not failed, (failed, self)

    def run(self, limit_s: int) -> bool:
        """Go on for `limit_s` seconds or until all are upgraded; say whether they are."""
        for _ in range(limit_s):
            self.live()
            failed = {node for node, fact in self.facts.items() if fact.failed}
            self.check(self.grant(), self.upgraded, failed)
            if len(self.upgraded) == len(self.lives):
                return True
        return False


def lives(fates: SearchStrategy[Fate]) -> SearchStrategy[dict[NodeId, Life]]:
    silence = st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))
    life = st.builds(
        Life,
        zone=st.sampled_from(["", "a", "b"]),
        class_name=st.sampled_from(CLASSES),
        fate=fates,
        takes_s=st.integers(1, 8),
        waits_from_s=st.integers(0, 10),
        report_s=st.sampled_from([1, 1, 2, 4]),
        silences=st.lists(silence, max_size=2).map(tuple),
    )
    return st.lists(life, min_size=1, max_size=7).map(
        lambda drawn: {NodeId(f"n{number}"): life for number, life in enumerate(drawn)}
    )


SHARES = st.sampled_from([Percent(20), Percent(50), Percent(100)])
SOAKS = st.integers(0, 20).map(float)
RULES = st.builds(
    Rules,
    budgets=st.lists(
        st.builds(Budget, limit=st.integers(1, 3) | SHARES, per=st.sampled_from([None, "zone"])), max_size=2
    ).map(tuple),
    canary=st.none() | st.builds(Canary, nodes=st.integers(1, 3) | SHARES, soak_s=SOAKS),
    waves=st.none()
    | st.builds(Waves, sizes=st.sampled_from([(1, 3), (2,), (Percent(20), Percent(50), Percent(100))]), soak_s=SOAKS),
    rate=st.none() | st.builds(Rate, nodes=st.integers(1, 3), per_s=st.integers(1, 20).map(float)),
    spread_s=st.none() | st.just(30.0),
    stale_s=st.just(float(STALE_S)),
    lease_s=st.just(float(LEASE_S)),
)
#: What clocks differ by, second by second: less than it takes a node to be called silent.
SKEWS = st.lists(st.integers(-1, 1), min_size=1, max_size=7).map(tuple)


@STEADY
@given(lives=lives(st.just("upgrades")), rules=RULES, skews=SKEWS)
def test_a_rollout_of_nodes_that_come_back_ends(
    lives: dict[NodeId, Life], rules: Rules, skews: tuple[int, ...]
) -> None:
    # each node alone, one after the other, with every silence and all that rules have it wait for
    longest = 120 + len(lives) * (30 + 20 + 20 + 3 * 4) + 2 * 3 * 20
    rollout = Rollout(lives, rules, skews)
    assert rollout.run(longest), rollout


@STEADY
@given(lives=lives(st.just("upgrades")), rules=RULES, budget=st.integers(1, 3) | SHARES, skews=SKEWS)
def test_silences_that_are_shorter_than_a_lease_halt_nothing(
    lives: dict[NodeId, Life], rules: Rules, budget: Amount, skews: tuple[int, ...]
) -> None:
    """A rollout of healthy nodes ends whatever their failure budget, and their clocks."""
    brief = {
        node: replace(life, silences=tuple((start, min(end, start + 6)) for start, end in life.silences[:1]))
        for node, life in lives.items()
    }
    rollout = Rollout(brief, replace(rules, failure_budget=budget), skews)
    assert rollout.run(120 + len(lives) * (30 + 20 + 20 + 3 * 4) + 2 * 3 * 20), rollout
    assert not rollout.lost_at


@STEADY
@given(
    lives=lives(st.sampled_from(["upgrades", "upgrades", "fails", "dies", "reboots"])),
    rules=RULES,
    budget=st.none() | st.integers(1, 3) | SHARES,
    skews=SKEWS,
)
def test_rules_hold_while_nodes_fail_and_die(
    lives: dict[NodeId, Life], rules: Rules, budget: Amount | None, skews: tuple[int, ...]
) -> None:
    rollout = Rollout(lives, replace(rules, failure_budget=budget), skews)
    event("ended" if rollout.run(150) else "stopped")


@STEADY
@given(
    lives=lives(st.sampled_from(["upgrades", "fails", "dies", "reboots"])),
    rules=RULES,
    limit=st.integers(1, 2),
    skews=SKEWS,
)
def test_a_halted_rollout_grants_nothing_until_it_is_resumed(
    lives: dict[NodeId, Life], rules: Rules, limit: int, skews: tuple[int, ...]
) -> None:
    """A halt stands, also when the nodes are back whose silence was the reason."""
    rollout = Rollout(lives, replace(rules, failure_budget=limit), skews)
    standing: set[ClassName] = set()
    for _ in range(150):
        rollout.live()
        halts = {name: halted(rollout.fleet(name), rollout.rules, rollout.now) for name in CLASSES}
        granted = rollout.grant()
        assert not any(halts[lives[node].class_name] for node in granted), rollout
        assert all(halts[name] for name in standing), rollout
        standing.update(name for name, halt in halts.items() if halt)
    failed = {node for node, fact in rollout.facts.items() if fact.failed}
    for name in CLASSES:
        # Those that were away when it was spent may fail yet; what rules let go at once is not undone.
        halt = halted(rollout.fleet(name), rollout.rules, rollout.now)
        dead = {node for node in lives if rollout.is_lost(node)}
        gone = len({node for node in failed | dead if lives[node].class_name == name})
        event("halted" if halt else "not halted")
        assert (halt is not None) or gone < limit or not rollout.granted[name], rollout
    rollout.hand = Hand(resumed=Action(deed=Deed.RESUME, at=rollout.now + timedelta(seconds=2), who="ann"))
    for name in CLASSES:
        assert halted(rollout.fleet(name), rollout.rules, rollout.now) is None, rollout


@STEADY
@given(lives=lives(st.just("upgrades")), rules=RULES, at=st.integers(0, 60), skews=SKEWS)
def test_a_paused_rollout_grants_nothing(
    lives: dict[NodeId, Life], rules: Rules, at: int, skews: tuple[int, ...]
) -> None:
    rollout = Rollout(lives, rules, skews)
    rollout.run(at)
    rollout.hand = Hand(paused=Action(deed=Deed.PAUSE, at=rollout.now, who="ann"))
    before = dict(rollout.granted)
    rollout.run(60)
    assert rollout.granted == before


@STEADY
@given(lives=lives(st.sampled_from(["upgrades", "fails"])), budgets=RULES.map(lambda rules: rules.budgets))
def test_without_a_canary_a_failure_holds_up_nobody_else(
    lives: dict[NodeId, Life], budgets: tuple[Budget, ...]
) -> None:
    rollout = Rollout(lives, Rules(budgets=budgets, stale_s=float(STALE_S), lease_s=float(LEASE_S)))
    rollout.run(400)
    assert rollout.upgraded == {node for node, life in lives.items() if life.fate == "upgrades"}


@STEADY
@given(lives=lives(st.just("fails")), rules=RULES.filter(lambda rules: rules.canary is not None))
def test_a_wrong_release_is_stopped_on_the_canaries(lives: dict[NodeId, Life], rules: Rules) -> None:
    rollout = Rollout(lives, rules)
    rollout.run(150)
    assert rules.canary is not None
    for name in {life.class_name for life in lives.values()}:
        failed = [node for node, fact in rollout.facts.items() if fact.failed and fact.class_name == name]
        assert not isinstance(rules.canary.nodes, tuple)
        assert 1 <= len(failed) <= at_least(rules.canary.nodes, sum(life.class_name == name for life in lives.values()))
    assert not any(fact.away_since for fact in rollout.facts.values())


def test_six_healthy_nodes_by_two_after_one_canary() -> None:
    lives = {NodeId(f"n{number}"): Life(zone="ab"[number % 2]) for number in range(6)}
    rules = Rules(budgets=(Budget(limit=2), Budget(limit=1, per="zone")), canary=Canary(nodes=1, soak_s=10))
    rollout = Rollout(lives, rules)
    assert rollout.run(100)
    # n0 alone for 3 s and its soak of 10 s; then one of each zone, 3 s for each of three rounds
    assert rollout.second == 1 + 3 + 10 + 3 * 3
