"""The rule: same files, same bytes; and a bundle comes out as it went in, whole and with nothing else."""

import os
import random
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import OperatorError, ReleaseError
from segue.release import archive
from segue.release.bundle import build, content_hash, manifest_of, unpack

Write = Callable[[str, Mapping[str, str]], Path]
Text = Callable[[int], str]

NODE = "class Node: ..."
UPGRADE = "class Past: ...\nclass Future: ...\ndef transform(old, new, context): ..."

part = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/\\"), min_size=1, max_size=8
)
path = st.lists(part.filter(lambda one: one not in (".", "..")), min_size=1, max_size=4).map("/".join)
contents = st.dictionaries(path, st.binary(max_size=1500), max_size=8)


def is_a_tree(files: Mapping[str, bytes]) -> bool:
    return not any(other.startswith(f"{file}/") for file in files for other in files)


def one_file(name: str, content: bytes = b"x", **header: object) -> bytes:
    """Return a tar with one member, as `tarfile` writes it."""
    held = BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        for key, value in header.items():
            setattr(member, key, value)
        tar.addfile(member, BytesIO(content))
    return held.getvalue()


def in_folder(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_times_order_and_permissions_do_not_show(write: Write, manifest: Text, tmp_path: Path) -> None:
    files = {"release.toml": manifest(1), "kv/__init__.py": "", "kv/node.py": NODE, "z.txt": "z", "kv/data/a": "a"}
    first = write("first", files)
    second = write("second", dict(reversed(files.items())))
    for number, one in enumerate(sorted(second.rglob("*"))):
        os.utime(one, (1000 + number, 2000 + number))
        one.chmod(0o700 if number % 2 else 0o777)
    assert build(first) == build(second)


def test_what_is_left_out_does_not_show(write: Write, manifest: Text) -> None:
    folder = write("release", {"release.toml": manifest(1), "kv/node.py": NODE})
    before = build(folder)
    write("release", {"kv/__pycache__/node.pyc": "x", "kv/x.pyc": "x", ".git/config": "x", "kv/.hidden": "x"})
    (folder / "empty").mkdir()
    assert build(folder) == before
    assert set(archive.read(before)) == {"release.toml", "kv/node.py"}


@pytest.mark.parametrize("change", [{"kv/node.py": NODE + "\n"}, {"more.txt": ""}])
def test_every_file_shows(change: Mapping[str, str], write: Write, manifest: Text) -> None:
    folder = write("release", {"release.toml": manifest(1), "kv/node.py": NODE})
    before = content_hash(build(folder))
    write("release", change)
    assert content_hash(build(folder)) != before


def test_the_hash_is_that_of_the_bytes() -> None:
    assert content_hash(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_an_ordinary_tar_reads_it(write: Write, manifest: Text) -> None:
    bundle = build(write("release", {"release.toml": manifest(1), "kv/node.py": NODE}))
    with tarfile.open(fileobj=BytesIO(bundle)) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == ["kv/node.py", "release.toml"]
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {
        (0, 0, 0, "", 0o644)
    }


@settings(deadline=None)
@given(contents.filter(is_a_tree), st.randoms())
def test_files_come_out_as_they_went_in_whatever_their_order(files: dict[str, bytes], chance: random.Random) -> None:
    shuffled = list(files.items())
    chance.shuffle(shuffled)
    assert archive.pack(dict(shuffled)) == archive.pack(files)
    assert archive.read(archive.pack(files)) == files


@settings(deadline=None, max_examples=25)
@given(contents.filter(is_a_tree))
def test_unpacked_files_are_those_that_were_packed(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        unpack(archive.pack(files), Path(folder) / "into")
        assert in_folder(Path(folder) / "into") == files
        assert os.listdir(folder) == ["into"]


@pytest.mark.parametrize(
    ("bundle", "complaint"),
    [
        (one_file("/etc/passwd"), "may not hold '/etc/passwd'"),
        (one_file("../x"), "may not hold '../x'"),
        (one_file("a/../../x"), "may not hold"),
        (one_file(".."), "may not hold"),
        (one_file("./x"), "may not hold"),
        (one_file("a//x"), "may not hold"),
        (one_file("a\\..\\x"), "may not hold"),
        (one_file("a\nb"), "may not hold"),
        (one_file("link", b"", type=tarfile.SYMTYPE, linkname="/etc"), "holds 'link', a link"),
        (one_file("link", b"", type=tarfile.LNKTYPE, linkname="x"), "holds 'link', a link"),
        (one_file("dev", b"", type=tarfile.CHRTYPE), "holds 'dev', a device file"),
        (one_file("dev", b"", type=tarfile.BLKTYPE), "holds 'dev', a device file"),
        (one_file("fifo", b"", type=tarfile.FIFOTYPE), "holds 'fifo', a pipe"),
        (one_file("x", type=tarfile.CONTTYPE), "tar's type b'7'"),
        (one_file("x", type=tarfile.GNUTYPE_SPARSE), "tar's type b'S'"),
        (one_file("x", type=tarfile.XHDTYPE), "tar's type b'x'"),
        (one_file("x", type=tarfile.XGLTYPE), "tar's type b'g'"),
        (one_file("x", type=tarfile.GNUTYPE_LONGNAME), "tar's type b'L'"),
        (one_file("x", type=b"?"), "tar's type b'?'"),
        (one_file("a", b"x" * 600, type=tarfile.DIRTYPE), "has 600 bytes"),
        (one_file("a")[:1024] + one_file("a"), "holds 'a' twice"),
        (one_file("a", b"", type=tarfile.DIRTYPE)[:512] + one_file("a"), "holds 'a' twice"),
        (one_file("a/b")[:1024] + one_file("a"), "holds 'a' twice"),
        (one_file("a")[:1024] + one_file("a/b"), "'a' as a file and as a folder"),
        (one_file("a") + b"more", "does not end as a tar does"),
        (one_file("a")[:1024], "is cut short"),
        (one_file("a")[:1024] + bytes(512), "does not end as a tar does"),
        (one_file("a", b"x" * 600)[:1100], "is cut short within 'a'"),
        (b"", "no release bundle"),
        (b"not a tar", "no release bundle"),
        (b"not a tar" * 100, "no release bundle"),
        (b"\x1f\x8b" + b"zip" * 1000, "no release bundle"),
    ],
)
def test_what_a_bundle_may_not_hold_is_refused_and_nothing_is_written(
    bundle: bytes, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError) as caught:
        unpack(bundle, tmp_path / "into")
    assert complaint in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(ReleaseError):
        manifest_of(garbage)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_bundle_is_refused_or_safe(data: st.DataObject) -> None:
    """Whatever one changed byte makes of it: an error of ours, or plain files below the folder."""
    bundle = bytearray(archive.pack({"a/b": b"x" * 10, "c": b"y" * 600}))
    bundle[data.draw(st.integers(0, len(bundle) - 1))] = data.draw(st.integers(0, 255))
    try:
        files = archive.read(bytes(bundle))
    except ReleaseError:
        return
    for name in files:
        assert not name.startswith("/")
        assert ".." not in name.split("/")


@settings(deadline=None)
@given(st.integers(0, 5000))
def test_a_bundle_that_is_cut_short_is_refused(length: int) -> None:
    bundle = archive.pack({"a/b": b"x" * 700, "c": b"y" * 600})
    last_file_ends = 512 + 1024 + 512 + 1024
    assert last_file_ends < len(bundle)
    with pytest.raises(ReleaseError):
        archive.read(bundle[: min(length, last_file_ends + 1023)])


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(OperatorError, match="exists already"):
        unpack(archive.pack({"a": b""}), into)
    assert list(into.iterdir()) == []


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".into.partial"
    left.mkdir()
    (left / "old").touch()
    unpack(archive.pack({"a": b"a"}), tmp_path / "into")
    assert in_folder(tmp_path) == {"into/a": b"a"}


def test_files_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        unpack(archive.pack({"a": b"a", f"{'x' * 120}/{'é' * 45}": b"", f"{'y' * 150}/z": b""}), tmp_path / ("i" * 250))
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_is_read_without_unpacking(write: Write, manifest: Text) -> None:
    bundle = build(write("release", {"release.toml": manifest(1), "kv/node.py": NODE}))
    assert (manifest_of(bundle).system, manifest_of(bundle).version) == ("kv", 1)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "has no release.toml"),
        ({"release.toml": b"\xff"}, "release.toml is not UTF-8"),
        ({"release.toml": b"release = 3"}, "release.toml of the bundle:1: "),
    ],
)
def test_a_bundle_without_a_good_manifest_is_refused(files: dict[str, bytes], complaint: str) -> None:
    with pytest.raises(ReleaseError, match=complaint):
        manifest_of(archive.pack(files))


@pytest.mark.parametrize("name", ["/a", "../a", "a//b", "", "a\\b", "a\x07", "\udc80"])
def test_a_path_that_could_not_be_read_back_is_not_packed(name: str) -> None:
    with pytest.raises(ReleaseError):
        archive.pack({name: b""})


def test_a_path_that_is_too_long_is_named(write: Write, manifest: Text) -> None:
    folder = write("release", {"release.toml": manifest(1), "kv/node.py": NODE, "/".join(["d" * 99] * 3): ""})
    with pytest.raises(ReleaseError, match=r"ddd.*give it a shorter, plainer name"):
        build(folder)


def test_a_link_in_a_release_is_refused(write: Write, manifest: Text) -> None:
    folder = write("release", {"release.toml": manifest(1), "kv/node.py": NODE})
    (folder / "link").symlink_to("kv")
    with pytest.raises(ReleaseError, match=r"release/link: a bundle holds plain files"):
        build(folder)
    (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(ReleaseError, match=r"release/pipe: a bundle holds plain files"):
        build(folder)
