"""The label: which version a caller speaks, and the newest version it has heard of.

Text and numbers only; how metadata is attached to a call is in `grpc_channel`, how a label is obeyed
in `grpc_server`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from segue.errors import OperatorError, SegueError
from segue.model.ids import NAME_PATTERN, NodeId, Version

#: What a label is on the wire: gRPC metadata.
LabelMetadata: TypeAlias = tuple[tuple[str, str], ...]

#: The version of calls without a label where more than one version has their method: a fixed one, or
#: the one that the node runs, which changes when the node upgrades.
UnlabelledDefault: TypeAlias = Version | Literal["current"]

LABEL_KEY = "segue-label"
NODE_KEY = "segue-node"
#: The caller's own name for itself.
CALLER_KEY = "segue-caller"
#: Where a call came from that another process of the node passes on, and who its caller has shown to be; believed
#: on the socket that only such a process can open, and nowhere else.
PEER_KEY = "segue-peer"
IDENTITY_KEY = "segue-identity-bin"

#: One text for each pair of versions: no signs, no spaces, no leading zeros; nine digits are plenty of releases.
_VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_VERSIONS = re.compile(rf"({_VERSION.pattern})/({_VERSION.pattern})", re.ASCII)
_NAME = re.compile(NAME_PATTERN, re.ASCII)
_HIGHEST = 999_999_999


class MalformedLabelError(SegueError):
    """A call carries a label that says nothing: whoever made it must send another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Who calls.

    Attributes:
        caller: the version that the caller speaks.
        newest: the newest version that the caller knows of, `caller` or later.
        node: the caller's id if it is a node of the system; None if it is a client.
        name: what the caller's calls are counted by, such as the name of a program; None if it gives none.
    """

    caller: Version
    newest: Version
    node: NodeId | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.caller <= self.newest <= _HIGHEST:
            raise MalformedLabelError(
                f"label {self.caller}/{self.newest}: use two versions, the caller's first, "
                f"the newest known not below it, from 1 to {_HIGHEST}"
            )
        _check_names(self.name, self.node)

    def to_metadata(self) -> LabelMetadata:
        """Return the label as a call carries it."""
        versions = (LABEL_KEY, f"{self.caller}/{self.newest}")
        names = ((NODE_KEY, self.node), (CALLER_KEY, self.name))
        return (versions, *((key, name) for key, name in names if name is not None))


@lru_cache(maxsize=4096)
def read_label(versions: str, node: str | None) -> Label:
    """Take the text of a label's metadata as a label.

    Args:
        versions: the value of `segue-label`, such as `1/2`.
        node: the value of `segue-node`; None if the call has none.

    Raises:
        MalformedLabelError: it is not two versions in order, or no node's id.
    """
    found = _VERSIONS.fullmatch(versions)
    if found is None:
        raise MalformedLabelError(f"{LABEL_KEY} {versions!r}: use CALLER/NEWEST, two versions such as 1/2")
    return Label(
        caller=Version(int(found[1])), newest=Version(int(found[2])), node=None if node is None else NodeId(node)
    )


@lru_cache(maxsize=4096)
def read_caller(name: str | None, node: str | None) -> str | None:
    """Say what a caller's calls are counted by: its name, or the node's id; None if it gives neither.

    Args:
        name: the value of `segue-caller`; None if the call has none.
        node: the value of `segue-node`; None if the call has none.

    Raises:
        MalformedLabelError: one of them is not 1 to 63 letters, digits, dots, dashes and underscores.
    """
    _check_names(name, node)
    return node if name is None else name


def _check_names(name: str | None, node: str | None) -> None:
    if node is not None and not _NAME.fullmatch(node):
        raise MalformedLabelError(f"{NODE_KEY} {node!r}: use the id of a node, as the system has it")
    if name is not None and not _NAME.fullmatch(name):
        raise MalformedLabelError(
            f"{CALLER_KEY} {name!r}: use 1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first"
        )


def unlabelled_default(given: str | int) -> UnlabelledDefault:
    """Take what an operator configured for calls without a label.

    Args:
        given: `current`, or a version as a number or as its text.

    Raises:
        OperatorError: it is neither.
    """
    if given == "current":
        return "current"
    if not isinstance(given, bool) and _VERSION.fullmatch(str(given)):
        return Version(int(given))
    raise OperatorError(
        f"default {given!r} for calls without a label: use current, or one version from 1 to {_HIGHEST}"
    )


class Newest:
    """The newest version that this process knows of; it never goes back.

    Args:
        version: what is known at first.
    """

    def __init__(self, version: Version) -> None:
        self.version = version

    def learn(self, version: Version) -> bool:
        """Take note of `version`; say whether it is news."""
        if version <= self.version:
            return False
        self.version = version
        return True

    def __repr__(self) -> str:
        return f"Newest({self.version})"


def label_source(caller: Version | Newest, newest: Newest, node: NodeId | None = None) -> Callable[[], LabelMetadata]:
    """Return what a channel asks for the metadata of each call: the label as it is at that moment.

    Args:
        caller: the version of the object whose calls these are; a `Newest` of its own for an object that
            comes to carry the numbers of releases that leave its class untouched.
        newest: what the process knows; what it learns later, later calls tell.
        node: the node's id; None for a client.
    """
    speaks = caller if isinstance(caller, Newest) else Newest(caller)
    known = (speaks.version, newest.version)
    metadata = _metadata(*known, node)

    def current() -> LabelMetadata:
        nonlocal known, metadata
        if newest.version != known[1] or speaks.version != known[0]:
            known = (speaks.version, newest.version)
            metadata = _metadata(*known, node)
        return metadata

    return current


def _metadata(caller: Version, newest: Version, node: NodeId | None) -> LabelMetadata:
    return Label(caller=caller, newest=max(caller, newest), node=node).to_metadata()
