"""A chain has one object for each version, past ones below the current one and future ones above."""

import pytest

from segue.layer.chain import Chain, Link
from segue.model.ids import Version
from segue.model.usage import AnsweredBy


def link(version: int, role: AnsweredBy) -> Link:
    return Link(version=Version(version), role=role, instance=object())


def test_each_simulation_delegates_towards_the_current_object() -> None:
    """The delegate is the neighbour on the current object's side."""
    past, older, current, future = link(2, "past"), link(1, "past"), link(3, "current"), link(4, "future")
    chain = Chain((older, past, current, future))
    assert chain.delegate_of(older) is past
    assert chain.delegate_of(past) is current
    assert chain.delegate_of(future) is current
    assert (chain.oldest, chain.newest, chain.current) == (1, 4, current)


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ((), "exactly one current"),
        ((link(1, "past"),), "exactly one current"),
        ((link(1, "current"), link(2, "current")), "exactly one current"),
        ((link(1, "past"), link(3, "current")), "no version left out"),
        ((link(2, "current"), link(1, "past")), "version order"),
        ((link(1, "future"), link(2, "current")), "past simulations below"),
        ((link(1, "current"), link(2, "past")), "past simulations below"),
    ],
)
def test_a_chain_that_is_none_is_refused(links: tuple[Link, ...], message: str) -> None:
    """The message says what to change."""
    with pytest.raises(ValueError, match=message):
        Chain(links)
