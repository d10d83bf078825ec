"""The rule: a release's code runs as if it were alone in the process, and leaves nothing behind there."""

import importlib
import inspect
import pickle
import re
import sys
import threading
import traceback
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from segue.errors import Disallowed
from segue.model.ids import Version
from segue.release.modules import LoadedRelease

Write = Callable[[str, Mapping[str, str]], Path]
Load = Callable[..., LoadedRelease]

#: The package that a release's modules are below; numbered where the process loaded that version before.
RELEASE_NAME = re.compile(r"segue_release_[0-9]+(?:_again_[0-9]+)?")


def run(load: Load, write: Write, code: str, **files: str) -> ModuleType:
    """Import `kv.node` with this code, in a release with a few more modules."""
    others = {
        "kv/__init__.py": "",
        "kv/other.py": "HERE = 'other'",
        "kv/deep/__init__.py": "",
        "kv/deep/leaf.py": "from ..other import HERE\nfrom . import __name__ as package",
        "plain.py": "HERE = 'plain'",
    }
    return load(write("release", {**others, **files, "kv/node.py": code})).load("kv.node")


def test_two_releases_of_one_package_do_not_meet(write: Write, load: Load) -> None:
    files = {"kv/__init__.py": "", "kv/node.py": "from kv import other\nVALUE = other.VALUE\nclass Node: ..."}
    first = load(write("one", {**files, "kv/other.py": "VALUE = 1"})).load("kv.node")
    second = load(write("two", {**files, "kv/other.py": "VALUE = 2"}), 2).load("kv.node")
    assert (first.VALUE, second.VALUE) == (1, 2)
    assert first.Node is not second.Node
    assert sys.modules[first.Node.__module__] is first
    assert sys.modules[second.Node.__module__] is second


def test_nothing_is_in_sys_modules_under_the_name_that_its_author_gave_it(write: Write, load: Load) -> None:
    before = set(sys.modules)
    run(load, write, "import plain, kv.deep.leaf")
    added = {name.partition(".")[0] for name in set(sys.modules) - before}
    (root,) = added
    assert RELEASE_NAME.fullmatch(root)


def test_two_loads_of_one_version_do_not_meet(write: Write, load: Load) -> None:
    folder = write("release", {"plain.py": "class Thing: ..."})
    assert load(folder).load("plain").Thing is not load(folder).load("plain").Thing


def test_an_unloaded_release_leaves_nothing_behind(write: Write) -> None:
    before, finders = set(sys.modules), list(sys.meta_path)
    release = LoadedRelease(write("release", {"plain.py": "", "previous/plain.py": ""}), Version(2))
    release.load("plain")
    release.load("previous.plain")
    release.unload()
    assert {name for name in set(sys.modules) - before if name.startswith("segue_release")} == set()
    assert sys.meta_path == finders


@pytest.mark.parametrize(
    "code",
    [
        "import plain; VALUE = plain.HERE",
        "import plain as p; VALUE = p.HERE",
        "from plain import HERE as VALUE",
        "from plain import *; VALUE = HERE",
        "VALUE = __import__('plain').HERE",
        "import importlib; VALUE = importlib.import_module('plain').HERE",
        "import importlib as i; VALUE = i.__import__('plain').HERE",
        "import importlib.util, importlib; VALUE = importlib.import_module('plain').HERE",
        "from importlib import import_module; VALUE = import_module('plain').HERE",
        "exec('import plain'); VALUE = plain.HERE",
    ],
)
def test_every_form_of_import_finds_a_top_level_module(code: str, write: Write, load: Load) -> None:
    assert run(load, write, code).VALUE == "plain"


