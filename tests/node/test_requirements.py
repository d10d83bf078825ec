"""The rule: what a release requires is in its folder whole or not at all, and who must act is told if it cannot be."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import uv

from segue.errors import OperatorError, PeerError, ReleaseError
from segue.model.ids import Version
from segue.node.requirements import InstallSettings, install_requirements
from segue.release.modules import LoadedRelease
from segue.testing.wheels import Index, Wheel, make_wheel, serving_index

LIB = make_wheel("lib", "1.0", {"lib/__init__.py": "VERSION = 1", "lib/data.txt": "here"})
ELSEWHERE = make_wheel("elsewhere", "1.0", {"elsewhere.py": ""}, tag="cp27-cp27m-win32")

OFFLINE = InstallSettings(offline=True)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index on loopback, which uv asks once."""
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving_index() as index:
        yield index


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an index that is not there."""
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and nobody listens
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/simple"


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., Path]:
    """Makes the folder of an unpacked release that requires some wheels, and ships some."""

    def release(required: list[Wheel], shipped: list[Wheel], under: str = "release") -> Path:
        folder = tmp_path / under
        folder.mkdir(exist_ok=True)
        (folder / "requirements.txt").write_text("# locked\n" + "".join(wheel.line() for wheel in required))
        for wheel in shipped:
            wheel.write(folder / "wheels")
        return folder

    return release


def left(folder: Path) -> list[str]:
    """Return the hidden names in a release's folder."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


async def test_nothing_is_done_where_nothing_is_required(tmp_path: Path) -> None:
    await install_requirements(tmp_path, OFFLINE)
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    await install_requirements(tmp_path, OFFLINE)
    assert left(tmp_path) == []


async def test_what_a_crash_left_at_the_end_is_gone(release: Callable[..., Path]) -> None:
    """All is installed; only what was needed for that is still there."""
    folder = release([LIB], [LIB])
    await install_requirements(folder, OFFLINE)
    for name in (".requirements.cache", ".requirements.partial-x"):
        (folder / name / "target").mkdir(parents=True)
    await install_requirements(folder, OFFLINE)
    assert left(folder) == [".requirements"]


