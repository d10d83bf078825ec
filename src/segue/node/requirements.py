"""Installs what a release requires into the release's own folder, with uv: whole, or not at all.

    RELEASE/.requirements/             what is installed; its being there says that it is all there
    RELEASE/.requirements.cache/       what uv has fetched so far, until the installation is done
    RELEASE/.requirements.partial-…/   an installation in progress, or what a crash left of one
    RELEASE/previous/.requirements/    the same for what the bundle brings of the release before

First without any network, from the wheels that the bundle ships; if these do not do, as the operator says: from an
index, or from what uv's own settings name. Only wheels are installed: to build a source distribution would run code
that nobody locked, on the node, with a compiler that it may not have.

Source: docs/decisions/0017.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import uv

from segue.errors import OperatorError, PeerError, ReleaseError
from segue.node.uv_failures import Attempt, failure
from segue.release.durable import sync_path, sync_tree
from segue.release.libraries import INSTALLED
from segue.release.needed import PREVIOUS
from segue.release.requirements import REQUIREMENTS_NAME, WHEELS, Requirement, parse_requirements

_CACHE = f"{INSTALLED}.cache"
_PARTIAL = f"{INSTALLED}.partial-"
#: Of what uv said, this much is kept.
_TAIL_BYTES = 64 * 1024

#: What an operator may say to uv concerns where from. These say what, and that the release has said.
_NOT_HEARD = frozenset(
    f"UV_{name}"
    for name in (
        "BUILD_CONSTRAINT", "CONSTRAINT", "EXCLUDE", "EXTRA", "GROUP", "NO_BINARY", "NO_BINARY_PACKAGE",
        "NO_VERIFY_HASHES", "OVERRIDE", "PREFIX", "PROJECT", "PYTHON", "SYSTEM_PYTHON", "TARGET", "TORCH_BACKEND",
        "WORKING_DIR",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSettings:
    """Where a node gets libraries from.

    Attributes:
        index_url: the index, such as `https://pypi.example/simple`; None for what uv's own settings say.
        offline: True to use no network: only what is in bundles and on this machine.
        timeout_s: seconds that the installation of one release may take.
    """

    index_url: str | None = None
    offline: bool = False
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise OperatorError(f"install_timeout_s is {self.timeout_s}: it must be more than 0 seconds")
        if self.index_url is not None and not self.index_url.startswith(("https://", "http://", "file://")):
            raise OperatorError(f"index {self.index_url!r} is no URL: write one such as https://pypi.example/simple")


async def install_requirements(release: Path, settings: InstallSettings) -> None:
    """Have what a release requires installed in its folder, on disk.

    Safe to run again, also after a crash in the middle: what is there is not touched, the rest is done anew.
    A release that requires nothing is done at once.

    Args:
        release: the folder of an unpacked bundle.
        settings: where libraries come from.

    Raises:
        RequirementsError: the release is to blame: its lock is none, no file has its hash, there is no such version
            or no wheel for this machine.
        OperatorError: this machine's owner must act: there is no network by order, or an index wants a password.
        PeerError: it did not work this time: an index does not answer, the time is over, a disk is full.
        OSError: the machine cannot write there.
    """
    try:
        async with asyncio.timeout(settings.timeout_s):
            for place, wheels in ((release / PREVIOUS, [release / PREVIOUS / WHEELS]), (release, [])):
                await _install(place, [*wheels, release / WHEELS], settings)
    except TimeoutError:
        raise PeerError(
            f"{release / REQUIREMENTS_NAME}: not installed within {settings.timeout_s:g} s: the index is slow or "
            "silent; if it is only slow, give more time with --install-timeout-s"
        ) from None


async def _install(place: Path, wheels: Sequence[Path], settings: InstallSettings) -> None:
    lock, target = place / REQUIREMENTS_NAME, place / INSTALLED
    if not lock.exists():
        return
    for left_by_a_crash in place.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left_by_a_crash, ignore_errors=True)
    if target.exists():
        shutil.rmtree(place / _CACHE, ignore_errors=True)  # a crash may have come before
        return
    requirements = parse_requirements(lock.read_bytes(), str(lock))
    if not requirements:
        return
    # A uv that outlived an agent that was killed still writes to the folder that it was given.
    work = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=place))
    try:
        await _fill(_Job(lock=lock, requirements=requirements, work=work, wheels=wheels), settings)
        (work / "target" / ".lock").unlink(missing_ok=True)  # uv's own
        await asyncio.to_thread(sync_tree, work / "target")  # thousands of files: the agent has others to answer
        (work / "target").rename(target)
        sync_path(place)
    except ReleaseError:
        shutil.rmtree(place / _CACHE, ignore_errors=True)  # no other attempt will need it
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(place / _CACHE, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One installation.

    Attributes:
        lock: the file that says what to install.
        requirements: what it says.
        work: an empty folder, in which `target/` becomes what is installed.
        wheels: folders that may be there, with wheels of the bundle.
    """

    lock: Path
    requirements: Sequence[Requirement]
    work: Path
    wheels: Sequence[Path]

    @property
    def links(self) -> list[str]:
        """The folders of wheels that there are, as arguments of uv."""
        return [part for folder in self.wheels if folder.is_dir() for part in ("--find-links", str(folder))]


async def _fill(job: _Job, settings: InstallSettings) -> None:
    """Install into the work's target: from the bundle alone if that does, else as the operator says."""
    (job.work / REQUIREMENTS_NAME).write_text("".join(f"{one.as_line()}\n" for one in job.requirements))
    from_bundle: Attempt | None = None
    if job.links:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
        from_bundle = await _run(job, ["--no-config", "--offline", "--no-index", *job.links], plain)
        if from_bundle.status == 0:
            return
    heard = {name: value for name, value in os.environ.items() if name not in _NOT_HEARD}
    if settings.index_url is not None:
        heard["UV_DEFAULT_INDEX"] = settings.index_url  # not on uv's command line, which others on the machine see
    there = [part for link in heard.pop("UV_FIND_LINKS", "").split(",") if link for part in ("--find-links", link)]
    attempt = await _run(job, [*(["--offline"] if settings.offline else []), *job.links, *there], heard)
    if attempt.status != 0:
        raise failure(attempt, from_bundle, job.lock, job.requirements)


async def _run(job: _Job, options: Sequence[str], environment: Mapping[str, str]) -> Attempt:
    """Run uv once, with a cache beside the target unless the operator has one, and return how it ended."""
    cache = str(job.lock.parent / _CACHE)
    shutil.rmtree(job.work / "target", ignore_errors=True)
    command = [
        _uv(), "pip", "install", "--target", str(job.work / "target"), "--requirements",
        str(job.work / REQUIREMENTS_NAME), "--require-hashes", "--no-deps", "--only-binary", ":all:", "--python",
        sys.executable, "--no-python-downloads", "--color", "never", "--no-progress", *options,
        # Never symbolic links, which an operator may have chosen: the cache goes, or is changed.
        "--link-mode", "hardlink",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as said:
        # Not in the agent's folder: uv would take settings from a project that happens to be there.
        process = await asyncio.create_subprocess_exec(
            *command, cwd="/", env={"UV_CACHE_DIR": cache, **environment},
            stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return Attempt(status=status, said=_tail(said), offline="--offline" in options)


def _uv() -> str:
    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise OperatorError("uv is not there, which installs what releases require: install Segue again") from error


def _tail(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _TAIL_BYTES))
    return said.read().decode(errors="replace").strip()
