"""What verdicts make of a system: the same for every store, and for who decides on after them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from segue.model.ids import ClassName, NodeId, Version
from segue.server.entries import granted, shortened
from segue.server.facts import Ask, Granted, Halt, Held, NotYet, Permit, Picture, Verdict
from segue.server.history import Entry


@dataclass(slots=True)
class Outcome:
    """What is to be kept of verdicts that were given one after the other.

    Attributes:
        granted: permits that are new, by id, the oldest first.
        shortened: permits that were there, and lead less far from now on, by id.
        asks: `{node: its request as it is kept}` of those that are new or repeated; None of one that is gone.
        entries: what is to be recorded.
        halts: what holds nodes whose rollout its failure budget has halted, by class and version.
    """

    granted: dict[str, Permit] = field(default_factory=dict)
    shortened: dict[str, Permit] = field(default_factory=dict)
    asks: dict[NodeId, Ask | None] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    halts: dict[tuple[ClassName, Version], Halt] = field(default_factory=dict)

    def of(self, picture: Picture) -> Picture:
        """Return the system as it is after that."""
        kept: dict[NodeId, Ask | None] = {ask.node: ask for ask in picture.asks}
        kept.update(self.asks)
        permits = [self.shortened.get(permit.id, permit) for permit in picture.permits] + list(self.granted.values())
        asks = sorted((ask for ask in kept.values() if ask is not None), key=lambda ask: (ask.asked_at, ask.node))
        return replace(picture, permits=tuple(permits), asks=tuple(asks))


def outcome_of(picture: Picture, verdicts: Iterable[Verdict | Exception]) -> Outcome:
    """Say what is to be kept of verdicts; of an error nothing is.

    Args:
        picture: the system that they were given in.
        verdicts: in their order.
    """
    became = Outcome()
    before: Mapping[NodeId, Ask] = {ask.node: ask for ask in picture.asks}
    for verdict in verdicts:
        match verdict:
            case Granted(permit):
                became.granted[permit.id] = permit
                became.asks[permit.node] = None
                became.entries.append(granted(permit))
            case NotYet(ask):
                last = became.asks[ask.node] if ask.node in became.asks else before.get(ask.node)
                became.asks[ask.node] = verdict.kept.after(last)
                if verdict.halt is not None:
                    became.halts[verdict.halt.class_name, verdict.halt.version] = verdict.halt
            case Held(permit):
                _shorten(became, picture, permit.id, permit.to_version)
            case Exception():
                pass
            case _:
                assert_never(verdict)
    return became


def _shorten(became: Outcome, picture: Picture, permit: str, to_version: Version) -> None:
    mine = became.granted if permit in became.granted else became.shortened
    held = mine.get(permit) or next(one for one in picture.permits if one.id == permit)
    if held.to_version != to_version:
        mine[permit] = replace(held, to_version=to_version)
        became.entries.append(shortened(mine[permit], held.to_version, picture.at))


def only(verdicts: Sequence[Verdict | Exception]) -> Verdict:
    """Return the one verdict that there is.

    Raises:
        Exception: it is an error.
    """
    (became,) = verdicts
    if isinstance(became, Exception):
        raise became
    return became