@pytest.mark.parametrize(
    "code",
    [
        "import kv.other; VALUE = kv.other.HERE",
        "import kv.other as o; VALUE = o.HERE",
        "import kv.deep.leaf as leaf; VALUE = leaf.HERE",
        "import kv.deep.leaf; VALUE = kv.deep.leaf.HERE",
        "from kv import other; VALUE = other.HERE",
        "from kv.other import HERE as VALUE",
        "from . import other; VALUE = other.HERE",
        "from .other import HERE as VALUE",
        "from .deep.leaf import HERE as VALUE",
        "from .deep import leaf; VALUE = leaf.HERE",
        "import importlib; VALUE = importlib.import_module('kv.other').HERE",
        "import importlib; VALUE = importlib.import_module('.other', 'kv').HERE",
        "import importlib; VALUE = importlib.import_module('.other', __package__).HERE",
        "import importlib; VALUE = importlib.import_module('..other', 'kv.deep').HERE",
        "import importlib; VALUE = importlib.import_module(__package__ + '.other').HERE",
        "import kv.other, sys; VALUE = sys.modules[__package__ + '.other'].HERE",
        "def late():\n    from kv import other\n    return other.HERE\nVALUE = late()",
        "def late():\n    from .other import HERE\n    return HERE\nVALUE = late()",
    ],
)
def test_every_form_of_import_finds_a_submodule(code: str, write: Write, load: Load) -> None:
    assert run(load, write, code).VALUE == "other"


def test_a_late_import_finds_the_release_of_its_function(write: Write, load: Load) -> None:
    code = "def late():\n    import plain\n    return plain.HERE"
    first = load(write("one", {"kv/node.py": code, "plain.py": "HERE = 1"})).load("kv.node")
    second = load(write("two", {"kv/node.py": code, "plain.py": "HERE = 2"}), 2).load("kv.node")
    assert (first.late(), second.late()) == (1, 2)


def test_a_folder_without_init_is_a_package_too(write: Write, load: Load) -> None:
    release = load(write("release", {"space/part.py": "from . import other", "space/other.py": ""}))
    assert release.load("space.part").other.__name__.endswith("space.other")


def test_a_folder_of_data_hides_no_package(write: Write, load: Load) -> None:
    release = load(write("release", {"json/data.txt": "", "plain.py": "import json; VALUE = json.dumps(1)"}))
    assert release.load("plain").VALUE == "1"


def test_circular_imports_work_as_in_python(write: Write, load: Load) -> None:
    release = load(
        write(
            "release",
            {
                "kv/__init__.py": "",
                "kv/a.py": "import kv.b as b\nfrom kv import b as c\ndef one():\n    return b.two()",
                "kv/b.py": "import kv.a as a\nfrom . import a as d\ndef two():\n    return 2 if a is d else 0",
            },
        )
    )
    assert release.load("kv.a").one() == 2


def test_what_lies_outside_is_shared(write: Write, load: Load) -> None:
    code = "import segue.author, grpc, json\nfrom segue.errors import Disallowed"
    node = run(load, write, code)
    assert node.json is sys.modules["json"]
    assert node.grpc is sys.modules["grpc"]
    assert node.segue is sys.modules["segue"]
    assert node.Disallowed is Disallowed


def test_importlib_otherwise_is_what_it_always_is(write: Write, load: Load) -> None:
    node = run(
        load,
        write,
        """
        import importlib.metadata
        from importlib import metadata, resources, util
        from importlib.resources import files
        VERSION = importlib.metadata.version("grpcio")
        DATA = files(__package__).joinpath("other.py").read_text()
        """,
    )
    assert node.util.module_from_spec is importlib.util.module_from_spec
    assert node.DATA == "HERE = 'other'"
    assert node.importlib.import_module is not importlib.import_module
    assert node.importlib.reload is importlib.reload


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("from .. import plain", "beyond top-level package"),
        ("from ..plain import HERE", "beyond top-level package"),
        ("import kv.nope", "No module named 'kv.nope'"),
        ("from kv import nope", "cannot import name 'nope' from 'kv'"),
        ("import nope_nowhere", "No module named 'nope_nowhere'"),
        ("import importlib; importlib.import_module('kv.nope')", "No module named 'kv.nope'"),
        ("import previous.kv", "No module named 'previous.kv': release 1 came without the release before it"),
    ],
)
def test_a_failed_import_speaks_of_the_names_that_the_author_wrote(
    code: str, message: str, write: Write, load: Load
) -> None:
    caught = run(load, write, f"try:\n    {code}\nexcept ImportError as error:\n    MESSAGE = str(error)")
    assert message in re.sub(rf"{RELEASE_NAME.pattern}\.", "", caught.MESSAGE)
    if "No module" in message:
        assert "segue_release" not in caught.MESSAGE


