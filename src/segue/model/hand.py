"""What operators did to a rollout by hand, and what all of it together means now. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

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
    #: A node gets its permit whatever the rules say.
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
    """

    deed: Deed
    at: datetime
    who: str
    why: str = ""
    version: Version | None = None
    node: NodeId | None = None
    gate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """What all the actions of a system mean together.

    Attributes:
        paused: the pause that holds; None if none does.
        resumed: the last resumption; failures before it count against no budget.
        aborted: `{release: what ended it}`
        approved: `{(release, gate's name): the approval}`
        skipped: `{(release, node): the order to leave it out}`
        retried: `{(release, node): the order to try again}`; failures before it do not count.
        forced: `{(release, node): the override}`
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

    @classmethod
    def of(cls, actions: Iterable[Action]) -> "Hand":
        """Put together what `actions`, oldest first, mean."""
        last: dict[tuple[Deed, Version | None, NodeId | str | None], Action] = {}
        paused: Action | None = None
        for action in actions:
            match action.deed:
                case Deed.PAUSE:
                    paused = paused or action
                case Deed.RESUME:
                    paused = None
                case Deed.RETRY:
                    last.pop((Deed.SKIP, action.version, action.node), None)
                case _:
                    pass
            last[action.deed, action.version, action.node or action.gate] = action
        resumed = [action for (deed, _, _), action in last.items() if deed is Deed.RESUME]
        return cls(
            paused=paused,
            resumed=max(resumed, key=lambda action: action.at, default=None),
            aborted=_by_version(last, Deed.ABORT),
            approved={(v, str(gate)): action for (deed, v, gate), action in last.items() if deed is Deed.APPROVE and v},
            skipped=_by_node(last, Deed.SKIP),
            retried=_by_node(last, Deed.RETRY),
            forced=_by_node(last, Deed.FORCE),
            retired=_by_version(last, Deed.RETIRE),
        )


def _by_version(
    last: Mapping[tuple[Deed, Version | None, NodeId | str | None], Action], deed: Deed
) -> dict[Version, Action]:
    return {version: action for (kind, version, _), action in last.items() if kind is deed and version}


def _by_node(
    last: Mapping[tuple[Deed, Version | None, NodeId | str | None], Action], deed: Deed
) -> dict[tuple[Version, NodeId], Action]:
    return {
        (version, NodeId(node)): action
        for (kind, version, node), action in last.items()
        if kind is deed and version and node
    }
