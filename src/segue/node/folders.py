"""What a node keeps on disk, and where.

    STATE/node.json                whose folder this is
    STATE/starts.json              the folder's own name, and how many agents have begun on it
    STATE/lock                     held by the agent that has the folder; its process
    STATE/journal.jsonl            what happened to the node
    STATE/told.json                what operators told it: the oldest version to answer, the last order to try again
    STATE/releases/HASH/           unpacked bundles
    STATE/states/N/object/         the persistent state of version N's object
    STATE/states/N/past/           what the past simulation keeps that release N brought; it outlives the object
    STATE/states/N/transform.json  what the transform that made them reported
    STATE/states/N/answered        there once version N's object may have answered a call: the old one's state is old
    STATE/old/N-TIME/              what version N's object kept, which was superseded at TIME (Unix seconds)
    STATE/future/N/                what the future simulation of version N keeps
    STATE/making/                  transforms' work; becomes states/N in one rename
    STATE/trace.json               the trace of what is under way, if the agent is run with OpenTelemetry
    STATE/usage/                   last counts of processes that ended, until they are reported
    STATE/run                      a link to where the sockets are

Sockets are not here but in a short folder of their own, since a Unix socket's path has at most 107 bytes.
"""

import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Container
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from segue.errors import OperatorError
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.node.control import peer_pid
from segue.node.runs import begin_run
from segue.release.durable import make_folder, sync_path

logger = logging.getLogger(__name__)

#: What is left of the 107 bytes of a Unix socket's path when `/999999999.control` has been taken off.
_RUN_LIMIT_BYTES = 107 - 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose state folder it is: written at the first start, compared at each later one."""

    system: SystemName
    class_name: ClassName
    node_id: NodeId


class Folders:
    """The places of one node, claimed for one agent.

    Args:
        state: the node's state folder; made if missing.
        identity: who starts on it.

    Raises:
        OperatorError: the folder is another node's or system's, is in use by another agent, or cannot be written.
    """

    def __init__(self, state: Path, identity: Identity) -> None:
        self.root = state.absolute()
        try:
            for name in ("releases", "states", "old", "future", "making", "usage"):
                make_folder(self.root / name)
            self._lock = (self.root / "lock").open("a+")
        except OSError as error:
            raise OperatorError(
                f"state folder {state}: {error.strerror}; give one with --state that can be written"
            ) from error
        try:
            self._hold()
            self._claim(identity)
            #: Which agent has claimed them.
            self.agent = begin_run(self.root)
            for left_by_a_crash in self.making.iterdir():
                _remove(left_by_a_crash)
            self.run = _run_folder_in_use(self.root) or _run_folder(self.root)
            self._show_run()
        except OperatorError:
            self._lock.close()
            raise

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.root / "journal.jsonl"

    @property
    def told(self) -> Path:
        """What operators told the node."""
        return self.root / "told.json"

    @property
    def old(self) -> Path:
        """Where superseded states are kept for a while."""
        return self.root / "old"

    @property
    def trace(self) -> Path:
        """What an agent leaves of its trace for the next."""
        return self.root / "trace.json"

    @property
    def usage(self) -> Path:
        """Where processes that end leave their last counts."""
        return self.root / "usage"

    def release(self, sha256: ContentHash) -> Path:
        """Where the bundle of that hash is unpacked; it may not exist yet."""
        return self.root / "releases" / sha256

    def states(self, version: Version) -> Path:
        """Where version's object keeps its state, and the past simulation that it brought; whole or not there."""
        return self.root / "states" / str(version)

    def object(self, version: Version) -> Path:
        """Where version's object keeps its state."""
        return self.states(version) / "object"

    def past(self, version: Version) -> Path:
        """Where the past simulation that version's release brought keeps its state."""
        return self.states(version) / "past"

    def future(self, version: Version) -> Path:
        """Where the future simulation of version keeps its state."""
        return self.root / "future" / str(version)

    @property
    def making(self) -> Path:
        """Where transforms work, each in a folder of its own."""
        return self.root / "making"

    def answered(self, version: Version) -> Path:
        """There once version's object may have answered a call."""
        return self.states(version) / "answered"

    def control(self, generation: int) -> Path:
        """The control socket of the node's process number `generation`."""
        return self.run / f"{generation}.control"

    def peer(self, generation: int) -> Path:
        """The socket on which the node's process number `generation` takes forwarded calls."""
        return self.run / f"{generation}.peer"

    def discard(self, folder: Path) -> None:
        """Remove `folder` if it is there; a crash in the middle leaves nothing that could be taken for it."""
        trash = self.making / f"trash-{secrets.token_hex(8)}"
        try:
            folder.rename(trash)  # which a full disk takes, as it does not a new folder
        except FileNotFoundError:
            return  # it was not there, or somebody else has just discarded it
        sync_path(folder.parent)
        _remove(trash)

    def supersede(self, version: Version, at: datetime) -> None:
        """Put away what version's object kept; its past simulation keeps its folder. Safe to run twice.

        Args:
            version: whose object nobody will start again.
            at: the time that the kept folder's name tells.
        """
        folder, past, kept = self.states(version), self.past(version), self.object(version)
        if kept.exists():
            kept.rename(self.old / f"{version}-{int(at.timestamp())}")
            sync_path(self.old)
            sync_path(folder)
        self.strip(version)
        if folder.exists() and not past.exists():
            self.discard(folder)

    def strip(self, version: Version) -> None:
        """Remove what only version's object needed, its state too: its past simulation keeps its folder."""
        folder = self.states(version)
        for entry in list(folder.iterdir()) if folder.exists() else ():
            if entry != self.past(version):
                self.discard(entry)

    def discard_past(self, oldest: Version) -> None:
        """Remove what the past simulations of versions below `oldest` kept."""
        for folder in list((self.root / "states").iterdir()):
            # The release that made the folder brought the past simulation of the version before it.
            if folder.name.isdecimal() and int(folder.name) <= oldest:
                self.discard(folder / "past")
                if not any(folder.iterdir()):
                    self.discard(folder)

    def old_states(self) -> dict[Path, datetime]:
        """Return the superseded states that are kept, and since when."""
        found = {}
        for path in sorted(self.old.iterdir()):
            _, _, seconds = path.name.rpartition("-")
            if seconds.isdecimal():
                found[path] = datetime.fromtimestamp(int(seconds), UTC)
        return found

    def remove_old(self, paths: Container[Path]) -> None:
        """Remove superseded states: those at `paths`, of `old_states`."""
        for path, since in self.old_states().items():
            if path in paths:
                logger.info("%s is removed: it was kept since %s", path, since.isoformat())
                self.discard(path)

    def close(self) -> None:
        """Let another agent have the folder; the folder of the sockets goes if no process is left in it."""
        with suppress(OSError):
            if not any(peer_pid(path) for path in self.run.iterdir()):
                shutil.rmtree(self.run)
        self._lock.close()

    def _hold(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            raise OperatorError(
                f"state folder {self.root} is in use by another agent (process {self._lock.read().strip()}): "
                "end it, or give this node a folder of its own with --state"
            ) from None
        with suppress(OSError):  # a full disk: then nobody is told who has it
            self._lock.truncate(0)
            self._lock.write(f"{os.getpid()}\n")
            self._lock.flush()

    def _show_run(self) -> None:
        """Have a link lead to the sockets: commands may run with another environment, as another user."""
        link = self.root / "run"
        with suppress(FileNotFoundError):
            if link.readlink() == self.run:
                return
        partial = self.root / "run.partial"
        partial.unlink(missing_ok=True)
        partial.symlink_to(self.run)
        partial.rename(link)

    def _claim(self, identity: Identity) -> None:
        card = self.root / "node.json"
        if card.exists():
            try:
                there = Identity(**json.loads(card.read_text()))
            except (ValueError, TypeError) as error:
                raise OperatorError(
                    f"{card}: not the card of a node ({error}); give another folder with --state"
                ) from error
            never_ran = not self.journal.exists() or self.journal.stat().st_size == 0
            if there != identity and not (never_ran and replace(there, class_name=identity.class_name) == identity):
                raise OperatorError(
                    f"state folder {self.root} belongs to node {there.node_id} ({there.class_name}) of system "
                    f"{there.system}, not to {identity.node_id} ({identity.class_name}) of {identity.system}: "
                    "give this node a folder of its own with --state"
                )
            if there == identity:
                return
        partial = card.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(identity)) + "\n")
        sync_path(partial)
        partial.rename(card)
        sync_path(self.root)


