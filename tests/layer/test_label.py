"""A label says the same at both ends, and what says nothing is refused."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.layer.label import Label, MalformedLabelError, Newest, label_source, read_label
from segue.model.ids import NAME_PATTERN, NodeId, Version

VERSIONS = st.integers(1, 999_999_999).map(Version)
NODES = st.none() | st.from_regex(re.compile(NAME_PATTERN, re.ASCII), fullmatch=True).map(NodeId)


@given(one=VERSIONS, other=VERSIONS, node=NODES)
def test_a_label_survives_the_wire(one: Version, other: Version, node: NodeId | None) -> None:
    """What a label's metadata reads back as is the label."""
    label = Label(caller=min(one, other), newest=max(one, other), node=node)
    metadata = dict(label.to_metadata())
    assert read_label(metadata["segue-label"], metadata.get("segue-node")) == label


@given(text=st.text() | st.from_regex(r"\A-?\d*/?\d*\Z"))
def test_a_text_is_a_label_or_is_refused(text: str) -> None:
    """Any text either is exactly what a label writes, or is refused."""
    with suppress(MalformedLabelError):
        assert read_label(text, None).to_metadata() == (("segue-label", text),)


@pytest.mark.parametrize(
    "text", ["", "1", "1/", "/1", "0/1", "2/1", "01/2", "1/2 ", "1/2/3", "+1/2", "\u0661/2", "-1/1"]
)
def test_a_malformed_label_is_refused(text: str) -> None:
    """Two whole numbers from 1 in order, written one way, and nothing else."""
    with pytest.raises(MalformedLabelError, match=r"two versions"):
        read_label(text, None)


@pytest.mark.parametrize("node", ["", "a b", "-a", "a" * 64, "n\u00e4"])
def test_a_malformed_node_is_refused(node: str) -> None:
    """A node's id is a name as the system allows it."""
    with pytest.raises(MalformedLabelError, match="segue-node"):
        read_label("1/1", node)


@given(known=VERSIONS, heard=st.lists(VERSIONS))
def test_the_newest_known_never_goes_back(known: Version, heard: list[Version]) -> None:
    """The newest is the greatest ever heard, and only what is greater is news."""
    newest = Newest(known)
    for count, version in enumerate(heard):
        before = max([known, *heard[:count]])
        assert newest.learn(version) is (version > before)
    assert newest.version == max([known, *heard])


def test_a_source_tells_what_was_learnt_since() -> None:
    """A channel's calls carry the newest version that is known when they are made."""
    newest = Newest(Version(1))
    source = label_source(Version(1), newest, NodeId("n1"))
    assert source() == (("segue-label", "1/1"), ("segue-node", "n1"))
    assert source() is source()
    newest.learn(Version(3))
    assert source() == (("segue-label", "1/3"), ("segue-node", "n1"))


def test_a_source_of_a_newer_caller_knows_the_caller() -> None:
    """A future simulation's label is never of a version that it does not know."""
    assert label_source(Version(2), Newest(Version(1)))() == (("segue-label", "2/2"),)


def test_a_source_of_an_object_that_carries_a_new_number_speaks_it() -> None:
    """From the call after it, whatever the process knows besides."""
    own, newest = Newest(Version(1)), Newest(Version(1))
    source = label_source(own, newest)
    assert source() == (("segue-label", "1/1"),)
    own.learn(Version(2))
    assert source() == (("segue-label", "2/2"),)
    newest.learn(Version(4))
    assert source() == (("segue-label", "2/4"),)
    own.learn(Version(3))
    assert source() == (("segue-label", "3/4"),)
