"""How a system stands, in words for whoever does something to it: who runs what, who is away, since when. Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from segue.model.hand import Action
from segue.model.ids import NodeId
from segue.server.facts import Permit, Picture
from segue.server.words import counted, moment, named


def held_by(picture: Picture, node: NodeId) -> Permit | None:
    """Return the permit that a node holds; None if it holds none."""
    return next((one for one in picture.permits if one.node == node and one.returned_at is None), None)


def mixed(picture: Picture) -> list[str]:
    """Say which versions run together, and what that means."""
    versions = Counter(node.version for node in picture.nodes if node.version)
    if not versions:
        return []
    if len(versions) == 1:
        ((version, count),) = versions.items()
        return [f"{counted(count, 'node')} {run_verb(range(count))} version {version}."]
    parts = ", ".join(
        f"{counted(count, 'node')} {run_verb(range(count))} version {version}"
        for version, count in sorted(versions.items())
    )
    return [
        f"The fleet is mixed: {parts}.",
        "They work together for as long as it takes: each node answers callers of every version, by simulations.",
    ]


def away(picture: Picture) -> str:
    """Say who holds a permit, which no action takes away."""
    names = [one.node for one in picture.permits if one.returned_at is None]
    if not names:
        return "No node holds a permit."
    return (
        f"{named(names)} {'holds a permit and goes' if len(names) == 1 else 'hold permits and go'} on to the end of it."
    )


def run_verb(subjects: Sequence[object]) -> str:
    """Return what `subjects` do with a version."""
    return "runs" if len(subjects) == 1 else "run"


def since(action: Action, now: datetime) -> str:
    """Say since when an action holds, and whose it is."""
    why = f": {action.why}" if action.why else ""
    return f"since {moment(action.at, now)}, by {action.who}{why}"
