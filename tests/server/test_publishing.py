"""Rule: only the next release of a system is published, whole, and once; it is served as it was published."""

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from segue.errors import OperatorError, ReleaseError
from segue.model.ids import ContentHash, SystemName
from segue.release import archive
from segue.server.bundles import BundleFolder
from segue.testing.server import SYSTEM, Bench, bundle_of


def sha(content: bytes) -> ContentHash:
    return ContentHash(hashlib.sha256(content).hexdigest())


async def test_a_release_is_announced_as_it_was_published(bench: Bench) -> None:
    first, second = bundle_of(1, description="SHA-1 keys"), bundle_of(2)
    notice = await bench.server.publish(first)
    await bench.server.publish(second)
    assert (notice.version, notice.sha256, notice.size_bytes) == (1, sha(first), len(first))
    assert (notice.description, notice.published_at) == ("SHA-1 keys", bench.clock.now())
    assert [release.version for release in await bench.server.releases(SYSTEM)] == [1, 2]
    assert await bench.server.fetch(sha(first)) == first


@pytest.mark.parametrize("later_s", [0, 60])
async def test_publishing_again_changes_nothing(bench: Bench, later_s: int) -> None:
    bundle = bundle_of(1)
    path = f"/v1/releases?sha256={sha(bundle)}"
    first = await bench.http.post(path, content=bundle)
    bench.clock.move(later_s)
    again = await bench.http.post(path, content=bundle)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert len(await bench.server.releases(SYSTEM)) == 1


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"half"), lambda file: file.write_bytes(
    b"x" * file.stat().st_size)], ids=["lost", "cut", "changed"])  # fmt: skip
async def test_publishing_again_restores_a_bundle(
    bench: Bench, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    bundle = bundle_of(1)
    await bench.server.publish(bundle)
    damage(tmp_path / "bundles" / sha(bundle))
    response = await bench.http.post(f"/v1/releases?sha256={sha(bundle)}", content=bundle)
    assert response.status_code == 200
    assert await bench.server.fetch(sha(bundle)) == bundle


@pytest.mark.parametrize(
    ("published", "version", "message"),
    [
        (0, 3, "blockstore has no release yet; the first is 1, this bundle says 3"),
        (2, 5, "blockstore has release 2; the next is 3, this bundle says 5"),
    ],
)
async def test_a_version_that_is_not_the_next_is_refused(
    bench: Bench, published: int, version: int, message: str
) -> None:
    for number in range(1, published + 1):
        await bench.server.publish(bundle_of(number))
    bundle = bundle_of(version)
    status, refusal = await bench.error("POST", f"/v1/releases?sha256={sha(bundle)}", content=bundle)
    assert (status, refusal) == (409, {"family": "release", "message": message})
    with pytest.raises(OperatorError):
        await bench.server.fetch(sha(bundle))


async def test_a_release_never_changes(bench: Bench) -> None:
    await bench.server.publish(bundle_of(1))
    other = bundle_of(1, description="changed")
    status, refusal = await bench.error("POST", f"/v1/releases?sha256={sha(other)}", content=other)
    assert (status, refusal["family"]) == (409, "release")
    assert "has a release 1 already" in refusal["message"]
    assert "publish it as version 2" in refusal["message"]
    with pytest.raises(OperatorError, match="there is no bundle"):
        await bench.server.fetch(sha(other))


async def test_systems_have_histories_of_their_own(bench: Bench) -> None:
    await bench.server.publish(bundle_of(1))
    await bench.server.publish(bundle_of(1, system="other"))
    assert len(await bench.server.releases(SystemName("other"))) == 1


async def test_a_body_with_another_hash_is_refused(bench: Bench) -> None:
    bundle = bundle_of(1)
    status, refusal = await bench.error("POST", f"/v1/releases?sha256={'0' * 64}", content=bundle)
    assert (status, refusal["family"]) == (422, "trust")
    assert sha(bundle) in refusal["message"]


@pytest.mark.parametrize(
    "bundle", [b"", b"no bundle", archive.pack({"release.toml": b"[release]\nversion = 0\n"}), archive.pack({})]
)
async def test_what_is_no_release_is_refused(bench: Bench, bundle: bytes) -> None:
    with pytest.raises(ReleaseError):
        await bench.server.publish(bundle)
    with pytest.raises(OperatorError, match="no system blockstore is known here"):
        await bench.server.releases(SYSTEM)


async def test_a_body_over_the_limit_is_refused(bench: Bench) -> None:
    bundle = b"x" * 100_001
    status, refusal = await bench.error("POST", f"/v1/releases?sha256={sha(bundle)}", content=bundle)
    assert (status, refusal["family"]) == (413, "operator")
    assert "larger than 100000 bytes" in refusal["message"]


async def test_a_body_of_unknown_length_over_the_limit_is_refused(bench: Bench) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 10_000

    status, _ = await bench.error("POST", f"/v1/releases?sha256={'0' * 64}", content=pieces())
    assert status == 413


async def test_a_bundle_may_be_kept_for_ever(bench: Bench) -> None:
    bundle = bundle_of(1)
    await bench.server.publish(bundle)
    fetched = await bench.http.get(f"/v1/bundles/{sha(bundle)}")
    assert fetched.headers["etag"] == f'"{sha(bundle)}"'
    assert "immutable" in fetched.headers["cache-control"]
    assert fetched.headers["content-length"] == str(len(bundle))
    again = await bench.http.get(f"/v1/bundles/{sha(bundle)}", headers={"If-None-Match": fetched.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await bench.http.get(f"/v1/bundles/{sha(bundle)}", headers={"If-None-Match": '"other"'})
    assert other.content == bundle


async def test_an_unknown_bundle_is_refused(bench: Bench) -> None:
    status, refusal = await bench.error("GET", f"/v1/bundles/{'0' * 64}")
    assert (status, refusal["family"]) == (404, "operator")


async def test_the_authors_code_is_not_run(bench: Bench, tmp_path: Path) -> None:
    """The bundle's modules would leave a file behind."""
    manifest = archive.read(bundle_of(1))["release.toml"]
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')".encode()
    await bench.server.publish(archive.pack({"release.toml": manifest, "blockstore/node.py": trap}))
    assert not (tmp_path / "ran").exists()


def test_a_bundle_is_on_disk_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half-written is left where the disk fails, and keeping twice is keeping once."""
    bundles, sha256 = BundleFolder(tmp_path / "bundles"), ContentHash("0" * 64)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OperatorError, match="No space left on device: make room there"):
            bundles.keep(sha256, b"content")
    assert bundles.size_of(sha256) is None
    assert list((tmp_path / "bundles").iterdir()) == []
    bundles.keep(sha256, b"content")
    bundles.keep(sha256, b"content")
    assert b"".join(bundles.read(sha256)) == b"content"
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == [sha256]
