"""The rule: what would fail on every node fails here, with the file and the line; and nothing of a release is run."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from segue.errors import ReleaseError
from segue.model.ids import Version
from segue.release import archive
from segue.release.bundle import build, unpack
from segue.release.modules import LoadedRelease

Write = Callable[[str, Mapping[str, str]], Path]
Load = Callable[..., LoadedRelease]
Text = Callable[..., str]
Compile = Callable[[Path], None]

NODE = "class Node: ..."
UPGRADE = "class Past: ...\nclass Future: ...\ndef transform(old, new, context): ..."


@pytest.fixture
def first(write: Write, manifest: Text) -> Path:
    """Returns version 1."""
    return write("first", {"release.toml": manifest(1), "kv/__init__.py": "", "kv/node.py": NODE})


def second(write: Write, manifest: Text, upgrade: str = "", **files: str) -> Path:
    text = f"{upgrade}\n{UPGRADE}"
    return write(
        "second",
        {"release.toml": manifest(2), "kv/__init__.py": "", "kv/node.py": NODE, "kv/upgrade.py": text, **files},
    )


def embedded(bundle: bytes) -> set[str]:
    return {file for file in archive.read(bundle) if file.startswith("previous/")}


@pytest.mark.parametrize(
    "code",
    [
        "class Node: ...",
        "def Node(node): ...",
        "Node = object",
        "Node: type = object",
        "A, (Node, *B) = 1, (2, 3)",
        "from other import Node",
        "from other import Thing as Node",
        "import other as Node",
        "import Node.x",
        "from other import *",
        "def __getattr__(name): ...",
        "if True:\n    class Node: ...",
        "try:\n    pass\nexcept ValueError:\n    pass\nelse:\n    Node = 1",
        "try:\n    pass\nexcept ValueError:\n    Node = 1",
        "with open('x') as Node: ...",
        "for Node in (): ...",
        "match 1:\n    case 1:\n        Node = 1",
    ],
)
def test_a_name_may_be_defined_in_any_way_at_the_top_level(code: str, write: Write, manifest: Text) -> None:
    build(write("release", {"release.toml": manifest(1), "kv/node.py": code}))


@pytest.mark.parametrize(
    "code",
    [
        "",
        "class Nod: ...",
        "def f():\n    Node = 1",
        "class A:\n    Node = 1",
        "Node: type",
        "Node",
        "x.Node = 1",
        "Node[0] = 1",
    ],
)
def test_a_name_that_is_not_defined_is_refused(code: str, write: Write, manifest: Text) -> None:
    with pytest.raises(
        ReleaseError, match=r"classes.Node.object = 'kv.node:Node': expected Node to be defined .*node.py"
    ):
        build(write("release", {"release.toml": manifest(1), "kv/node.py": code}))


def test_a_module_may_be_a_package(write: Write, manifest: Text) -> None:
    build(write("release", {"release.toml": manifest(1), "kv/node/__init__.py": NODE}))


def test_a_module_that_is_not_there_is_refused(write: Write, manifest: Text) -> None:
    with pytest.raises(ReleaseError, match=r"classes.Node.object = 'kv.node:Node': expected kv/node.py in .*release"):
        build(write("release", {"release.toml": manifest(1), "kv/nod.py": NODE}))


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("x = 1\ny = = 2", 2),
        ("return 1", 1),
        ("\n\n  x = 1", 3),
        ("x = (\n", 1),
        ("x = '\0'", 1),
        ("await x", 1),
    ],
)
def test_a_file_that_does_not_compile_is_named_with_its_line(
    code: str, line: int, write: Write, manifest: Text
) -> None:
    folder = write("release", {"release.toml": manifest(1), "kv/node.py": NODE})
    (folder / "kv/bad.py").write_text(code)
    with pytest.raises(ReleaseError, match=rf"release/kv/bad.py:{line}: "):
        build(folder)


def test_nothing_of_a_release_is_run(write: Write, manifest: Text, tmp_path: Path) -> None:
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n{NODE}"
    build(write("release", {"release.toml": manifest(1), "kv/node.py": code}))
    assert not (tmp_path / "ran").exists()


def test_a_warning_about_the_code_is_the_authors_business(write: Write, manifest: Text) -> None:
    build(write("release", {"release.toml": manifest(1), "kv/node.py": f"x = '\\d'\n{NODE}"}))


def test_a_coroutine_cannot_be_a_transform(write: Write, manifest: Text, first: Path) -> None:
    folder = second(write, manifest)
    write("second", {"kv/upgrade.py": "class Past: ...\nclass Future: ...\nasync def transform(o, n, c): ..."})
    with pytest.raises(ReleaseError, match=r"kv/upgrade.py:3: a transform is a plain function"):
        build(folder, previous=first)


def test_version_2_is_built_with_version_1_at_hand(write: Write, manifest: Text, first: Path, tmp_path: Path) -> None:
    folder = second(write, manifest)
    with pytest.raises(ReleaseError, match=r"version 2 is built with version 1 at hand: .*--previous"):
        build(folder)
    bundle = tmp_path / "first.bundle"
    bundle.write_bytes(build(first))
    assert build(folder, previous=bundle) == build(folder, previous=first)


def test_a_class_does_not_get_lost_between_two_versions(write: Write, manifest: Text, first: Path) -> None:
    folder = second(write, manifest)
    renamed = (folder / "release.toml").read_text().replace("classes.Node", "classes.Nodes")
    (folder / "release.toml").write_text(renamed)
    with pytest.raises(ReleaseError, match=r"has no class Node, which version 1 has: list it, without an upgrade if"):
        build(folder, previous=first)


EDGE = '\n[classes.Edge]\nobject = "kv.edge:Edge"\n'
EDGE_UPGRADE = "[classes.Edge.upgrade]\n" + "\n".join(
    f'{key} = "kv.upgrade:{name}"' for key, name in (("transform", "transform"), ("past", "Past"), ("future", "Future"))
)


def test_a_class_may_come_with_a_release(write: Write, manifest: Text, first: Path) -> None:
    """It has nothing to upgrade from."""
    folder = second(write, manifest, **{"kv/edge.py": "class Edge: ..."})
    toml = folder / "release.toml"
    toml.write_text(toml.read_text() + EDGE)
    build(folder, previous=first)
    toml.write_text(toml.read_text() + EDGE_UPGRADE)
    with pytest.raises(ReleaseError, match=r"classes.Edge.upgrade: version 1 has no class Edge, so there is nothing"):
        build(folder, previous=first)


#: Of these kv.edge is made of edge, deep and deep's helper, and the packages that they are in.
UNTOUCHED = {
    "kv/edge.py": "from kv.deep import leaf\nimport json, missing\nclass Edge: ...",
    "kv/deep/__init__.py": "",
    "kv/deep/leaf.py": "def f():\n    from . import twig",
    "kv/deep/twig.py": "",
    "kv/other.py": "",
}


def with_edge(write: Write, manifest: Text, **changes: str) -> tuple[Path, Path]:
    """Return a version 1 with two classes, and a version 2 that upgrades one of them, with files changed."""
    older = write("one", {"release.toml": manifest(1) + EDGE, "kv/__init__.py": "", "kv/node.py": NODE, **UNTOUCHED})
    files = {**UNTOUCHED, **changes}
    newer = second(write, manifest, **{file: text for file, text in files.items() if text != "gone"})
    (newer / "release.toml").write_text(manifest(2) + EDGE)
    return older, newer


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kv/other.py": "changed = 1"},
        {"kv/other.py": "gone"},
        {"kv/new.py": ""},
        {"kv/node.py": f"{NODE}\nchanged = 1"},
        {"missing/x.txt": "no Python"},
    ],
)
def test_a_release_may_leave_a_class_untouched(changes: dict[str, str], write: Write, manifest: Text) -> None:
    """What the class is not made of may change."""
    older, newer = with_edge(write, manifest, **changes)
    build(newer, previous=older)


@pytest.mark.parametrize(
    ("changes", "file"),
    [
        ({"kv/edge.py": "class Edge: ...\nchanged = 1"}, "kv/deep/__init__.py"),
        ({"kv/edge.py": UNTOUCHED["kv/edge.py"] + "\n"}, "kv/edge.py"),
        ({"kv/deep/twig.py": "changed = 1"}, "kv/deep/twig.py"),
        ({"kv/deep/twig.py": "gone"}, "kv/deep/twig.py"),
        ({"kv/__init__.py": "changed = 1"}, "kv/__init__.py"),
        ({"missing.py": "now_here = 1"}, "missing.py"),
        ({"kv/deep/twig.py": "changed = 1", "kv/deep/leaf.py": "changed = 1"}, "kv/deep/leaf.py"),
    ],
)
def test_an_untouched_class_must_be_the_same_code(
    changes: dict[str, str], file: str, write: Write, manifest: Text
) -> None:
    """Else nodes of one version would differ; the first file in question is named, with what to do."""
    older, newer = with_edge(write, manifest, **changes)
    with pytest.raises(ReleaseError, match=rf"second/{file}: is not what it was in version 1.*: give Edge an upgrade"):
        build(newer, previous=older)


def test_an_untouched_class_has_the_same_object(write: Write, manifest: Text) -> None:
    older, newer = with_edge(write, manifest, **{"kv/edge.py": UNTOUCHED["kv/edge.py"]})
    toml = newer / "release.toml"
    toml.write_text(toml.read_text().replace("kv.edge:Edge", "kv.node:Node"))
    with pytest.raises(ReleaseError, match=r"classes.Edge.object = 'kv.node:Node', which was 'kv.edge:Edge'"):
        build(newer, previous=older)


def test_an_untouched_class_does_not_import_the_release_before(write: Write, manifest: Text) -> None:
    """That is another one in each version."""
    older, newer = with_edge(write, manifest, **{"kv/deep/twig.py": "from previous.kv import node"})
    with pytest.raises(ReleaseError, match=r"twig.py:1: imports previous.kv, which is another release in each version"):
        build(newer, previous=older)


def test_version_1_has_none_before_it(first: Path, write: Write) -> None:
    with pytest.raises(ReleaseError, match="version 1 has no release before it"):
        build(first, previous=first)
    write("first", {"kv/node.py": f"\n\nfrom previous.kv import node\n{NODE}"})
    with pytest.raises(ReleaseError, match=r"kv/node.py:3: version 1 has no previous"):
        build(first)


@pytest.mark.parametrize(("system", "version"), [("other", 1), ("kv", 2), ("kv", 3)])
def test_another_release_than_the_one_before_is_refused(
    system: str, version: int, write: Write, manifest: Text
) -> None:
    other = write("other", {"release.toml": manifest(version, system)})
    with pytest.raises(ReleaseError, match=rf"other: expected version 1 of kv, found version {version} of {system}"):
        build(second(write, manifest), previous=other)


def test_a_previous_that_is_no_release_is_refused(write: Write, manifest: Text, tmp_path: Path) -> None:
    folder = second(write, manifest)
    with pytest.raises(ReleaseError, match=r"nope: no release can be read there"):
        build(folder, previous=tmp_path / "nope")
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(ReleaseError, match=r"junk is no release bundle"):
        build(folder, previous=tmp_path / "junk")


@pytest.mark.parametrize("name", ["previous.py", "previous/kv.py"])
def test_the_name_previous_is_taken(name: str, write: Write, manifest: Text) -> None:
    with pytest.raises(ReleaseError, match="previous is the release before this one"):
        build(write("release", {"release.toml": manifest(1), "kv/node.py": NODE, name: ""}))


OLDER = {
    "kv/types.py": "from . import base\nimport json, plain",
    "kv/base.py": "import kv.other\ndef f():\n    import importlib\n    importlib.import_module('kv.dynamic')",
    "kv/other.py": "THING = 1",
    "kv/dynamic.py": "from .deep import leaf",
    "kv/deep/__init__.py": "",
    "kv/deep/leaf.py": "",
    "kv/unused.py": "",
    "plain.py": "",
    "space/part.py": "",
    "data.txt": "",
}
ALL = {
    "kv/__init__.py",
    "kv/types.py",
    "kv/base.py",
    "kv/other.py",
    "kv/dynamic.py",
    "kv/deep/__init__.py",
    "kv/deep/leaf.py",
    "plain.py",
}


@pytest.mark.parametrize(
    ("statement", "files"),
    [
        ("", set()),
        ("import previous.kv.types", ALL),
        ("import previous.kv.types as t", ALL),
        ("from previous.kv import types", ALL),
        ("from previous.kv.types import base", ALL),
        ("def late():\n    from previous.kv import types", ALL),
        ("import importlib\nimportlib.import_module('previous.kv.types')", ALL),
        ("from importlib import import_module\nimport_module('previous.kv.types')", ALL),
        ("from previous import kv", {"kv/__init__.py"}),
        ("import previous.kv", {"kv/__init__.py"}),
        ("from previous.kv.other import THING", {"kv/__init__.py", "kv/other.py"}),
        ("from previous.kv.other import *", {"kv/__init__.py", "kv/other.py"}),
        ("import previous.plain", {"plain.py"}),
        ("from previous import plain", {"plain.py"}),
        ("from previous.space import part", {"space/part.py"}),
        ("import previous.space.part", {"space/part.py"}),
        ("from previous.google.protobuf import timestamp_pb2", set()),
    ],
)
def test_a_bundle_brings_what_it_imports_of_the_release_before(
    statement: str, files: set[str], write: Write, manifest: Text, first: Path
) -> None:
    write("first", OLDER)
    bundle = build(second(write, manifest, statement), previous=first)
    assert embedded(bundle) == {f"previous/{file}" for file in files}


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("import previous.nope", r"kv/upgrade.py:1: previous.nope: version 1 in .*first has no such module;"),
        ("\nfrom previous.kv.nope import x", r"kv/upgrade.py:2: previous.kv.nope: version 1 in"),
        ("from previous.kv import nope", r"kv/upgrade.py:1: previous.kv.nope: .* has no such module or name;"),
        ("from previous import nope", r"kv/upgrade.py:1: previous.nope: version 1"),
        ("from previous.kv.node import Nod", r"kv/upgrade.py:1: previous.kv.node.Nod: .*no such module or name"),
        ("import previous", r"kv/upgrade.py:1: imports previous as a whole: say which module"),
        ("from previous import *", r"kv/upgrade.py:1: imports previous as a whole"),
    ],
)
def test_an_import_of_what_the_release_before_has_not_is_refused(
    statement: str, complaint: str, write: Write, manifest: Text, first: Path
) -> None:
    with pytest.raises(ReleaseError, match=complaint):
        build(second(write, manifest, statement), previous=first)


def test_an_import_of_two_releases_back_is_refused(write: Write, manifest: Text, first: Path, tmp_path: Path) -> None:
    middle = tmp_path / "second.bundle"
    middle.write_bytes(build(second(write, manifest, "from previous.kv import node"), previous=first))
    third = write(
        "third",
        {"release.toml": manifest(3), "kv/node.py": NODE, "kv/upgrade.py": f"import previous.kv.upgrade\n{UPGRADE}"},
    )
    with pytest.raises(ReleaseError, match=r"second.bundle/kv/upgrade.py:1: imports previous.kv, of two releases back"):
        build(third, previous=middle)
    write("third", {"kv/upgrade.py": f"import previous.kv.node\n{UPGRADE}"})
    assert embedded(build(third, previous=middle)) == {"previous/kv/__init__.py", "previous/kv/node.py"}


def test_a_bundle_is_complete_on_a_node_that_never_ran_the_release_before(
    write: Write, manifest: Text, first: Path, compile_protos: Compile, load: Load, tmp_path: Path
) -> None:
    proto = 'syntax = "proto3"; package kv; message Item { %s key = 1; } service Kv { rpc Get(Item) returns (Item); }'
    write("first", {"kv/kv.proto": proto % "string"})
    compile_protos(first)
    imports = "from previous.kv import kv_pb2 as v1, kv_pb2_grpc as v1_grpc\nfrom kv import kv_pb2 as v2"
    newer = second(write, manifest, imports, **{"kv/kv.proto": proto % "bytes"})
    compile_protos(newer)
    unpack(build(newer, previous=first), tmp_path / "node")
    upgrade = load(tmp_path / "node", Version(2)).load("kv.upgrade")
    assert (upgrade.v1.Item(key="k").key, upgrade.v2.Item(key=b"k").key) == ("k", b"k")
