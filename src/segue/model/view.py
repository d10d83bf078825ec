"""A system as a release's own function sees it, when that is asked whether a node may go."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from segue.model.ids import ClassName, NodeId, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node, as the upgrade server last heard of it.

    Attributes:
        id: the node.
        class_name: what it runs.
        version: what it serves; 0 until it first serves.
        attributes: what its operator said of it, such as `{"zone": "a"}`.
        facts: `{name: last value}` of what it reports.
        away: whether it has a permit to be away.
        silent: whether it has not been seen for so long that it counts as away.
    """

    id: NodeId
    class_name: ClassName
    version: Version
    attributes: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    away: bool = False
    silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """All nodes of a system at one moment, and the node that is to go.

    Attributes:
        node: the node that asks.
        version: the release that it would go to.
        at: the moment, by the upgrade database's clock (UTC). Others may have gone since.
        nodes: `{id: what is known of it}`, the asking node's own included.
    """

    node: NodeId
    version: Version
    at: datetime
    nodes: Mapping[NodeId, NodeView]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "FleetView":
        """Return the view that crossed as `node`, `version`, `at` and a list of `nodes`; what is not known is left out.

        An upgrade server may be newer than the node, and tell more.
        """
        known = {one.name for one in fields(NodeView)}
        nodes = [NodeView(**{name: node[name] for name in known & node.keys()}) for node in data["nodes"]]
        return cls(
            node=NodeId(data["node"]),
            version=Version(data["version"]),
            at=datetime.fromisoformat(data["at"]),
            nodes={node.id: node for node in nodes},
        )
