"""What operators did to a rollout by hand, and what all of it together means now. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from segue.model.ids import NodeId, Version


class Deed(StrEnum):
    """What an operator can do by hand; each is kept in the history of the system, and never rewritten.

    `FORCE` is an override: the node goes against the rules.
    """

    #: No node of the system gets a permit until `RESUME`.
    PAUSE = "pause"
    #: Grants go on; failures until now count no more against a failure budget, for somebody has looked at them.
    RESUME = "resume"
    #: No node gets a permit to stop at this release any more; a later release leads on through it.
    ABORT = "abort"
    #: A gate of a release, by its name, is open.
    APPROVE = "approve"
    #: A node is left out of the rollout of a release: nobody waits for it, and it gets no permit.
    SKIP = "skip"
    #: A node that was skipped, or that failed, is tried again.
    RETRY = "retry"
    #: A node gets its next permit, and that one alone, whatever the rules say.
    FORCE = "force"
    #: Calls of a version are refused, and its simulations are removed.
    RETIRE = "retire"
    #: A node that will not come back is no longer of the system; one that speaks again, is.
    FORGET = "forget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that an operator did.

    Attributes:
        deed: what.
        at: when, by the upgrade database's clock (UTC).
        who: the operator's name, as they gave it.
        why: their reason; may be empty.
        version: the release that it is about; None for all of the system.
        node: the node that it is about; None if none.
        gate: the gate's name, of an approval; None else.
        forced: whether what stands against it did not count; a `FORCE` is that by itself.
        unused_s: of a retirement that was not forced: for how many seconds nobody had called with the version.
    """

    deed: Deed
    at: datetime
    who: str
    why: str = ""
    version: Version | None = None
    node: NodeId | None = None
    gate: str | None = None
    forced: bool = False
    unused_s: float | None = None


#: What an action is about: the later of two that are about the same stands for both.
_Place: TypeAlias = tuple[Deed, Version | None, NodeId | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """What all the actions of a system mean together: where two contradict, the later holds.

    Attributes:
        paused: the pause that holds; None if none does.
        resumed: the last resumption; failures before it count against no budget.
        aborted: `{release: what ended it}`
        approved: `{(release, gate's name): the approval}`
        skipped: `{(release, node): the order to leave it out}`, unless it was taken in again, or forced, since.
        retried: `{(release, node): the order to try again}`; failures before it do not count.
        forced: `{(release, node): the override}`, unless the node was skipped since, or `paused` is later.
        retired: `{version: what retired it}`
    """

    paused: Action | None = None
    resumed: Action | None = None
    aborted: Mapping[Version, Action] = field(default_factory=dict)
    approved: Mapping[tuple[Version, str], Action] = field(default_factory=dict)
    skipped: Mapping[tuple[Version, NodeId], Action] = field(default_factory=dict)
    retried: Mapping[tuple[Version, NodeId], Action] = field(default_factory=dict)
    forced: Mapping[tuple[Version, NodeId], Action] = field(default_factory=dict)
    retired: Mapping[Version, Action] = field(default_factory=dict)

    def __post_init__(self) -> None:
        both = self.skipped.keys() & self.forced.keys()
        assert not both, f"{sorted(both)} are skipped and forced: put together by `Hand.of`, the later holds"

    @classmethod
    def of(cls, actions: Iterable[Action]) -> "Hand":
        """Put together what `actions`, oldest first, mean. Their order counts, and not the clock that was read."""
        last: dict[_Place, Action] = {}
        paused: Action | None = None
        #: Overrides from before the pause: they wait for its end.
        held: frozenset[_Place] = frozenset()
        for action in actions:
            place = action.deed, action.version, action.node or action.gate
            match action.deed:
                case Deed.PAUSE if paused is None:
                    paused, held = action, frozenset(one for one in last if one[0] is Deed.FORCE)
                case Deed.RESUME:
                    paused, held = None, frozenset()
                case Deed.SKIP:
                    last.pop((Deed.FORCE, *place[1:]), None)
                case Deed.FORCE:
                    last.pop((Deed.SKIP, *place[1:]), None)
                    held -= {place}
                case Deed.RETRY:
                    last.pop((Deed.SKIP, *place[1:]), None)
                case _:
                    pass
            last[place] = action
        resumed = [action for (deed, _, _), action in last.items() if deed is Deed.RESUME]
        return cls(
            paused=paused,
            resumed=max(resumed, key=lambda action: action.at, default=None),
            aborted=_by_version(last, Deed.ABORT),
            approved={(v, str(gate)): action for (deed, v, gate), action in last.items() if deed is Deed.APPROVE and v},
            skipped=_by_node(last, Deed.SKIP),
            retried=_by_node(last, Deed.RETRY),
            forced=_by_node({place: action for place, action in last.items() if place not in held}, Deed.FORCE),
            retired=_by_version(last, Deed.RETIRE),
        )


def _by_version(last: Mapping[_Place, Action], deed: Deed) -> dict[Version, Action]:
    return {version: action for (kind, version, _), action in last.items() if kind is deed and version}


def _by_node(last: Mapping[_Place, Action], deed: Deed) -> dict[tuple[Version, NodeId], Action]:
    return {
        (version, NodeId(node)): action
        for (kind, version, node), action in last.items()
        if kind is deed and version and node
    }
