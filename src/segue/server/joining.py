"""Nodes that join: with which version one begins that never ran any. Pure."""

from datetime import datetime

from segue.model.hand import Hand
from segue.model.ids import ClassName, Version
from segue.server.decisions import NO_ANSWERS, Answers, Rollouts, manifest_in
from segue.server.facts import Picture
from segue.server.rollouts import touching


def begins_with(picture: Picture, class_name: ClassName, now: datetime, answers: Answers = NO_ANSWERS) -> Version:
    """Return the version that a node of a class begins with which never ran any; 0 if no release has the class.

    It is the newest, less each release on its way to the class that may yet be found wrong: such a one would else get
    to nodes that nobody let go there. A release is right to begin with if it is not aborted, some node of the class
    serves it, and either all others do, but for those that are skipped, or it has stood what its schedule tries it by.
    Where no node of the class serves anything yet there is nobody to try it first: then only an abort counts.

    Args:
        picture: the system.
        class_name: what the node is to run.
        now: UTC.
        answers: what webhooks say.
    """
    having = [one.version for one in picture.releases if class_name in manifest_in(one.manifest).classes]
    if not having:
        return Version(0)
    hand, rollouts = Hand.of(picture.actions), Rollouts(picture, class_name, answers)
    nodes = [node for node in picture.nodes if node.said.class_name == class_name and node.version > 0]

    def is_right(release: Version) -> bool:
        if release in hand.aborted:
            return False
        if not nodes:
            return True
        if not any(node.version >= release for node in nodes):
            return False
        is_over = all(node.version >= release or (release, node.id) in hand.skipped for node in nodes)
        return is_over or rollouts.is_proven(release, now)

    first = having[-1]
    for release in reversed(touching(picture.releases, class_name)):
        if is_right(release):
            break
        first = Version(release - 1)
    return first
