"""Rule: a message is the same after its way through JSON, with what a younger end put into it."""

from hypothesis import given
from hypothesis import strategies as st

from segue.testing.stores import HEARTBEATS
from segue.wire.messages import Heartbeat, PermitAnswer


@given(HEARTBEATS)
def test_a_heartbeat_survives(said: Heartbeat) -> None:
    assert Heartbeat.model_validate_json(said.model_dump_json()) == said


@given(st.dictionaries(st.sampled_from(["mood", "colour"]), st.text(st.characters(exclude_categories=["Cs"]))))
def test_fields_that_are_not_known_here_survive(more: dict[str, str]) -> None:
    sent = {"permit": None, "reason": "wait", "retry_after_s": 1.0, "to_version": None, "decides": None, **more}
    assert PermitAnswer.model_validate(sent).model_dump() == sent
