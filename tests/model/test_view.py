"""Rule: a release's own function sees what its node knows of a view, also from an upgrade server that tells more."""

from typing import Any

import pytest

from segue.model.ids import ClassName, NodeId, Version
from segue.model.view import FleetView, NodeView


def crossed(**more: object) -> dict[str, Any]:
    nodes: list[dict[str, object]] = [
        {"id": "n1", "class_name": "BlockNode", "version": 1, "facts": {"ms": 3.0}, **more},
        {"id": "n2", "class_name": "BlockNode", "version": 2, "silent": True},
    ]
    return {"node": "n1", "version": 2, "at": "2030-01-01T12:00:00+00:00", "nodes": nodes}


def test_a_view_is_as_it_crossed() -> None:
    view = FleetView.from_json(crossed())
    assert (view.node, view.version, view.at.hour) == ("n1", 2, 12)
    assert view.nodes[NodeId("n1")].facts == {"ms": 3.0}
    assert view.nodes[NodeId("n2")] == NodeView(
        id=NodeId("n2"), class_name=ClassName("BlockNode"), version=Version(2), silent=True
    )


def test_what_is_not_known_is_left_out() -> None:
    assert FleetView.from_json(crossed(mood="good", region={"of": 3}) | {"zones": 2}) == FleetView.from_json(crossed())


def test_what_must_be_there_is_missed() -> None:
    data = crossed()
    del data["nodes"][1]["class_name"]
    with pytest.raises(TypeError, match="class_name"):
        FleetView.from_json(data)