@pytest.mark.parametrize("how", ["environment", "file"])
async def test_what_is_installed_lies_in_the_release(
    how: str, release: Callable[..., Path], index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where the operator has uv link to its cache, which is removed here, or is another's to change."""
    index.add(LIB)
    (tmp_path / "uv.toml").write_text('link-mode = "symlink"\n')
    if how == "environment":
        monkeypatch.setenv("UV_LINK_MODE", "symlink")
    else:
        monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    folder = release([LIB], [])
    await install_requirements(folder, InstallSettings(index_url=index.url))
    found = folder / ".requirements" / "lib" / "data.txt"
    assert found.read_text() == "here"
    assert not found.is_symlink()


async def test_wheels_of_the_bundle_are_installed_without_a_network(
    release: Callable[..., Path], index: Index, nowhere: str
) -> None:
    """Whether the node has an index or not: none is asked."""
    for number, settings in enumerate((OFFLINE, InstallSettings(index_url=nowhere), InstallSettings())):
        folder = release([LIB], [LIB], f"release{number}")
        await install_requirements(folder, settings)
        assert left(folder) == [".requirements"]
        loaded = LoadedRelease(folder, Version(1))
        try:
            assert loaded.load("lib").VERSION == 1
        finally:
            loaded.unload()
    assert index.asked == []


async def test_what_the_bundle_lacks_comes_from_the_index(release: Callable[..., Path], index: Index) -> None:
    other = make_wheel("other", "2.0", {"other.py": ""})
    index.add(other)
    folder = release([LIB, other], [LIB])
    await install_requirements(folder, InstallSettings(index_url=index.url))
    assert (folder / ".requirements/lib/data.txt").read_text() == "here"
    assert (folder / ".requirements/other.py").exists()
    assert left(folder) == [".requirements"]


async def test_an_index_in_uvs_own_variables_counts(
    release: Callable[..., Path], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    index.add(LIB)
    folder = release([LIB], [])
    await install_requirements(folder, InstallSettings())
    assert (folder / ".requirements/lib").is_dir()


async def test_variables_that_would_change_what_is_installed_do_not_count(
    release: Callable[..., Path], index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "constraint.txt").write_text("lib<1\n")
    monkeypatch.setenv("UV_CONSTRAINT", str(tmp_path / "constraint.txt"))
    monkeypatch.setenv("UV_NO_BINARY", "1")
    monkeypatch.setenv("UV_PYTHON", "2.7")
    monkeypatch.setenv("UV_NO_VERIFY_HASHES", "1")
    index.add(LIB)
    folder = release([LIB], [])
    await install_requirements(folder, InstallSettings(index_url=index.url))
    (folder / "requirements.txt").write_text(f"lib==1.0 --hash=sha256:{'0' * 64}\n")
    (folder / ".requirements").rename(tmp_path / "away")
    with pytest.raises(ReleaseError, match="Hash mismatch"):
        await install_requirements(folder, InstallSettings(index_url=index.url))


async def test_a_project_around_the_agents_folder_does_not_count(
    release: Callable[..., Path], index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor one that the release ships."""
    index.add(LIB)
    folder = release([LIB], [])
    for place in (tmp_path, folder):
        (place / "uv.toml").write_text("no-index = true\n")
    monkeypatch.chdir(tmp_path)
    await install_requirements(folder, InstallSettings(index_url=index.url))
    assert (folder / ".requirements/lib").is_dir()


async def test_a_folder_of_wheels_on_the_machine_will_do_offline(
    release: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    LIB.write(tmp_path / "mirror")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "mirror"))
    folder = release([LIB], [])
    await install_requirements(folder, OFFLINE)
    assert (folder / ".requirements/lib").is_dir()


async def test_what_the_node_has_is_installed_all_the_same(release: Callable[..., Path]) -> None:
    """A release has its own version, whatever the agent's environment holds."""
    version = metadata.version("rich")
    rich = make_wheel("rich", version, {"rich/__init__.py": "MINE = True"})
    folder = release([rich], [rich])
    await install_requirements(folder, OFFLINE)
    assert (folder / ".requirements/rich/__init__.py").read_text() == "MINE = True"


async def test_what_the_bundle_brings_of_the_release_before_has_its_own(release: Callable[..., Path]) -> None:
    older = make_wheel("lib", "0.9", {"lib/__init__.py": "VERSION = 0"})
    folder = release([LIB], [LIB])
    release([older], [older], "release/previous")
    await install_requirements(folder, OFFLINE)
    texts = [(place / ".requirements/lib/__init__.py").read_text() for place in (folder, folder / "previous")]
    assert texts == ["VERSION = 1", "VERSION = 0"]


async def test_a_wheel_that_both_need_is_in_the_bundle_once(release: Callable[..., Path]) -> None:
    folder = release([LIB], [LIB])
    release([LIB], [], "release/previous")
    await install_requirements(folder, OFFLINE)
    assert (folder / "previous/.requirements/lib").is_dir()


async def test_a_second_time_nothing_is_touched(release: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = release([LIB], [LIB])
    await install_requirements(folder, OFFLINE)
    before = (folder / ".requirements").stat()
    monkeypatch.setattr("uv.find_uv_bin", lambda: "/nowhere/uv")
    await install_requirements(folder, OFFLINE)
    assert (folder / ".requirements").stat() == before


async def test_nothing_is_written_elsewhere(
    release: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: Index
) -> None:
    """The cache is the installation's own, and goes with it, unless the operator has one."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    index.add(LIB)
    await install_requirements(release([LIB], []), InstallSettings(index_url=index.url))
    assert list((tmp_path / "home").iterdir()) == []
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    await install_requirements(release([LIB], [], "second"), InstallSettings(index_url=index.url))
    assert (tmp_path / "cache").is_dir()


async def test_a_wrong_hash_is_the_releases_fault(release: Callable[..., Path], index: Index) -> None:
    index.add(make_wheel("lib", "1.0", {"lib/__init__.py": "EVIL = True"}))
    folder = release([LIB], [])
    with pytest.raises(ReleaseError, match=r"requirements\.txt:2: lib==1\.0: .*Hash mismatch") as caught:
        await install_requirements(folder, InstallSettings(index_url=index.url))
    assert LIB.hash in caught.value.details  # type: ignore[attr-defined]
    assert "\n" not in str(caught.value)
    assert left(folder) == []


async def test_a_version_that_there_is_not_is_the_releases_fault(release: Callable[..., Path], index: Index) -> None:
    index.add(make_wheel("lib", "2.0", {"lib/__init__.py": ""}))
    with pytest.raises(ReleaseError, match=r"requirements\.txt:2: lib==1\.0: .*no version of lib==1\.0"):
        await install_requirements(release([LIB], []), InstallSettings(index_url=index.url))


async def test_a_library_that_no_index_has_is_the_releases_fault(release: Callable[..., Path], index: Index) -> None:
    with pytest.raises(ReleaseError, match=r"requirements\.txt:2: lib==1\.0: .*lib was not found"):
        await install_requirements(release([LIB], []), InstallSettings(index_url=index.url))


async def test_a_library_for_other_machines_is_the_releases_fault(release: Callable[..., Path], index: Index) -> None:
    index.add(ELSEWHERE)
    for shipped in ([], [ELSEWHERE]):
        folder = release([LIB, ELSEWHERE], [LIB, *shipped])
        with pytest.raises(ReleaseError, match=r"requirements\.txt:3: elsewhere==1\.0: .*no wheels with a matching"):
            await install_requirements(folder, InstallSettings(index_url=index.url))
        assert left(folder) == []  # not the half that could be installed


async def test_a_source_distribution_is_not_built(release: Callable[..., Path], index: Index) -> None:
    index.wheels["lib-1.0.tar.gz"] = b""
    with pytest.raises(ReleaseError, match=r"lib==1\.0: .*has no usable wheels"):
        await install_requirements(release([LIB], []), InstallSettings(index_url=index.url))


async def test_an_index_that_is_away_is_asked_again_later(
    release: Callable[..., Path], index: Index, nowhere: str
) -> None:
    folder = release([LIB], [])
    for url, status in ((nowhere, 200), (index.url, 503), (index.url, 429)):
        index.status = status
        with pytest.raises(PeerError, match=r"requirements\.txt:2: lib==1\.0: .*cannot be used now") as caught:
            await install_requirements(folder, InstallSettings(index_url=url))
        assert "error: " in caught.value.details  # type: ignore[attr-defined]
    index.status = 200
    index.add(LIB)
    await install_requirements(folder, InstallSettings(index_url=index.url))
    assert left(folder) == [".requirements"]


async def test_a_file_that_the_index_lost_is_asked_for_again(release: Callable[..., Path], index: Index) -> None:
    index.add(LIB)
    index.lost.add(LIB.name)
    with pytest.raises(PeerError, match=r"lib==1\.0: .*cannot be used now"):
        await install_requirements(release([LIB], []), InstallSettings(index_url=index.url))


async def test_an_index_that_asks_who_we_are_is_the_operators(release: Callable[..., Path], index: Index) -> None:
    for status in (401, 403):
        index.status = status
        with pytest.raises(OperatorError, match=rf"lib==1\.0: .*{status} .*: give the agent what the index asks for"):
            await install_requirements(release([LIB], []), InstallSettings(index_url=index.url))


async def test_a_node_without_a_network_says_so(
    release: Callable[..., Path], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = release([LIB, ELSEWHERE], [ELSEWHERE])
    says = r"this node uses no network .*: publish the release with a wheel"
    with pytest.raises(OperatorError, match=says) as caught:
        await install_requirements(folder, InstallSettings(index_url=index.url, offline=True))
    assert "(its wheels do not do: " in str(caught.value)
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(OperatorError, match=r"this node uses no network"):
        await install_requirements(folder, InstallSettings(index_url=index.url))
    assert index.asked == []


async def test_a_silent_index_ends_with_the_time(release: Callable[..., Path], index: Index) -> None:
    """And uv with it."""
    index.is_silent = True
    folder = release([LIB], [])
    with pytest.raises(PeerError, match=r"not installed within 1 s: .*--install-timeout-s"):
        await install_requirements(folder, InstallSettings(index_url=index.url, timeout_s=1))
    assert ".requirements" not in left(folder)
    assert processes_of(folder) == []


async def test_a_lock_that_says_where_from_is_refused_on_the_node_too(release: Callable[..., Path]) -> None:
    """A bundle may have been made by hand."""
    folder = release([], [])
    (folder / "requirements.txt").write_text("--index-url http://127.0.0.1:1/simple\n" + LIB.line())
    with pytest.raises(ReleaseError, match=r"requirements\.txt:1: --index-url"):
        await install_requirements(folder, OFFLINE)


@pytest.mark.parametrize("crash", ["agent", "all"])
async def test_an_installation_that_crashed_is_done_anew(
    crash: str, release: Callable[..., Path], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the index makes it wait: the agent alone, whose uv goes on for a while, or both."""
    index.is_silent = True
    folder = release([LIB], [])
    code = (
        "import asyncio, pathlib, sys; from segue.node.requirements import *\n"
        "asyncio.run(install_requirements(pathlib.Path(sys.argv[1]), InstallSettings(index_url=sys.argv[2])))"
    )
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(folder), index.url)
    async with asyncio.timeout(15):
        while not index.asked:
            assert agent.returncode is None
            await asyncio.sleep(0.02)
    installers = processes_of(folder)
    agent.kill()
    await agent.wait()
    if crash == "all":
        for pid in installers:
            os.kill(pid, signal.SIGKILL)
    assert any(name.startswith(".requirements.partial-") for name in left(folder))
    assert not (folder / ".requirements").exists()
    try:
        await install_requirements(release([LIB], [LIB]), OFFLINE)
    finally:
        for pid in set(processes_of(folder)) & set(installers):
            os.kill(pid, signal.SIGKILL)
    assert (folder / ".requirements/lib/data.txt").read_text() == "here"
    assert left(folder) == [".requirements"]


def processes_of(folder: Path) -> list[int]:
    """Return the ids of the processes of uv that install into a release's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"--target" in command and any(part.startswith(os.fsencode(f"{folder}/")) for part in command):
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"timeout_s": 0.0}, "must be more than 0 seconds"), ({"index_url": "pypi"}, "is no URL")],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        InstallSettings(**wrong)  # type: ignore[arg-type]


async def test_what_uv_compiles_can_be_installed(release: Callable[..., Path], tmp_path: Path) -> None:
    """The two commands of docs/writing-a-release.md, as far as they need no network."""
    folder = release([], [LIB])
    (folder / "requirements.in").write_text("lib\n")
    compiled = await asyncio.create_subprocess_exec(
        uv.find_uv_bin(), "pip", "compile", "requirements.in", "--universal", "--generate-hashes",
        "--no-emit-package", "segue", "--no-emit-package", "grpcio", "--no-emit-package", "protobuf",
        "--output-file", "requirements.txt", "--quiet", "--python", sys.executable,
        "--no-index", "--offline", "--find-links", "wheels", "--cache-dir", str(tmp_path / "cache"),
        cwd=folder, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await compiled.wait() == 0
    assert LIB.hash in (folder / "requirements.txt").read_text()
    await install_requirements(folder, OFFLINE)
    assert (folder / ".requirements/lib").is_dir()
