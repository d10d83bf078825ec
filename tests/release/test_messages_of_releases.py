"""The rule: each release has messages of its own, and all that its messages are made of."""

import inspect
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import descriptor_pool, symbol_database, timestamp_pb2

from segue.errors import ReleaseError
from segue.release.modules import LoadedRelease

Write = Callable[[str, Mapping[str, str]], Path]
Load = Callable[..., LoadedRelease]
Compile = Callable[[Path], None]

PROTO = """
syntax = "proto3";
package kv;
import "google/protobuf/any.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "kv/part.proto";
message Item {
  %s
  google.protobuf.Timestamp at = 10;
  google.protobuf.Any any = 11;
  google.protobuf.Struct facts = 12;
  Part part = 13;
  message Inner { int32 n = 1; }
  Inner inner = 14;
}
enum Colour { RED = 0; BLUE = 1; }
service Kv { rpc Get(Item) returns (Item); rpc List(Item) returns (stream Item); }
"""
PART = 'syntax = "proto3"; package kv; message Part { string name = 1; }'


@pytest.fixture
def folders(write: Write, compile_protos: Compile) -> tuple[Path, Path]:
    """Returns two releases whose messages have the same names and other fields."""
    code = """
        from google.protobuf import timestamp_pb2
        from kv import kv_pb2, kv_pb2_grpc, part_pb2
        class Servicer(kv_pb2_grpc.KvServicer): ...
        """
    upgrade = "from previous.kv import kv_pb2 as v1, kv_pb2_grpc as v1_grpc\nfrom kv import kv_pb2 as v2"
    made = []
    for number, fields in enumerate(("string key = 1; string value = 2;", "bytes key = 1; repeated string value = 2;")):
        folder = write(
            f"release{number + 1}",
            {
                "kv/__init__.py": "",
                "kv/kv.proto": PROTO % fields,
                "kv/part.proto": PART,
                "kv/node.py": code,
                "kv/upgrade.py": upgrade,
            },
        )
        compile_protos(folder)
        made.append(folder)
    return made[0], made[1]


def with_code(folder: Path, load: Load, code: str) -> ModuleType:
    (folder / "kv/extra.py").write_text(code)
    return load(folder).load("kv.extra")


def test_messages_of_one_name_in_two_releases_do_not_meet(folders: tuple[Path, Path], load: Load) -> None:
    first = load(folders[0], 1)
    second = load(folders[1], 2, first)
    one, two = first.load("kv.node").kv_pb2.Item, second.load("kv.node").kv_pb2.Item
    assert one(key="k", value="v").key == "k"
    assert two(key=b"k", value=["a", "b"]).value == ["a", "b"]
    for message in (one(key="k", value="v"), two(key=b"k", value=["a"])):
        assert type(message).FromString(message.SerializeToString()) == message
    assert one is not two


def test_previous_has_the_very_classes_of_the_release_before(folders: tuple[Path, Path], load: Load) -> None:
    first = load(folders[0], 1)
    upgrade = load(folders[1], 2, first).load("kv.upgrade")
    assert upgrade.v1.Item is first.load("kv.node").kv_pb2.Item
    assert upgrade.v1_grpc.KvServicer is first.load("kv.node").kv_pb2_grpc.KvServicer
    assert upgrade.v2.Item is not upgrade.v1.Item


def test_protobuf_itself_learns_nothing_of_a_release(folders: tuple[Path, Path], load: Load) -> None:
    known = dict(vars(symbol_database.SymbolDatabase)["_classes"])
    load(folders[0]).load("kv.node")
    assert known == vars(symbol_database.SymbolDatabase)["_classes"]
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("kv.Item")
    assert timestamp_pb2.Timestamp.DESCRIPTOR is descriptor_pool.Default().FindMessageTypeByName(
        "google.protobuf.Timestamp"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "from google.protobuf import timestamp_pb2 as ts, any_pb2, struct_pb2",
        "import google.protobuf.timestamp_pb2 as ts",
        "import google.protobuf.timestamp_pb2; ts = google.protobuf.timestamp_pb2",
        "import google.protobuf; ts = google.protobuf.timestamp_pb2",
        "import google; ts = google.protobuf.timestamp_pb2",
        "import importlib; ts = importlib.import_module('google.protobuf.timestamp_pb2')",
        "from google import protobuf; ts = protobuf.timestamp_pb2",
        "import sys, google.protobuf.timestamp_pb2 as ts",
    ],
)
def test_well_known_types_are_those_of_the_releases_own_messages(
    statement: str, folders: tuple[Path, Path], load: Load
) -> None:
    code = f"from kv import kv_pb2\n{statement}\nITEM = kv_pb2.Item(at=ts.Timestamp(seconds=5))"
    extra = with_code(folders[0], load, code)
    assert extra.ITEM.at.seconds == 5
    assert type(extra.ITEM.at) is extra.ts.Timestamp
    assert extra.ts.Timestamp is not timestamp_pb2.Timestamp


