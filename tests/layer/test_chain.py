"""A chain has one object for each version, past ones below the current one and future ones above."""

import pytest

from segue.layer.chain import Chain, Link
from segue.model.ids import Version
from segue.model.usage import AnsweredBy


def link(version: int, role: AnsweredBy, since: int | None = None) -> Link:
    return Link(version=Version(version), role=role, instance=object(), since=None if since is None else Version(since))


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
        ((link(3, "current", since=1), link(3, "future")), "no version left out"),
        ((link(3, "current", since=2), link(5, "future")), "no version left out"),
        ((link(2, "current", since=3),), "version order"),
    ],
)
def test_a_chain_that_is_none_is_refused(links: tuple[Link, ...], message: str) -> None:
    """The message says what to change."""
    with pytest.raises(ValueError, match=message):
        Chain(links)


def test_an_object_may_answer_several_versions() -> None:
    """Its class was left untouched by releases: it carries their numbers, and its neighbours are beyond them."""
    past, current, future = link(1, "past"), link(4, "current", since=2), link(6, "future", since=5)
    chain = Chain((past, current, future))
    assert current.versions == (2, 3, 4)
    assert (chain.oldest, chain.newest) == (1, 6)
    assert chain.delegate_of(future) is current
    assert str(chain) == "1 past, 2 to 4 current, 5 to 6 future"


def test_a_call_passes_from_its_own_object_to_the_current_one() -> None:
    """Past simulations hand it up, future ones down; each has its place, counted from the current object."""
    links = [link(1, "past"), link(2, "past"), link(3, "current"), link(4, "future"), link(5, "future")]
    chain = Chain(tuple(links))
    assert chain.way_in(links[0]) == tuple(links[:3])
    assert chain.way_in(links[2]) == (links[2],)
    assert chain.way_in(links[4]) == (links[4], links[3], links[2])
    assert [chain.place_of(one) for one in links] == [-2, -1, 0, 1, 2]
