"""Which parts of protobuf each release has of its own, so that its messages meet nobody else's.

A message lives in a descriptor pool, and a pool holds one message of each full name. Two releases
have messages of the same full name, so each has a pool. All that generated code depends on has to be
in the same pool, the well-known types too: hence generated modules that lie outside the release
(`google.protobuf.timestamp_pb2`, those of other packages) are executed once more for each release, and
with them the few modules of protobuf that know of one pool only. Nothing of protobuf is changed: the
release's imports lead to copies and stand-ins.

What does not work, as protobuf looks for it in its default pool alone: custom options by
`DESCRIPTOR.GetOptions().Extensions[...]`.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from google.protobuf import symbol_database
from google.protobuf.descriptor_pool import DescriptorPool

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
    """Make a copied `builder` name each message's class after the module that it is really in.

    Generated code passes the name that protobuf's compiler knew; by that name neither pickle nor
    inspect would find the class.

    Args:
        plain_name: the module's name outside releases.
        module: the copy, just executed.
    """
    if plain_name == _BUILDER:
        for name in ("BuildTopDescriptorsAndMessages", "BuildServices"):
            setattr(module, name, _renaming(getattr(module, name)))


def _renaming(build: Callable[[Any, str, dict[str, Any]], None]) -> Callable[[Any, str, dict[str, Any]], None]:
    def build_renamed(file_descriptor: Any, module_name: str, module: dict[str, Any]) -> None:
        build(file_descriptor, module.get("__name__", module_name), module)

    return build_renamed
