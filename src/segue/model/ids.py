"""The names of things, each a type of its own, and the one place where text becomes one of them."""

import re
from typing import NewType

from segue.errors import OperatorError

#: A named set of nodes that is upgraded as one.
SystemName = NewType("SystemName", str)
#: What a node runs; one system may have several.
ClassName = NewType("ClassName", str)
#: One node, unique in its system.
NodeId = NewType("NodeId", str)
#: The place of a release in its system's history: 1, 2, 3, …
Version = NewType("Version", int)
#: A bundle's SHA-256, 64 hexadecimal digits in lower case.
ContentHash = NewType("ContentHash", str)

#: Names appear in URLs, file names and gRPC metadata; what this allows is safe in all three.
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
CONTENT_HASH_PATTERN = r"[0-9a-f]{64}"


def node_id(text: str) -> NodeId:
    """Take `text` as a node's id.

    Raises:
        OperatorError: it is not 1 to 63 letters, digits, dots, dashes and underscores.
    """
    return NodeId(_name(text, "node id"))


def system_name(text: str) -> SystemName:
    """Take `text` as a system's name.

    Raises:
        OperatorError: it is not 1 to 63 letters, digits, dots, dashes and underscores.
    """
    return SystemName(_name(text, "system name"))


def class_name(text: str) -> ClassName:
    """Take `text` as a class's name.

    Raises:
        OperatorError: it is not 1 to 63 letters, digits, dots, dashes and underscores.
    """
    return ClassName(_name(text, "class name"))


def _name(text: str, kind: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        raise OperatorError(
            f"{kind} {text!r}: use 1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first"
        )
    return text