def test_a_missing_module_can_be_told_by_its_name(write: Write, load: Load) -> None:
    code = "try:\n    import kv.nope\nexcept ModuleNotFoundError as error:\n    NAME = error.name"
    assert run(load, write, code).NAME == "kv.nope"


def test_a_module_at_the_top_has_no_package_to_import_from(write: Write, load: Load) -> None:
    release = load(
        write("release", {"top.py": "try:\n    from . import x\nexcept ImportError as error:\n    WHY = str(error)"})
    )
    assert "no known parent package" in release.load("top").WHY


def test_a_module_of_the_release_is_never_looked_for_outside(write: Write, load: Load) -> None:
    """A package of the same name may well be installed where the author works."""
    code = "try:\n    import json.decoder\n    FOUND = True\nexcept ModuleNotFoundError:\n    FOUND = False"
    release = load(write("release", {"json/__init__.py": "", "plain.py": code}))
    assert release.load("plain").FOUND is False


def test_a_module_that_fails_half_way_is_not_left_behind(write: Write, load: Load, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    code = f"import pathlib, kv\nBEFORE = 1\nif not pathlib.Path({str(flag)!r}).exists():\n    raise OSError('not yet')"
    release = load(write("release", {"kv/__init__.py": "", "kv/node.py": code}))
    with pytest.raises(Exception, match="not yet"):
        release.load("kv.node")
    assert not hasattr(release.load("kv"), "node")
    assert not any(name.endswith("kv.node") for name in sys.modules)
    flag.touch()
    assert release.load("kv.node").BEFORE == 1


def test_threads_that_import_at_once_get_one_module(write: Write, load: Load) -> None:
    """Late imports happen in calls, and calls happen at once."""
    code = "import threading, kv.count\nkv.count.TIMES.append(threading.get_ident())\nDONE = True"
    late = "def late():\n    from kv import slow\n    return slow, slow.DONE"
    release = load(
        write("release", {"kv/__init__.py": "", "kv/count.py": "TIMES = []", "kv/slow.py": code, "kv/node.py": late})
    )
    node, count = release.load("kv.node"), release.load("kv.count")
    barrier, found = threading.Barrier(8), []

    def call() -> None:
        barrier.wait()
        found.append(node.late())

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, (module for module, _ in found)))) == 1
    assert len(count.TIMES) == 1


def test_a_traceback_shows_the_authors_file_and_line(write: Write, load: Load) -> None:
    node = run(load, write, "def fail():\n    word = 'late'\n    raise ValueError(word)\n")
    with pytest.raises(ValueError, match="late") as caught:
        node.fail()
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (Path(frame.filename), frame.lineno) == (Path(node.__file__ or ""), 3)
    assert frame.line == "raise ValueError(word)"


def test_modules_know_what_they_are(write: Write, load: Load, tmp_path: Path) -> None:
    node = run(load, write, "class Node:\n    '''A node.'''\n    def f(self):\n        return 1\n")
    assert node.__file__ == str((tmp_path / "release/kv/node.py").resolve())
    assert node.__spec__ is not None
    assert node.__spec__.origin == node.__file__
    assert node.__package__ == node.__spec__.parent == node.__name__.rpartition(".")[0]
    assert node.Node.__module__ == node.__name__
    assert inspect.getsource(node.Node).startswith("class Node:\n    '''A node.'''")
    assert inspect.getsource(node.Node.f) == "    def f(self):\n        return 1\n"
    assert inspect.getmodule(node.Node) is node
    assert inspect.getsource(node).startswith("class Node")


