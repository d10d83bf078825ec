"""Which parts of protobuf each release has of its own, so that its messages meet nobody else's.

A message lives in a descriptor pool, and a pool holds one message of each full name. Two releases
have messages of the same full name, so each has a pool. All that generated code depends on has to be
in the same pool, the well-known types too: hence generated modules that lie outside the release
(`google.protobuf.timestamp_pb2`, those of other packages) are executed once more for each release, and
with them the few modules of protobuf that know of one pool only. Nothing of protobuf is changed: the
release's imports lead to copies and stand-ins.

Options are the exception: protobuf parses them in its default pool alone, so a release's own class of
options, and with it an extension, is had by `segue.convert(descriptor.GetOptions(), descriptor_pb2.…)`.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pool, symbol_database
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

#: Modules of protobuf that look for messages in the default pool or hand out messages of it.
COPIED = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "any",
        "duration",
        "internal.builder",
        "json_format",
        "proto_json",
        "proto_text",
        "text_format",
        "timestamp",
    )
)

_BUILDER = "google.protobuf.internal.builder"
_JSON = "google.protobuf.json_format"

_JSON_OPTIONS = "google.protobuf.json_enumvalue_options_pb2"
if importlib.util.find_spec(_JSON_OPTIONS) is not None:
    # Options are parsed in the default pool: only what that knows can say by which names JSON has enum values.
    importlib.import_module(_JSON_OPTIONS)


class Symbols(symbol_database.SymbolDatabase):
    """A symbol database of one release; the class-wide table of protobuf's own stays as it is."""

    def __init__(self, pool: DescriptorPool) -> None:
        super().__init__(pool=pool)
        self._classes: dict[Any, Any] = {}


def is_generated(name: str) -> bool:
    """Say whether a module of this name is what protobuf's compiler or gRPC's plugin writes."""
    return name.endswith(("_pb2", "_pb2_grpc"))


def stand_ins(pool: DescriptorPool) -> dict[str, Mapping[str, Any]]:
    """Return what a release sees in place of protobuf's own: `{module: {attribute: value}}`.

    Args:
        pool: the release's pool.
    """
    symbols = Symbols(pool)
    return {
        "google.protobuf.descriptor_pool": {"Default": lambda: pool},
        "google.protobuf.symbol_database": {"Default": lambda: symbols},
    }


def finish(plain_name: str, module: ModuleType) -> None:
    """Make a copy of one of protobuf's modules fit a release, where what its imports lead to is not enough.

    A copied `builder` names each message's class after the module that it is really in: generated code passes
    the name that protobuf's compiler knew, by which neither pickle nor inspect would find the class. It also
    has nested messages pickled by their class, as others are, and not by a name in the default pool. A copied
    `json_format` looks in the default pool for the one extension of options that it reads.

    Args:
        plain_name: the module's name outside releases.
        module: the copy, just executed.
    """
    if plain_name == _BUILDER:
        for name in ("BuildTopDescriptorsAndMessages", "BuildServices"):
            setattr(module, name, _renaming(getattr(module, name)))
    if plain_name == _JSON:
        module.__dict__["descriptor_pool"] = descriptor_pool


def _renaming(build: Callable[[Any, str, dict[str, Any]], None]) -> Callable[[Any, str, dict[str, Any]], None]:
    def build_renamed(file_descriptor: Any, module_name: str, module: dict[str, Any]) -> None:
        build(file_descriptor, module.get("__name__", module_name), module)
        for name in file_descriptor.message_types_by_name:
            _pickle_by_class(module[name])

    return build_renamed


def _pickle_by_class(message_class: Any) -> None:
    for name in message_class.DESCRIPTOR.nested_types_by_name:
        nested = getattr(message_class, name)
        nested.__reduce__ = _reduce
        _pickle_by_class(nested)


def _reduce(message: Message) -> tuple[Any, ...]:
    return type(message), (), message.__getstate__()