def find_run_folder(state: Path) -> Path:
    """Return where the sockets of the node at `state` are, without claiming its folder; nobody may listen there.

    Raises:
        OperatorError: it is no node's folder.
    """
    if not (state / "node.json").exists():
        raise OperatorError(f"{state} is no node's state folder: give the --state that its `segue node` has")
    try:
        return (state / "run").readlink()
    except OSError as error:
        raise OperatorError(f"no agent ran on {state} yet: start it with `segue node`") from error


def _run_folder_in_use(root: Path) -> Path | None:
    """Return the folder for sockets in which processes of the node at `root` are; None if none are left anywhere.

    An agent that was started in another environment than the one before it would else not find them, and start others
    on the state that they have open.
    """
    with suppress(OSError):
        run = (root / "run").readlink()
        if any(peer_pid(control) for control in run.glob("*.control")):
            return run
    return None


def _run_folder(root: Path) -> Path:
    """Return the folder for sockets of the node at `root`: short, the same each time, this user's alone."""
    name = f"segue-{os.getuid()}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"
    # After `su` and in containers the variable may name a folder that is not there.
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    run = (runtime if runtime.is_absolute() and runtime.is_dir() else Path(tempfile.gettempdir())) / name
    if len(os.fsencode(run)) > _RUN_LIMIT_BYTES:
        raise OperatorError(f"folder {run} is too deep for sockets: set TMPDIR or XDG_RUNTIME_DIR to a shorter one")
    run.mkdir(mode=0o700, exist_ok=True)
    owner = run.stat(follow_symlinks=False)
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
        raise OperatorError(f"folder {run} is open to others: remove it, it is only for the node's sockets")
    return run


def _remove(rubbish: Path) -> None:
    """Remove what nobody needs any more; what cannot be removed is in nobody's way."""
    if rubbish.is_dir() and not rubbish.is_symlink():
        shutil.rmtree(rubbish, ignore_errors=True)
    else:
        with suppress(OSError):
            rubbish.unlink()
    if os.path.lexists(rubbish):
        logger.warning("%s cannot be removed: remove it by hand when there is time", rubbish)
