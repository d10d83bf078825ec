"""The rule: what is wrong with a release's code is said with its file and line."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from segue.errors import ReleaseError
from segue.release.modules import LoadedRelease

Write = Callable[[str, Mapping[str, str]], Path]
Load = Callable[..., LoadedRelease]


@pytest.mark.parametrize(
    ("code", "line", "what"),
    [
        ("\nimport nope_nowhere\n", 2, "ModuleNotFoundError: No module named 'nope_nowhere'"),
        ("from kv.nope import x", 1, "ModuleNotFoundError: No module named 'kv.nope'"),
        ("from kv import nope", 1, "ImportError: cannot import name 'nope' from 'kv'"),
        ("x = 1\n\nx = = 2\n", 3, "SyntaxError: invalid syntax"),
        ("def f():\n    return 1 / 0\n\nf()", 2, "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('enough')", 2, "SystemExit: enough"),
        ("raise ValueError", 1, "ValueError"),
        ("raise ValueError('two\\nlines')", 1, "ValueError: two lines"),
        ("import json\njson.loads('{')", 2, "JSONDecodeError"),
        ("import kv.bad", 4, "KeyError: 'x'"),
        ("import previous.kv", 1, "ModuleNotFoundError: No module named 'previous.kv'"),
    ],
)
def test_a_failed_import_names_the_authors_line(code: str, line: int, what: str, write: Write, load: Load) -> None:
    folder = write("release", {"kv/__init__.py": "", "kv/bad.py": "\n\n\n{}['x']", "kv/node.py": code})
    with pytest.raises(ReleaseError) as caught:
        load(folder).load("kv.node")
    message = str(caught.value)
    file = "kv/bad.py" if "kv.bad" in code else "kv/node.py"
    assert f"{file}:{line}: {what}" in message
    assert "\n" not in message
    assert "segue_release" not in message
    assert caught.value.__cause__ is not None
    assert type(caught.value.__cause__).__name__ == what.partition(":")[0]


def test_a_failure_in_the_release_before_names_that_releases_line(write: Write, load: Load) -> None:
    first = load(write("one", {"kv/__init__.py": "", "kv/old.py": "\n1 / 0"}))
    second = load(write("two", {"up.py": "from previous.kv import old"}), 2, first)
    with pytest.raises(ReleaseError, match=r"one/kv/old.py:2: ZeroDivisionError"):
        second.load("up")


@pytest.mark.parametrize("name", ["nope", "kv.nope", "json", "previous"])
def test_a_module_that_is_not_there_is_named_with_the_file_that_was_expected(
    name: str, write: Write, load: Load
) -> None:
    folder = write("release", {"kv/__init__.py": ""})
    with pytest.raises(ReleaseError) as caught:
        load(folder).load(name)
    assert f"{folder.resolve()}: release 1 has no module {name}" in str(caught.value)
    assert f"{name.replace('.', '/')}.py" in str(caught.value)


def test_a_reference_leads_to_what_it_names(write: Write, load: Load) -> None:
    release = load(write("release", {"kv/node.py": "class Node: ..."}))
    assert release.resolve("kv.node:Node") is release.load("kv.node").Node


@pytest.mark.parametrize("reference", ["kv.node", "kv.node:", ":Node", "kv node:Node", "kv.node:Node:x", "", "kv.:N"])
def test_a_reference_of_another_form_is_refused(reference: str, write: Write, load: Load) -> None:
    with pytest.raises(ReleaseError, match="is not MODULE:NAME"):
        load(write("release", {"kv/node.py": ""})).resolve(reference)


def test_a_name_that_is_not_there_is_named_with_its_file(write: Write, load: Load) -> None:
    with pytest.raises(ReleaseError, match=r"release/kv/node.py: module kv.node of release 1 has no Nod;"):
        load(write("release", {"kv/node.py": "class Node: ..."})).resolve("kv.node:Nod")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, load: Load) -> None:
    with pytest.raises(ReleaseError, match="release 3: there is no folder"):
        load(tmp_path / "nope", 3)
