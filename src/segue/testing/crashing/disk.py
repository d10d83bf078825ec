"""What a power cut would leave of a node's folder: what was synced, and in which order.

A file's content is on disk after `fsync` of the file; its name, after `fsync` of its folder, which is another thing.
Source: fsync(2); "All File Systems Are Not Created Equal", Pillai et al., OSDI 2014, on what they do without.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segue import journey
from segue.journey import Phase
from segue.testing.crashing.system_calls import Call

#: Below these, the names that count: those in `states/N/object` are the object's own affair while it serves.
_DEPTHS = {"states": 3, "old": 2, "future": 2, "releases": 2, "usage": 2}
_CHANGES = frozenset({"write", "make", "rename", "remove"})


@dataclass(slots=True)
class Disk:
    """What is not on disk yet.

    Attributes:
        files: `{file: when it was last changed}`
        made: `{path: when it got its name}`
        gone: `{path: when its name was taken away}`
    """

    files: dict[Path, int] = field(default_factory=dict)
    made: dict[Path, int] = field(default_factory=dict)
    gone: dict[Path, int] = field(default_factory=dict)

    def do(self, call: Call) -> None:
        """Take note of a call."""
        match call.kind:
            case "sync":
                self._sync(call)
            case "write":
                self.files[call.path] = call.ended
            case "open":
                if call.cut:
                    self.files[call.path] = call.ended
                if call.made:
                    self._name(call.path, call.ended)
            case "make":
                self._name(call.path, call.ended)
            case "remove":
                self._forget(call.path)
                self.gone[call.path] = call.ended
            case "rename":
                assert call.target is not None, call
                self._forget(call.target)
                for known in (self.files, self.made, self.gone):
                    for path in [path for path in known if path.is_relative_to(call.path)]:
                        known[call.target / path.relative_to(call.path)] = known.pop(path)
                self.gone[call.path] = call.ended
                self._name(call.target, call.ended)

    def lost_of(self, path: Path) -> Iterator[str]:
        """Say what of a file or folder a power cut would take away, besides its own name."""
        yield from (f"the content of {file}" for file in self.files if file.is_relative_to(path))
        yield from (f"the name of {one}" for one in (*self.made, *self.gone) if path in one.parents)

    def _name(self, path: Path, when: int) -> None:
        self.made[path] = when
        self.gone.pop(path, None)

    def _forget(self, folder: Path) -> None:
        for known in (self.files, self.made, self.gone):
            for path in [path for path in known if path.is_relative_to(folder)]:
                del known[path]

    def _sync(self, call: Call) -> None:
        """Forget what is on disk now: not what has changed since the call began."""
        for known in (self.files, self.made, self.gone):
            for path, changed in list(known.items()):
                synced = path if known is self.files else path.parent
                if changed <= call.began and (call.everything or synced == call.path):
                    del known[path]


def faults(calls: Iterable[Call], state: Path, before: int, events: Sequence[journey.Event]) -> Iterator[str]:
    """Say where a power cut at the wrong moment would leave a node's folder as no crash may.

    Args:
        calls: of all processes, in the order of their ends.
        state: the node's folder.
        before: how many of `events` were in the journal before.
        events: those in the journal at the end.

    Yields:
        What came before what, in words; nothing if all is in order.
    """
    disk, journal, written, agent = Disk(), state / "journal.jsonl", before, 0
    for call in calls:
        if call.kind == "write" and call.path == journal:
            agent, written = call.pid, written + 1
            for path in (*disk.made, *disk.gone):
                if _counts(path, state) and path.parts[len(state.parts) :][:1] != ("usage",):
                    yield f"{type(events[written - 1]).__name__} came to the journal before the name of {path} to disk"
        elif call.pid == agent and call.kind in _CHANGES and call.path.is_relative_to(state):
            if journal in disk.files:
                yield f"{call.kind} of {call.path} came before the event that led to it was on disk"
            at, _ = journey.fold(events[:written])
            if call.kind in ("rename", "remove") and _is_needed(call.path, state, at):
                yield f"{call.path} went away while {at.phase.value}"
        if call.kind == "rename" and call.target and _counts(call.target, state):
            for lost in disk.lost_of(call.path):
                yield f"{call.target} was named before {lost} was on disk"
        disk.do(call)
    yield from (f"the name of {path} was never on disk" for path in disk.made if _counts(path, state))
    if written != len(events):
        yield f"{len(events)} events were not written one by one, but by {written} writes"


def _counts(path: Path, state: Path) -> bool:
    """Say whether a node needs it that the path has its name, or has it no more."""
    if path == state:
        return True
    if not path.is_relative_to(state) or path.name.endswith(".partial"):
        return False
    parts = path.relative_to(state).parts
    if len(parts) == 1:
        return parts[0] not in ("lock", "making")
    return len(parts) <= _DEPTHS.get(parts[0], 0)


def _is_needed(path: Path, state: Path, at: journey.Journey) -> bool:
    """Say whether a node that is at `at` needs the folder of an object's state that the path is in."""
    parts = path.relative_to(state).parts
    if len(parts) < 2 or parts[0] != "states" or "past" in parts:
        return False
    if at.phase is Phase.COMMITTING:
        return at.upgrade is not None and parts[1] == str(at.upgrade.release.version)
    return parts[1] == str(at.object_version)
