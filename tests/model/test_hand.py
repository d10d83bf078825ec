"""Rule: what operators did holds in the order in which they did it, whatever a clock says: the later goes first."""

from datetime import UTC, datetime, timedelta

import pytest

from segue.model.hand import Action, Deed, Hand
from segue.model.ids import NodeId, Version

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
N1, N2 = NodeId("n1"), NodeId("n2")
PLACE = Version(2), N1


def hand(*deeds: Deed, later_s: float = 1.0) -> Hand:
    """Put together deeds, each `later_s` after the one before; those about a node are about n1."""
    about_nodes = (Deed.SKIP, Deed.FORCE, Deed.RETRY)
    return Hand.of(
        Action(
            deed=deed,
            at=NOON + timedelta(seconds=later_s * number),
            who="ann",
            version=Version(2) if deed in about_nodes else None,
            node=N1 if deed in about_nodes else None,
        )
        for number, deed in enumerate(deeds)
    )


@pytest.mark.parametrize("later_s", [1.0, 0.0, -1.0])
class TestTheLaterHolds:
    """By their order alone: two may have the same time, and a clock may have been put back."""

    def test_of_a_skip_and_a_force(self, later_s: float) -> None:
        forced = hand(Deed.SKIP, Deed.FORCE, later_s=later_s)
        assert (PLACE in forced.skipped, PLACE in forced.forced) == (False, True)
        skipped = hand(Deed.FORCE, Deed.SKIP, later_s=later_s)
        assert (PLACE in skipped.skipped, PLACE in skipped.forced) == (True, False)

    def test_of_a_skip_and_a_retry(self, later_s: float) -> None:
        assert not hand(Deed.SKIP, Deed.RETRY, later_s=later_s).skipped
        assert hand(Deed.RETRY, Deed.SKIP, later_s=later_s).skipped
        assert not hand(Deed.FORCE, Deed.SKIP, Deed.RETRY, later_s=later_s).forced

    def test_of_a_pause_and_a_force(self, later_s: float) -> None:
        """A force from before a pause holds again when that has ended; the second pause is as the first."""
        assert hand(Deed.PAUSE, Deed.FORCE, later_s=later_s).forced
        assert not hand(Deed.FORCE, Deed.PAUSE, later_s=later_s).forced
        assert not hand(Deed.PAUSE, Deed.RESUME, Deed.FORCE, Deed.PAUSE, later_s=later_s).forced
        assert hand(Deed.FORCE, Deed.PAUSE, Deed.FORCE, later_s=later_s).forced
        assert hand(Deed.FORCE, Deed.PAUSE, Deed.RESUME, later_s=later_s).forced


def test_a_node_is_not_both_left_out_and_forced() -> None:
    order = Action(deed=Deed.SKIP, at=NOON, who="ann", version=Version(2), node=N2)
    place = Version(2), N2
    with pytest.raises(AssertionError, match="n2"):
        Hand(skipped={place: order}, forced={place: order})