def test_what_looks_up_a_classes_module_finds_it(write: Write, load: Load) -> None:
    """Each of these asks `sys.modules` for the class's module."""
    node = run(
        load,
        write,
        """
        from __future__ import annotations
        import dataclasses, enum, typing

        @dataclasses.dataclass(frozen=True, slots=True)
        class Point:
            x: int
            kind: typing.ClassVar[str] = "point"
            near: Point | None = None
            _: dataclasses.KW_ONLY
            y: int = 0

        class Pair(typing.NamedTuple):
            one: Point

        @enum.global_enum
        class Colour(enum.Enum):
            RED = 1
        """,
    )
    point = node.Point(1, y=2)
    assert pickle.loads(pickle.dumps(point)) == point
    assert typing.get_type_hints(node.Pair) == {"one": node.Point}
    assert typing.get_type_hints(node.Point)["near"] == node.Point | None
    assert pickle.loads(pickle.dumps(node.Colour.RED)) is node.Colour.RED


def test_previous_is_the_release_before_in_every_form_of_import(write: Write, load: Load) -> None:
    files = {"kv/__init__.py": "", "kv/other.py": "class Thing: ...", "plain.py": ""}
    first = load(write("one", files))
    upgrade = """
        import previous
        import previous.kv.other
        import previous.kv.other as a
        from previous import kv as b
        from previous.kv import other as c
        from previous.kv.other import Thing as d
        from previous.kv.other import *
        import importlib, kv.other
        e = importlib.import_module("previous.kv.other")
        f = importlib.import_module("previous").kv.other
        def late():
            from previous.kv import other
            return other
        ALL = [previous.kv.other.Thing, a.Thing, b.other.Thing, c.Thing, d, Thing, e.Thing, f.Thing, late().Thing]
        OWN = kv.other.Thing
        """
    module = load(write("two", {**files, "kv/upgrade.py": upgrade}), 2, first).load("kv.upgrade")
    assert set(module.ALL) == {first.load("kv.other").Thing}
    assert module.OWN is not first.load("kv.other").Thing


def test_previous_is_what_the_bundle_brought_where_the_release_before_is_not_loaded(write: Write, load: Load) -> None:
    files = {
        "kv/__init__.py": "",
        "kv/other.py": "WHO = 2",
        "kv/upgrade.py": "from previous.kv import node\nfrom kv import other",
        "previous/kv/__init__.py": "",
        "previous/kv/node.py": "from kv import other",
        "previous/kv/other.py": "WHO = 1",
    }
    release = load(write("two", files), 2)
    module = release.load("kv.upgrade")
    assert (module.node.other.WHO, module.other.WHO) == (1, 2)
    assert release.previous is not None
    assert release.previous.version == 1


def test_the_loaded_release_before_wins_over_what_the_bundle_brought(write: Write, load: Load) -> None:
    first = load(write("one", {"plain.py": "WHO = 'loaded'"}))
    files = {"up.py": "from previous.plain import WHO", "previous/plain.py": "WHO = 'brought'"}
    assert load(write("two", files), 2, first).load("up").WHO == "loaded"


def test_what_version_1_pickled_is_read_by_version_2_as_previous(write: Write, load: Load) -> None:
    files = {"kv/__init__.py": "", "kv/thing.py": "class Thing: ...", "kv/up.py": "from previous.kv.thing import Thing"}
    release = load(write("one", files))
    kept = pickle.dumps(release.load("kv.thing").Thing())
    release.unload()
    first = LoadedRelease(release.folder, release.version)  # as in another process
    upgrade = load(write("two", files), 2, first).load("kv.up")
    assert type(pickle.loads(kept)) is upgrade.Thing
    first.unload()
