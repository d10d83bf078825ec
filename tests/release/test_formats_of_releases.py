"""The rule: what protobuf offers for messages works inside each of two releases whose messages share names."""

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import json_format, timestamp_pb2

from segue.release.modules import LoadedRelease

Write = Callable[[str, Mapping[str, str]], Path]
Load = Callable[..., LoadedRelease]
Compile = Callable[[Path], None]

#: In each release: what field 1 is, what the enum's names stand for, what the extension and the option are.
RELEASES = (
    ("optional string key = 1;", "RED = 0; BLUE = 1;", "optional string note = 100;", "string"),
    ("optional bytes key = 1;", "BLUE = 0; GREEN = 1; RED = 2;", "repeated int32 note = 100;", "int32"),
)
PROTO = """
syntax = "proto2";
package kv;
import "google/protobuf/any.proto";
import "google/protobuf/descriptor.proto";
import "google/protobuf/timestamp.proto";
message Item {
  %s
  optional Colour colour = 2;
  optional google.protobuf.Any any = 3;
  optional google.protobuf.Timestamp at = 4;
  map<string, Inner> inners = 5;
  message Inner { optional int32 n = 1; message Core { optional int32 n = 1; } }
  extensions 100 to 200;
}
enum Colour { %s }
extend Item { %s }
message Holder { extend Item { optional Holder held = 101; } optional int32 size = 1 [(kv.unit) = %s]; }
extend google.protobuf.FieldOptions { optional %s unit = 50001; }
"""
CODE = """
import copy, dataclasses, pickle, typing
from google.protobuf import any as anys
from google.protobuf import any_pb2, descriptor_pb2, json_format, text_format, timestamp_pb2
from google.protobuf import proto_json, proto_text
import segue
from kv import kv_pb2
from kv.kv_pb2 import Colour, Holder, Item

@dataclasses.dataclass(frozen=True)
class Kept:
    item: Item
    inner: "Item.Inner"

def full(key, note):
    item = Item(key=key, colour=kv_pb2.RED, at=timestamp_pb2.Timestamp(seconds=5))
    item.inners["a"].n = 1
    if isinstance(note, list):
        item.Extensions[kv_pb2.note].extend(note)
    else:
        item.Extensions[kv_pb2.note] = note
    item.Extensions[Holder.held].size = 9
    return item

def packed(message):
    item = Item()
    item.any.Pack(message)
    return item

def unpacked(item):
    inner = Item()
    assert item.any.Is(Item.DESCRIPTOR) and item.any.Unpack(inner)
    return inner
"""


@pytest.fixture
def codes(write: Write, load: Load, compile_protos: Compile) -> tuple[ModuleType, ModuleType]:
    """Returns `kv.code` of two releases in one process, the second with the first as its previous."""
    loaded: list[LoadedRelease] = []
    for number, (key, colours, note, option) in enumerate(RELEASES, 1):
        value = '"bytes"' if option == "string" else "7"
        proto = PROTO % (key, colours, note, value, option)
        folder = write(f"release{number}", {"kv/__init__.py": "", "kv/kv.proto": proto, "kv/code.py": CODE})
        compile_protos(folder)
        loaded.append(load(folder, number, loaded[-1] if loaded else None))
    return loaded[0].load("kv.code"), loaded[1].load("kv.code")


@pytest.fixture
def full(codes: tuple[ModuleType, ModuleType]) -> tuple[object, object]:
    """Returns a message with everything in it of each release."""
    return codes[0].full("k", "hello"), codes[1].full(b"\xff", [1, 2])


def test_an_enum_has_the_numbers_of_its_release(codes: tuple[ModuleType, ModuleType]) -> None:
    one, two = codes
    assert (one.kv_pb2.RED, two.kv_pb2.RED) == (0, 2)
    assert (one.Colour.Name(1), two.Colour.Name(1)) == ("BLUE", "GREEN")
    assert one.json_format.MessageToDict(one.Item(colour=0)) == {"colour": "RED"}
    assert two.json_format.MessageToDict(two.Item(colour=0)) == {"colour": "BLUE"}
    assert two.json_format.ParseDict({"colour": "RED"}, two.Item()).colour == 2
    assert two.text_format.Parse("colour: GREEN", two.Item()).colour == 1


def test_any_is_packed_and_unpacked_within_each_release(
    codes: tuple[ModuleType, ModuleType], full: tuple[object, object]
) -> None:
    """The type's URL is the same in both, and means in each its own message."""
    for code, message in zip(codes, full, strict=True):
        item = code.packed(message)
        assert item.any.type_url == "type.googleapis.com/kv.Item"
        assert code.unpacked(item) == message
        assert code.anys.unpack_as(code.anys.pack(message), code.Item) == message


@pytest.mark.parametrize("form", ["json_format", "text_format"])
def test_any_and_extensions_are_written_and_read_without_saying_the_pool(
    form: str, codes: tuple[ModuleType, ModuleType], full: tuple[object, object]
) -> None:
    for code, message in zip(codes, full, strict=True):
        module = getattr(code, form)
        to_text = module.MessageToJson if form == "json_format" else module.MessageToString
        assert module.Parse(to_text(message), code.Item()) == message
        written = to_text(code.packed(message))
        assert "type.googleapis.com/kv.Item" in written
        assert "[kv.note]" in written
        assert "[kv.Holder.held]" in written
        assert code.unpacked(module.Parse(written, code.Item())) == message


