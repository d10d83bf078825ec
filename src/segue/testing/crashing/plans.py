"""What happens in a trial, and what came of it: crashes at every step, or at random times, or none."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from segue.testing.crashing.points import Moment, Point, Step, Victim
from segue.testing.crashing.store import first_values
from segue.testing.crashing.ways import Way

#: Of the crashes at random times: an agent alone is what dies most.
_WEIGHTS: Mapping[Victim, int] = {Victim.AGENT: 3, Victim.APPLICATION: 2, Victim.TRANSFORM: 1, Victim.ALL: 2}
#: Between two crashes at least: an agent is up after that.
_GAP_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A kill from outside: `at_s` seconds after the release was published."""

    at_s: float
    victim: Victim


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens in one trial.

    Attributes:
        way: of the node.
        seed: of all that is random in it.
        points: where it is killed by its agent, besides those that make the way.
        kills: when it is killed from outside.
        fractions: `{point: when within its command, from 0 to 1}`.
        took_s: how long each phase's command takes without a crash.
        values: what is put when the node has arrived.
        looks: True to find out at every moment who could be killed there, which takes time.
    """

    way: Way
    seed: str
    points: tuple[Point, ...] = ()
    kills: tuple[Kill, ...] = ()
    took_s: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, bytes] = field(default_factory=dict)
    looks: bool = False

    @property
    def spares_callers(self) -> bool:
        """Say whether no call may fail: the application is there from begin to end, whoever else is killed."""
        killed = {point.victim for point in (*self.way.first, *self.points)} | {kill.victim for kill in self.kills}
        return bool(self.way.ran) and not self.way.away and killed <= {Victim.AGENT, Victim.TRANSFORM}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one trial.

    Attributes:
        steps: those in the node's journal.
        took_s: `{phase: how long its command took}`, the longest time.
        lasted_s: from the release's publication until the node had arrived.
        crashes: `{point or kill: {kind of process: how many were killed}}`
        there: who could be killed where, if the plan was to look.
        state: the object's folder at the end, without what was put meanwhile.
        kept: what else the node keeps of versions: `{folder in its own}`.
    """

    steps: Sequence[Step]
    took_s: Mapping[str, float]
    lasted_s: float
    crashes: Mapping[str, Mapping[str, int]]
    there: Sequence[Point]
    state: Mapping[str, bytes | None]
    kept: frozenset[str]


def points_of(way: Way, reference: Outcome, victim: Victim) -> list[Point]:
    """Return every point of a way at which `victim` can be killed, in the order of the way.

    Args:
        way: the way.
        reference: what came of it without a crash, but those that make it this way, with looks.
        victim: who is killed.
    """
    crashed = list(way.crashed(reference.steps))
    order = list(Moment)
    points = [point for point in reference.there if point.step in crashed and point.victim is victim]
    return sorted(points, key=lambda point: (crashed.index(point.step), order.index(point.moment)))


def one_of_each_step(points: Sequence[Point], turn: int) -> list[Point]:
    """Return one point of each step, the moment by turns.

    Args:
        points: of some steps.
        turn: which moment is the first step's.
    """
    steps = list(dict.fromkeys(point.step for point in points))
    chosen = []
    for index, step in enumerate(steps):
        mine = [point for point in points if point.step == step]
        chosen.append(mine[(index + turn) % len(mine)])
    return chosen


def one_of_each_moment(points: Sequence[Point]) -> list[list[Point]]:
    """Deal points to as many trials as there are moments: between two crashes a node goes through a whole step."""
    return [dealt for moment in Moment if (dealt := [point for point in points if point.moment is moment])]


def at_points(way: Way, points: Sequence[Point], reference: Outcome, seed: str) -> Plan:
    """Return the plan of a trial with these crashes."""
    return Plan(way=way, seed=seed, points=tuple(points), took_s=reference.took_s, values=values_of(way))


def at_random_times(way: Way, reference: Outcome, seed: str, crashes: int) -> Plan:
    """Return the plan of a trial that is crashed on so many times, each at a random time after the one before."""
    rng = random.Random(seed)
    kills, at_s = [], 0.0
    for _ in range(crashes):
        at_s += rng.uniform(_GAP_S, reference.lasted_s)
        victim = rng.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))[0]
        kills.append(Kill(at_s=at_s, victim=victim))
    return Plan(way=way, seed=seed, kills=tuple(kills), values=values_of(way))


def without_crash(way: Way, seed: str) -> Plan:
    """Return the plan of the trial that others are compared with: without a crash, but those that make the way."""
    return Plan(way=way, seed=seed, values=values_of(way), looks=True)


def values_of(way: Way) -> Mapping[str, bytes]:
    """Return the values that are put at the end of a way, of a node that had none at its begin."""
    return {} if way.ran else first_values(random.Random("the first values"))
