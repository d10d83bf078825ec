"""The rule: `segue.convert` loses nothing that is on the wire, and says so when the other class cannot read it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import any_pb2, timestamp_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

import segue
from segue.errors import ReleaseError
from segue.release.modules import LoadedRelease

Write = Callable[[str, Mapping[str, str]], Path]
Load = Callable[..., LoadedRelease]
Compile = Callable[[Path], None]

HEAD = 'syntax = "proto3"; package kv; import "google/protobuf/timestamp.proto"; import "google/protobuf/any.proto";'
FIRST = """
message Item {
  string key = 1; bytes raw = 2; int32 n = 3; Part part = 4; google.protobuf.Timestamp at = 5;
  google.protobuf.Any any = 6; Colour colour = 7; bytes text = 8; bytes message = 9;
}
message Part { string name = 1; int32 gone = 2; }
enum Colour { RED = 0; BLUE = 1; GREEN = 2; }
"""
SECOND = """
message Item {
  bytes renamed = 1; bytes raw = 2; string n = 3; Part part = 4; google.protobuf.Timestamp at = 5;
  google.protobuf.Any any = 6; Colour colour = 7; string text = 8; Part message = 9; repeated int32 more = 10;
}
message Part { string name = 1; }
enum Colour { BLUE = 0; RED = 1; }
"""


@pytest.fixture
def protos(write: Write, load: Load, compile_protos: Compile) -> tuple[ModuleType, ModuleType]:
    """Returns the generated module `kv.kv_pb2` of two releases in one process."""
    found = []
    for number, text in enumerate((FIRST, SECOND), 1):
        folder = write(f"release{number}", {"kv/__init__.py": "", "kv/kv.proto": HEAD + text})
        compile_protos(folder)
        found.append(load(folder, number).load("kv.kv_pb2"))
    return found[0], found[1]


def test_what_both_know_is_moved(protos: tuple[ModuleType, ModuleType]) -> None:
    one, two = protos
    item = one.Item(key="k", raw=b"\xff", part=one.Part(name="p"), colour=one.BLUE)
    item.at.FromSeconds(5)
    item.any.Pack(item.part)
    moved = segue.convert(item, two.Item)
    assert type(moved) is two.Item
    assert (moved.renamed, moved.raw, moved.part.name, moved.at.ToSeconds()) == (b"k", b"\xff", "p", 5)
    assert moved.colour == two.RED  # by its number
    part = two.Part()
    assert moved.any.Unpack(part)
    assert part.name == "p"


def test_what_the_other_does_not_know_survives(protos: tuple[ModuleType, ModuleType]) -> None:
    """A number with a value of another wire type (n) is not known either."""
    one, two = protos
    item = one.Item(key="k", n=3, part=one.Part(name="p", gone=4), colour=one.GREEN)
    moved = segue.convert(item, two.Item)
    assert (moved.n, moved.colour) == ("", 2)
    assert segue.convert(moved, one.Item) == item
    late = two.Item(renamed=b"k", more=[1, 2])
    assert segue.convert(segue.convert(late, one.Item), two.Item) == late


@given(url=st.text(), value=st.binary())
def test_there_and_back_is_the_same(url: str, value: bytes) -> None:
    """StringValue knows field 1 of Any, and not field 2."""
    item = any_pb2.Any(type_url=url, value=value)
    moved = segue.convert(item, wrappers_pb2.StringValue)
    assert moved.value == url
    assert segue.convert(moved, any_pb2.Any) == item


def test_the_message_stays_and_the_new_one_is_another(protos: tuple[ModuleType, ModuleType]) -> None:
    one, _ = protos
    item = one.Item(key="k")
    copy = segue.convert(item, one.Item)
    copy.key = "other"
    assert item.key == "k"


def test_messages_of_releases_and_of_none_are_moved(protos: tuple[ModuleType, ModuleType]) -> None:
    one, _ = protos
    item = one.Item(at=segue.convert(timestamp_pb2.Timestamp(seconds=5), type(one.Item().at)))
    assert segue.convert(item.at, timestamp_pb2.Timestamp) == timestamp_pb2.Timestamp(seconds=5)


@pytest.mark.parametrize("field", ["text", "message"])
def test_bytes_that_the_other_class_cannot_read_are_refused(field: str, protos: tuple[ModuleType, ModuleType]) -> None:
    one, two = protos
    item = one.Item()
    setattr(item, field, b"\xff")
    with pytest.raises(
        ReleaseError, match=r"kv_pb2\.Item cannot read what .*kv_pb2\.Item says .*field by field"
    ) as caught:
        segue.convert(item, two.Item)
    assert caught.value.__cause__ is not None


def test_a_required_field_that_is_missing_is_named(write: Write, load: Load, compile_protos: Compile) -> None:
    messages = "message Loose { optional int32 n = 1; } message Strict { required int32 n = 1; }"
    folder = write("release", {"kv/kv.proto": f'syntax = "proto2"; package kv; {messages}'})
    compile_protos(folder)
    module = load(folder).load("kv.kv_pb2")
    assert segue.convert(module.Loose(n=1), module.Strict).n == 1
    with pytest.raises(ReleaseError, match=r"Loose says nothing of what .*Strict requires: n;"):
        segue.convert(module.Loose(), module.Strict)


@pytest.mark.parametrize("thing", [None, b"bytes", {"seconds": 5}, timestamp_pb2.Timestamp, timestamp_pb2])
def test_what_is_no_message_is_refused(thing: Any) -> None:
    with pytest.raises(ReleaseError, match=r"segue\.convert: expected a protobuf message, found"):
        segue.convert(thing, timestamp_pb2.Timestamp)


@pytest.mark.parametrize("thing", [None, int, timestamp_pb2.Timestamp(), timestamp_pb2, "Timestamp", object])
def test_what_is_no_message_class_is_refused(thing: Any) -> None:
    with pytest.raises(ReleaseError, match=r"segue\.convert: expected a message class to convert to, found"):
        segue.convert(timestamp_pb2.Timestamp(), thing)