def test_well_known_types_keep_their_manners(folders: tuple[Path, Path], load: Load) -> None:
    extra = with_code(
        folders[0],
        load,
        """
import datetime
from google.protobuf import any_pb2, descriptor_pool, json_format, symbol_database, text_format
from google.protobuf import any as anys, timestamp
from kv import kv_pb2, part_pb2
NOON = datetime.datetime(2024, 5, 2, 12)
item = kv_pb2.Item(at=NOON, part=part_pb2.Part(name="p"))
item.facts.update({"a": [1, {"b": None}]})
item.any.Pack(kv_pb2.Item.Inner(n=4))
WHEN = item.at.ToDatetime()
packed = kv_pb2.Item(any=anys.pack(item))
inner = kv_pb2.Item.Inner()
assert item.any.Unpack(inner) and inner.n == 4
JSON = json_format.MessageToDict(item)
SAME = json_format.ParseDict(JSON, kv_pb2.Item()) == item
TEXT = text_format.Parse(text_format.MessageToString(item), kv_pb2.Item()) == item
FOUND = descriptor_pool.Default().FindMessageTypeByName("kv.Item") is kv_pb2.Item.DESCRIPTOR
SYMBOL = symbol_database.Default().GetSymbol("kv.Item") is kv_pb2.Item
OTHER = descriptor_pool.DescriptorPool() is not descriptor_pool.Default()
""",
    )
    assert extra.WHEN == extra.NOON
    assert extra.JSON["any"] == {"@type": "type.googleapis.com/kv.Item.Inner", "n": 4}
    assert extra.SAME
    assert extra.TEXT
    assert extra.FOUND
    assert extra.SYMBOL
    assert extra.OTHER


def test_what_protobuf_shares_stays_shared(folders: tuple[Path, Path], load: Load) -> None:
    extra = with_code(folders[0], load, "from google.protobuf import message\nfrom kv.kv_pb2 import Item")
    assert issubclass(extra.Item, extra.message.Message)
    from_outside = inspect.getmodule(type(timestamp_pb2.Timestamp()).__mro__[2])
    assert extra.message is from_outside


def test_messages_can_be_pickled_and_their_module_found(folders: tuple[Path, Path], load: Load) -> None:
    module = load(folders[0]).load("kv.kv_pb2")
    item = module.Item(key="k", inner=module.Item.Inner(n=1))
    assert pickle.loads(pickle.dumps(item)) == item
    assert module.Item.__module__ == module.__name__
    assert module.Item.Inner.__module__ == module.__name__


def test_a_release_may_have_a_google_package_of_its_own(
    folders: tuple[Path, Path], load: Load, write: Write, compile_protos: Compile
) -> None:
    proto = """
        syntax = "proto3"; package google.rpc; import "google/protobuf/any.proto";
        message Status { int32 code = 1; repeated google.protobuf.Any details = 3; }
        """
    folder = write("release1", {"google/rpc/status.proto": proto})
    compile_protos(folder)
    code = "from google.rpc import status_pb2\nfrom google.protobuf import any_pb2\nimport google.rpc.status_pb2 as s"
    extra = with_code(folder, load, code)
    assert extra.status_pb2.Status(details=[extra.any_pb2.Any(type_url="u")]).details[0].type_url == "u"


def test_generated_code_from_outside_is_in_the_releases_pool(
    folders: tuple[Path, Path],
    load: Load,
    write: Write,
    compile_protos: Compile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A release's own messages may be made of messages of an installed package."""
    installed = write(
        "installed",
        {
            "outside_kv/__init__.py": "",
            "outside_kv/code.py": "from outside_kv import out_pb2",
            "outside_kv/out.proto": 'syntax = "proto3"; package outside; message Out { int32 n = 1; }',
        },
    )
    compile_protos(installed)
    monkeypatch.syspath_prepend(str(installed))
    proto = """
        syntax = "proto3"; package mine; import "outside_kv/out.proto"; message Mine { outside.Out out = 1; }
        """
    both = write(
        "both", {"kv/mine.proto": proto, "outside_kv/out.proto": (installed / "outside_kv/out.proto").read_text()}
    )
    compile_protos(both)
    (folders[0] / "kv/mine_pb2.py").write_text((both / "kv/mine_pb2.py").read_text())
    extra = with_code(
        folders[0],
        load,
        "import outside_kv.out_pb2 as o\nfrom outside_kv import out_pb2, code\nfrom kv import mine_pb2",
    )
    assert extra.mine_pb2.Mine(out=extra.out_pb2.Out(n=3)).out.n == 3
    assert extra.o is extra.out_pb2
    assert extra.code.out_pb2 is not extra.out_pb2


def test_generated_code_that_does_not_fit_says_where(folders: tuple[Path, Path], load: Load) -> None:
    grpc_code = folders[0] / "kv/kv_pb2_grpc.py"
    text = grpc_code.read_text()
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "raise RuntimeError" in line)
    grpc_code.write_text(text.replace("GRPC_VERSION = grpc.__version__", "GRPC_VERSION = '0.1'"))
    with pytest.raises(ReleaseError, match=f"kv_pb2_grpc.py:{line}: RuntimeError"):
        load(folders[0]).load("kv.node")