def test_any_in_json_is_the_releases_own_message(codes: tuple[ModuleType, ModuleType]) -> None:
    one, two = codes
    as_json = [
        one.json_format.MessageToDict(one.packed(one.Item(key="k", colour=0))),
        two.json_format.MessageToDict(two.packed(two.Item(key=b"\xff", colour=0))),
    ]
    url = "type.googleapis.com/kv.Item"
    assert as_json == [
        {"any": {"@type": url, "key": "k", "colour": "RED"}},
        {"any": {"@type": url, "key": "/w==", "colour": "BLUE"}},
    ]


def test_code_outside_writes_any_with_the_pool_of_the_message(codes: tuple[ModuleType, ModuleType]) -> None:
    item = codes[0].packed(codes[0].Item(key="k"))
    with pytest.raises(TypeError, match="Can not find message descriptor by type_url"):
        json_format.MessageToJson(item)
    written = json_format.MessageToJson(item, descriptor_pool=item.DESCRIPTOR.file.pool)
    assert json.loads(written)["any"]["key"] == "k"


def test_the_short_forms_of_json_and_text_work_too(
    codes: tuple[ModuleType, ModuleType], full: tuple[object, object]
) -> None:
    for code, message in zip(codes, full, strict=True):
        assert code.proto_json.parse(code.Item, code.proto_json.serialize(message)) == message
        assert code.proto_text.parse(code.Item, code.proto_text.serialize(message)) == message


def test_an_extension_is_that_of_its_release(codes: tuple[ModuleType, ModuleType]) -> None:
    one, two = codes
    first, second = one.full("k", "hello"), two.full(b"k", [1, 2])
    assert one.Item.FromString(first.SerializeToString()).Extensions[one.kv_pb2.note] == "hello"
    assert list(two.Item.FromString(second.SerializeToString()).Extensions[two.kv_pb2.note]) == [1, 2]
    with pytest.raises(KeyError):
        second.Extensions[one.kv_pb2.note]


def test_a_custom_option_is_read_by_the_releases_own_class_of_options(codes: tuple[ModuleType, ModuleType]) -> None:
    found = []
    for code in codes:
        options = code.Holder.DESCRIPTOR.fields_by_name["size"].GetOptions()
        own = code.segue.convert(options, code.descriptor_pb2.FieldOptions)
        found.append(own.Extensions[code.kv_pb2.unit])
    assert found == ["bytes", 7]


def test_messages_are_pickled_and_copied_at_any_depth(
    codes: tuple[ModuleType, ModuleType], full: tuple[object, object]
) -> None:
    """Protobuf pickles a nested message by a name in its default pool, which knows no release's."""
    for code, message in zip(codes, full, strict=True):
        messages = [message, code.packed(message), code.Item.Inner(n=1), code.Item.Inner.Core(n=2)]
        for each in [*messages, code.Kept(item=message, inner=code.Item.Inner(n=3))]:
            for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
                again = pickle.loads(pickle.dumps(each, protocol))
                assert again == each
                assert type(again) is type(each)
            assert code.copy.deepcopy(each) == each
            assert code.copy.copy(each) == each


def test_a_dataclass_of_messages_knows_its_types(codes: tuple[ModuleType, ModuleType]) -> None:
    for code in codes:
        assert code.typing.get_type_hints(code.Kept) == {"item": code.Item, "inner": code.Item.Inner}


def test_an_enums_names_in_json_may_be_set_by_its_option(
    write: Write, load: Load, compile_protos: Compile, tmp_path: Path
) -> None:
    """The option comes with protobuf, whose json_format reads it whenever an enum is written."""
    option = """
        syntax = "proto2"; package pb.enumvalue; import "google/protobuf/descriptor.proto";
        message JsonEnumValueOptions { optional string string = 1; }
        extend google.protobuf.EnumValueOptions { optional JsonEnumValueOptions json = 998; }
        """
    proto = """
        syntax = "proto3"; package kv; import "google/protobuf/json_enumvalue_options.proto";
        message Item { Colour colour = 1; }
        enum Colour { RED = 0; BLUE = 1 [(pb.enumvalue.json) = { string: "bleu" }]; }
        """
    both = write("both", {"google/protobuf/json_enumvalue_options.proto": option, "kv/kv.proto": proto})
    compile_protos(both)
    code = """
        from google.protobuf import json_format
        from kv.kv_pb2 import Item
        WRITTEN = json_format.MessageToDict(Item(colour=1))
        READ = json_format.ParseDict({"colour": "bleu"}, Item()).colour
        """
    generated = (both / "kv/kv_pb2.py").read_text()
    extra = load(write("release", {"kv/code.py": code, "kv/kv_pb2.py": generated})).load("kv.code")
    assert extra.WRITTEN == {"colour": "bleu"}
    assert extra.READ == 1


def test_outside_releases_protobuf_is_as_it_was(codes: tuple[ModuleType, ModuleType]) -> None:
    assert timestamp_pb2.Timestamp is not codes[0].timestamp_pb2.Timestamp
    assert json_format is not codes[0].json_format
    assert json_format.MessageToJson(timestamp_pb2.Timestamp(seconds=5)) == '"1970-01-01T00:00:05Z"'
