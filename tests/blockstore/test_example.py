"""The example is a model: only the upgrade knows both versions, generated code is current, the client runs by hand."""

import asyncio
import importlib.util
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from segue.model.ids import Version
from segue.release import bundle
from segue.release.modules import LoadedRelease

StartRing = Callable[..., Awaitable[Any]]


@pytest.mark.parametrize("release", ["blockstore-2", "blockstore-3"])
def test_only_the_upgrade_knows_the_version_before(example: Path, release: str) -> None:
    code = example / release / "blockstore"
    knowing = {path.relative_to(code).parts[0] for path in code.rglob("*.py") if "previous" in path.read_text()}
    assert knowing == {"upgrade"}


@pytest.mark.parametrize("release", ["blockstore-1", "blockstore-2", "blockstore-3"])
def test_generated_code_is_what_make_protos_writes(example: Path, release: str, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("protos", example.parent / "protos.py")
    assert spec is not None
    assert spec.loader is not None
    protos = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(protos)
    assert example / release in list(protos.releases())
    protos.generate(example / release, tmp_path)
    generated = {path.name: path.read_text() for path in (tmp_path / "blockstore").iterdir()}
    assert len(generated) == 3
    assert generated == {name: (example / release / "blockstore" / name).read_text() for name in generated}


@pytest.mark.parametrize("unpacked_previous", [True, False])
@pytest.mark.parametrize("version", [2, 3])
def test_its_bundles_are_complete(example: Path, tmp_path: Path, unpacked_previous: bool, version: int) -> None:
    """Also where the version before never ran: then `previous` is the copy that is in the bundle."""
    folders = [example / f"blockstore-{number}" for number in range(1, version + 1)]
    before = bundle.build(folders[-2], previous=folders[-3] if version > 2 else None)
    after = bundle.build(folders[-1], previous=folders[-2])
    bundle.unpack(before, tmp_path / "before")
    bundle.unpack(after, tmp_path / "after")
    previous = LoadedRelease(tmp_path / "before", Version(version - 1)) if unpacked_previous else None
    release = LoadedRelease(tmp_path / "after", Version(version), previous)
    past = release.load(f"blockstore.upgrade.version{version - 1}")
    ours, theirs = (getattr(past, f"v{number}").GetRequest for number in (version, version - 1))
    assert ours is not theirs
    manifest = bundle.manifest_of(after).classes["BlockNode"]
    assert manifest.upgrade is not None
    for name in (manifest.object, manifest.upgrade.transform, manifest.upgrade.past, manifest.upgrade.future):
        assert name is not None
        assert callable(release.resolve(name))
    for loaded in (release, previous):
        if loaded is not None:
            loaded.unload()


async def run_client(example: Path, ring: Any, version: int, *arguments: str) -> tuple[int | None, bytes, str]:
    members = ",".join(f"{node}={member.address}" for node, member in ring.members.items())
    options = ["--version", str(version), "--members", members]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(example / "client.py"), *options, *arguments, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    return process.returncode, out, err.decode()


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_the_client_runs_by_hand(start_ring: StartRing, example: Path, version: int) -> None:
    ring = await start_ring(3, version=version)
    code, key, err = await run_client(example, ring, version, "put", str(example / "README.md"))
    assert (code, err) == (0, "")
    got = await run_client(example, ring, version, "get", key.decode().strip())
    assert got == (0, (example / "README.md").read_bytes(), "")
    absent = ring.client(version).key_of(b"never put")
    assert await run_client(example, ring, version, "get", absent) == (
        1,
        b"",
        f"NOT_FOUND: no node has block {absent}\n",
    )
    code, _, err = await run_client(example, ring, version, "get", "nonsense")
    assert code == 1
    assert "'nonsense': give the" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("call", ["put", "get"])
async def test_no_call_of_the_client_lasts_for_ever(
    start_ring: StartRing, client_module: Any, monkeypatch: pytest.MonkeyPatch, version: int, call: str
) -> None:
    """A node that parks calls and never answers them is a call that failed."""
    monkeypatch.setattr(client_module, "DEADLINE_S", 0.1)
    ring = await start_ring(1, version=version)
    await ring.members["n1"].dispatch.quiesce(5)
    client = ring.client(version)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await (client.put(b"x") if call == "put" else client.get(client.key_of(b"x")))
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    ring.members["n1"].dispatch.resume()


def test_a_process_speaks_one_version(example: Path, client_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    with pytest.raises(ValueError, match="version 4: this client speaks 1, 2 and 3"):
        client_module.open_client(4, {}, release=example / "blockstore-1")
    loaded = sys.modules["blockstore.blockstore_pb2"] = type(sys)("blockstore.blockstore_pb2")
    loaded.__file__ = str(example / "blockstore-1" / "blockstore" / "blockstore_pb2.py")
    with pytest.raises(ValueError, match=r"took its code from .*blockstore-1.*: use another process"):
        client_module.open_client(2, {}, release=example / "blockstore-2")
