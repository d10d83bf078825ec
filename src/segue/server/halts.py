"""Which rollouts their failure budgets have halted, and which of those halts are over. Pure.

Whether a rollout is halted is the schedule's to say. Here is what of that is written down: that it halted, once; whose
silence was a reason, so that it counts until an operator has looked; and that it is over, and why.
"""

from collections.abc import Iterator

from segue.model.hand import Action, Deed, Hand
from segue.model.ids import ClassName, Version
from segue.schedule import Halted
from segue.server.decisions import Rollouts
from segue.server.facts import Halt, HaltChanges, Picture

#: What operators do that may end a halt; by others nothing changes for it.
_DEEDS = frozenset({Deed.RESUME, Deed.RETRY, Deed.SKIP, Deed.FORGET})


def watch(picture: Picture) -> HaltChanges:
    """Say what changed of halts: which begin now, and which are over, with the reason.

    Args:
        picture: the system with the halts that stand, at the moment that counts.
    """
    names = {ClassName(node.said.class_name) for node in picture.nodes} | {halt.class_name for halt in picture.halts}
    found = {(halt.class_name, halt.version): halt for name in sorted(names) for halt in _halts(picture, name)}
    standing = {(halt.class_name, halt.version) for halt in picture.halts}
    return HaltChanges(
        begun=tuple(halt for place, halt in found.items() if place not in standing),
        over=tuple(
            (halt, _why(picture, halt)) for halt in picture.halts if (halt.class_name, halt.version) not in found
        ),
    )


def halt_of(picture: Picture, class_name: ClassName, version: Version, reason: Halted) -> Halt:
    """Return what is written down of a rollout that is found halted at the moment of the picture."""
    return Halt(
        class_name=class_name,
        version=version,
        at=picture.at,
        limit=reason.limit,
        failed=reason.failed,
        silent=(*reason.silent, *reason.back),
    )


def _halts(picture: Picture, class_name: ClassName) -> Iterator[Halt]:
    for version, refusal in Rollouts(picture, class_name).halts(picture.at):
        assert isinstance(refusal.reason, Halted), refusal
        yield halt_of(picture, class_name, version, refusal.reason)


def _why(picture: Picture, halt: Halt) -> str:
    """Say why a halt is over."""
    hand = Hand.of(picture.actions)
    aborted = hand.aborted.get(halt.version)
    if aborted is not None:
        return _by(aborted)
    rollouts = Rollouts(picture, halt.class_name)
    if not any(rollouts.is_behind(node, halt.version) for node in picture.nodes):
        return "no node is left that has yet to go there"
    later = rollouts.leads_past(halt.version)
    if later is not None:
        return f"release {later} leads on, and no node stops at {halt.version}"
    deeds = [one for one in picture.actions if one.at >= halt.at and one.deed in _DEEDS]
    return _by(deeds[-1]) if deeds else "fewer failures are left than halt it"


def _by(action: Action) -> str:
    return f"{action.deed}{f' {action.node}' if action.node else ''} by {action.who}"
