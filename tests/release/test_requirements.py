"""The rule: a release's lock says what, in which version and with which bytes, and never where from."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from segue.errors import ReleaseError
from segue.release.bundle import build, unpack
from segue.release.requirements import parse_requirements
from segue.testing.wheels import make_wheel

Write = Callable[[str, Mapping[str, str]], Path]

H, G = f"sha256:{'a' * 64}", f"sha512:{'0' * 128}"

COMPILED = f"""# This file was made by uv
Zope.Interface[test, x]==6.0 ; python_version < '3.13' \\
    --hash={H} \\
    --hash={G}
    # via kv
plain==1.0+local.2 --hash={H}  # beside it

\tpadded == 2!1.0rc1   --hash {H}
"""


def test_a_compiled_lock_is_read() -> None:
    first, plain, padded = parse_requirements(COMPILED.encode(), "r.txt")
    assert (first.name, first.version, first.extras) == ("zope-interface", "6.0", "[test, x]")
    assert (first.marker, first.hashes, first.line) == ("python_version < '3.13'", (H, G), 2)
    assert (str(plain), plain.line) == ("plain==1.0+local.2", 6)
    assert (str(padded), padded.hashes) == ("padded==2!1.0rc1", (H,))


def test_what_is_handed_to_the_installer_reads_the_same() -> None:
    requirements = parse_requirements(COMPILED.encode(), "r.txt")
    again = parse_requirements("\n".join(one.as_line() for one in requirements).encode(), "r.txt")
    assert [one.as_line() for one in again] == [one.as_line() for one in requirements]
    assert [one.hashes for one in again] == [one.hashes for one in requirements]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "   # nothing"])
def test_a_lock_may_require_nothing(text: str) -> None:
    assert parse_requirements(text.encode(), "r.txt") == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lib==1.0", "lib==1.0 has no hash"),
        (f"lib>=1.0 --hash={H}", "'lib>=1.0' is not pinned: write NAME==VERSION"),
        (f"lib --hash={H}", "'lib' is not pinned"),
        (f"lib==1.* --hash={H}", "is not pinned"),
        (f"lib==1.0,<2 --hash={H}", "is not pinned"),
        (f"lib===1.0 --hash={H}", "is not pinned"),
        ("lib==1.0 --hash=md5:00", "'md5:00' is no hash such as sha256:"),
        ("lib==1.0 --hash=sha256:00", "'sha256:00' is no hash such as sha256:"),
        (f"lib==1.0 --hash={H} --config-settings=a", "--config-settings=a does not belong in a release's lock"),
        ("--index-url https://pypi.example/simple", "--index-url: where a node gets it from is its operator's to say"),
        ("--extra-index-url=https://pypi.example/simple", "its operator's to say"),
        ("-i https://pypi.example/simple", "its operator's to say"),
        ("-ihttps://pypi.example/simple", "its operator's to say"),
        ("--find-links wheels", "its operator's to say"),
        ("-f wheels", "its operator's to say"),
        ("-e .", "-e: an editable requirement has no hash"),
        ("--editable=git+https://x.example/y", "an editable requirement has no hash"),
        ("-r more.txt", "a bundle's lock is one file"),
        ("-c more.txt", "a bundle's lock is one file"),
        ("--pre", "--pre does not belong in a release's lock"),
        (f"lib @ https://x.example/lib-1.0-py3-none-any.whl --hash={H}", "says where to get it from"),
        ("git+https://x.example/lib", "says where to get it from"),
        ("https://x.example/lib-1.0.tar.gz", "says where to get it from"),
        ("./wheels/lib-1.0-py3-none-any.whl", "says where to get it from"),
        ("/tmp/lib", "says where to get it from"),
        (f"segue==1.0 --hash={H}", "segue is the node's own"),
        (f"lib==${{VERSION}} --hash={H}", "is not pinned"),
    ],
)
def test_what_is_no_lock_is_refused_with_its_line(line: str, said: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        parse_requirements(f"# first\nfine==1.0 --hash={H}\n\n{line}\n".encode(), "kv-1/requirements.txt")
    assert str(caught.value).startswith("kv-1/requirements.txt:4: ")
    assert said in str(caught.value)


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ReleaseError, match=r"r\.txt: is not UTF-8"):
        parse_requirements(b"\xff", "r.txt")


@pytest.fixture
def release(write: Write, manifest: Callable[[int], str]) -> Callable[..., Path]:
    """Writes a release of a version, with a lock and further files."""

    def release(version: int, lock: str | None = None, files: Mapping[str, str] = {}) -> Path:
        upgrade = "" if version == 1 else "def transform(): ...\nclass Past: ...\nclass Future: ..."
        return write(
            f"kv-{version}",
            {
                "release.toml": manifest(version),
                "kv/__init__.py": "",
                "kv/node.py": "class Node: ...",
                "kv/upgrade.py": upgrade,
                **({} if lock is None else {"requirements.txt": lock}),
                **files,
            },
        )

    return release


LIB = make_wheel("lib", "1.0", {"lib/__init__.py": "VERSION = 1"})
OTHER = make_wheel("other", "1.0", {"other.py": ""})


def test_lock_and_wheels_are_in_the_bundle(release: Callable[..., Path], tmp_path: Path) -> None:
    folder = release(1, LIB.line() + OTHER.line())
    LIB.write(folder / "wheels")
    bundle = build(folder)
    assert build(folder) == bundle
    unpack(bundle, tmp_path / "there")
    assert (tmp_path / "there/wheels" / LIB.name).read_bytes() == LIB.content
    assert (tmp_path / "there/requirements.txt").read_text() == LIB.line() + OTHER.line()


def test_what_the_author_installed_to_try_it_is_not_in_the_bundle(release: Callable[..., Path]) -> None:
    folder = release(1, LIB.line())
    bundle = build(folder)
    (folder / ".requirements/lib").mkdir(parents=True)
    (folder / ".requirements/lib/__init__.py").write_text("a syntax error")
    assert build(folder) == bundle


def test_a_lock_that_is_none_makes_no_bundle(release: Callable[..., Path]) -> None:
    folder = release(1, "lib==1.0\n")
    with pytest.raises(ReleaseError, match=r"kv-1/requirements\.txt:1: lib==1\.0 has no hash"):
        build(folder)


def test_wheels_without_a_lock_are_refused(release: Callable[..., Path]) -> None:
    folder = release(1)
    LIB.write(folder / "wheels")
    with pytest.raises(ReleaseError, match=r"kv-1/wheels/lib-1\.0-py3-none-any\.whl: .*there is no .*requirements"):
        build(folder)


def test_a_wheel_that_no_hash_names_is_refused(release: Callable[..., Path]) -> None:
    folder = release(1, f"# the lock\nlib==1.0 --hash={H}\n")
    LIB.write(folder / "wheels")
    with pytest.raises(ReleaseError) as caught:
        build(folder)
    assert f"no hash in requirements.txt names it, its own is {LIB.hash}: add it to lib==1.0, line 2" in str(
        caught.value
    )


@pytest.mark.parametrize("file", ["notes.txt", "lib-1.0.tar.gz", "lib-1.0-py3-none-any.whl", "deep/lib.whl"])
def test_what_is_no_wheel_is_refused(file: str, release: Callable[..., Path]) -> None:
    folder = release(1, LIB.line(), {f"wheels/{file}": "text"})
    with pytest.raises(ReleaseError, match=rf"kv-1/wheels/{file}: is no wheel"):
        build(folder)


def test_what_the_previous_release_requires_comes_along_where_its_code_does(
    release: Callable[..., Path], tmp_path: Path
) -> None:
    """A node that never ran the older release has to import what the new one takes of it."""
    older = release(1, LIB.line() + OTHER.line(), {"kv/node.py": "import lib, json\nclass Node: ..."})
    LIB.write(older / "wheels")
    OTHER.write(older / "wheels")
    newer = release(2, OTHER.line(), {"kv/upgrade.py": "from previous.kv.node import Node\n" + UPGRADE})
    OTHER.write(newer / "wheels")
    unpack(build(newer, previous=older), tmp_path / "there")
    assert (tmp_path / "there/previous/requirements.txt").read_text() == LIB.line() + OTHER.line()
    assert [path.name for path in (tmp_path / "there/previous/wheels").iterdir()] == [LIB.name]  # the other is there


UPGRADE = "def transform(): ...\nclass Past: ...\nclass Future: ..."


@pytest.mark.parametrize("code", ["", "import json, grpc, segue\nfrom google.protobuf import any_pb2\n", "import kv\n"])
def test_what_the_previous_release_requires_stays_away_where_nothing_needs_it(
    code: str, release: Callable[..., Path], tmp_path: Path
) -> None:
    older = release(1, LIB.line(), {"kv/node.py": code + "class Node: ..."})
    newer = release(2, None, {"kv/upgrade.py": "from previous.kv.node import Node\n" + UPGRADE})
    unpack(build(newer, previous=older), tmp_path / "there")
    assert not (tmp_path / "there/previous/requirements.txt").exists()


def test_a_library_of_the_previous_release_may_be_imported_as_such(
    release: Callable[..., Path], tmp_path: Path
) -> None:
    older = release(1, LIB.line())
    newer = release(2, None, {"kv/upgrade.py": "from previous import lib\nimport previous.lib.deep\n" + UPGRADE})
    unpack(build(newer, previous=older), tmp_path / "there")
    assert (tmp_path / "there/previous/requirements.txt").exists()


def test_an_untouched_class_that_imports_libraries_requires_the_same(
    release: Callable[..., Path], manifest: Callable[[int], str]
) -> None:
    """Its nodes go on with the code, and the libraries, of the release before."""
    untouched = manifest(1).replace("version = 1", "version = 2")
    files = {"kv/node.py": "import lib\nclass Node: ..."}
    older = release(1, LIB.line(), files)
    newer = release(2, LIB.line(), {**files, "release.toml": untouched})
    assert build(newer, previous=older)
    (newer / "requirements.txt").write_text(f"# changed\nlib==1.1 --hash={H}\n")
    with pytest.raises(ReleaseError) as caught:
        build(newer, previous=older)
    assert "class Node, which has no upgrade there, imports lib (" in str(caught.value)
    assert "kv-2/kv/node.py:1), which may be of it: give Node an upgrade" in str(caught.value)
    for folder in (older, newer):
        (folder / "kv/node.py").write_text("import json\nclass Node: ...")
    assert build(newer, previous=older)
