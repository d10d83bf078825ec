"""A permit is a lease: whether it is kept alive, by the database's clock alone. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from segue.model.ids import NodeId
from segue.server.facts import Permit

#: A permit lapses when its node was not heard of for so long. Several heartbeats of a fleet that reports every 30
#: seconds fit into it. Less would call a node lost whose upgrade server was started anew.
LEASE_S = 60.0


def changed_leases(permits: Iterable[Permit], seen: Mapping[NodeId, datetime], now: datetime) -> Iterator[Permit]:
    """Yield the open permits that have lapsed by `now`, and those that had and whose nodes were heard of since.

    A permit that has lapsed is not given to another node: its node may be in the middle of a transform, so it is away.

    Args:
        permits: any.
        seen: `{node: when it was last heard of}`, by the database's clock, as is all else.
        now: the time.
    """
    for permit in permits:
        if permit.returned_at is not None:
            continue
        ends_at = max(seen.get(permit.node, permit.granted_at), permit.granted_at) + timedelta(seconds=LEASE_S)
        if (lapsed_at := ends_at if ends_at <= now else None) != permit.lapsed_at:
            yield replace(permit, lapsed_at=lapsed_at)
