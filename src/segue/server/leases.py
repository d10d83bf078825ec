"""A permit is a lease: whether it is kept alive, by the database's clock alone. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from segue.model.silence import lost_after_s, unheard
from segue.server.facts import Permit, Picture

#: One of all servers looks after the database so often.
TEND_EVERY_S = 5.0
#: Some server looks after the database every few seconds. If none did for so long, none was there to hear nodes; or
#: the clock was put forward or back, and then nobody knows.
_GAP = timedelta(seconds=15)


def listens_since(tended_at: datetime | None, began_at: datetime | None, now: datetime) -> datetime | None:
    """Return since when nodes were heard without a gap; None if nobody ever looked after the database.

    Args:
        tended_at: when a server last looked after the database; None if none did.
        began_at: when one began to, after none did for a while; None likewise.
        now: the time by the database's clock, as all else.
    """
    if tended_at is None or began_at is None:
        return None
    return began_at if abs(now - tended_at) <= _GAP else now


def was_just_tended(tended_at: datetime | None, now: datetime) -> bool:
    """Say whether a server looked after the database a moment ago; not if the clock was put back since."""
    return tended_at is not None and timedelta() <= now - tended_at < timedelta(seconds=TEND_EVERY_S)


def changed_leases(picture: Picture) -> Iterator[Permit]:
    """Yield the open permits that have lapsed, and those that had and whose nodes were heard of since.

    A lease ends when its node is lost: see `model.silence`. A permit that has lapsed is not given to another node: its
    node may be in the middle of a transform, so it is away.

    Args:
        picture: the system, at the moment that counts.
    """
    nodes = {node.id: node for node in picture.nodes}
    for permit in picture.permits:
        if permit.returned_at is not None:
            continue
        node = nodes.get(permit.node)
        seen = max(node.last_seen, permit.granted_at) if node else permit.granted_at
        lease = timedelta(seconds=lost_after_s(node.report_s if node else 0.0))
        silence = unheard(seen, picture.at, picture.listens_since)
        if permit.lapsed_at is None and silence >= lease:
            yield replace(permit, lapsed_at=picture.at - silence + lease)
        # By when it was heard of: that nobody was there to hear it for a while brings no node back.
        elif permit.lapsed_at is not None and abs(picture.at - seen) < lease:
            yield replace(permit, lapsed_at=None)
