"""The messages of a system at a glance: as large for ten thousand nodes as for ten."""

from pydantic import AwareDatetime

from segue.wire.messages import Message, Name


class Some(Message):
    """Some nodes: how many, and the first of them by name."""

    count: int
    first: tuple[str, ...]


class GroupSummary(Message):
    """Nodes that have a class, or a value of an attribute, in common.

    `versions` is `{version: how many run it}`, 0 for those that have not served yet.
    """

    name: str
    nodes: int
    versions: dict[int, int]
    away: int
    waiting: int
    failed: int
    silent: int


class AttributeSummary(Message):
    """The values of one attribute, with their nodes; of `others` values there is no more room to tell."""

    name: str
    values: tuple[GroupSummary, ...]
    others: int


class RolloutSummary(Message):
    """How far a release is on the nodes of one class; `ends_at` is an estimate by the pace so far, if there is one."""

    class_name: Name
    version: int
    done: int
    left: int
    skipped: int
    began_at: AwareDatetime | None
    ends_at: AwareDatetime | None


class WaitSummary(Message):
    """Nodes that wait for the same: in words, and by the name of the rule; `until` when, if that is known."""

    text: str
    kind: str
    until: AwareDatetime | None
    nodes: Some


class FailureSummary(Message):
    """Nodes that failed in the same way; `gave_up` of them do not try again by themselves."""

    text: str
    nodes: Some
    gave_up: int


class CallerSummary(Message):
    """One of those who call: its calls, and when the last of them was reported."""

    name: str
    from_node: bool
    calls: int
    last_at: AwareDatetime


class VersionUse(Message):
    """Who still calls with a version: those who did last come first, and of `others` only the number is told."""

    version: int
    calls: int
    last_at: AwareDatetime
    callers: tuple[CallerSummary, ...]
    others: int


class HoldSummary(Message):
    """An operator's word that holds now: `deed` is `pause` or `abort`."""

    deed: str
    at: AwareDatetime
    who: str
    why: str
    version: int | None


class HaltSummary(Message):
    """The failure budget of a release is spent on the nodes of a class: none goes to it until an operator resumes."""

    class_name: Name
    version: int
    text: str
    #: Since when, once that is written down.
    at: AwareDatetime | None = None


class DryRunSummary(Message):
    """A rule of a release that is tried dry would hold every node of a class, if it were meant."""

    class_name: Name
    version: int
    text: str


class SystemSummary(Message):
    """A system at one moment, at a glance.

    `oldest` is the oldest version that is still answered, and `phases` is `{phase: how many nodes are in it}`.
    `more_waits` nodes wait for something else than `waits` has, and `more_failures` failed in another way than
    `failures` has.
    """

    system: Name
    at: AwareDatetime
    newest: int
    oldest: int
    description: str
    holds: tuple[HoldSummary, ...]
    halts: tuple[HaltSummary, ...]
    dry_runs: tuple[DryRunSummary, ...] = ()
    nodes: int
    versions: dict[int, int]
    phases: dict[str, int]
    classes: tuple[GroupSummary, ...]
    attributes: tuple[AttributeSummary, ...]
    rollouts: tuple[RolloutSummary, ...]
    away: Some
    silent: Some
    waits: tuple[WaitSummary, ...]
    more_waits: int
    failures: tuple[FailureSummary, ...]
    more_failures: int
    callers: tuple[VersionUse, ...]
