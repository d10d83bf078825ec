"""After a crash at any point the agent goes on from its journal, as if nothing had been."""

from dataclasses import dataclass, field
from typing import assert_never

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from segue import journey as j
from segue.model.ids import Version

Walks = SearchStrategy[list[j.Event]]

STEADY = settings(derandomize=True, deadline=None, max_examples=60)
#: For what folds each journal once for each of its events.
STEADY_SLOW = settings(STEADY, max_examples=30)


@STEADY
@given(data=st.data())
def test_a_journal_cut_after_any_event_folds_to_where_the_node_was(walks: Walks, data: DataObject) -> None:
    events = data.draw(walks)
    at, commands = j.Journey(), j.pending(j.Journey())
    assert j.fold([]) == (at, commands)
    for count, event in enumerate(events, start=1):
        at, commands = j.advance(at, event)
        assert j.fold(events[:count]) == (at, commands)
        assert j.pending(at) == commands


@dataclass
class Machine:
    """What commands do to a node, told as little as a command tells; each may be done twice.

    `serving`, `warm` and `folders` are versions of objects; `answered` is the newest version that the node
    answers; `permits` are those that the server thinks are out.
    """

    serving: Version | None = None
    warm: Version | None = None
    answered: Version | None = None
    folders: set[Version] = field(default_factory=set)
    bundles: set[str] = field(default_factory=set)
    permits: set[str] = field(default_factory=set)

    def run(self, command: j.Command, answer: j.Event) -> None:
        match command:
            case j.Fetch():
                self.bundles |= {release.sha256 for release in command.releases}
            case j.StartFirst():
                assert isinstance(answer, j.FirstStarted)
                assert {release.sha256 for release in command.releases} <= self.bundles
                self.answered = command.releases[-1].version
                self.serving = answer.object_version or self.answered
                self.folders = {self.serving}
            case j.InstallFuture():
                assert command.release.sha256 in self.bundles
                if not isinstance(answer, j.FutureRefused):
                    assert self.answered is not None
                    assert command.release.version <= self.answered + 1, "there is a gap"
                    self.answered = max(self.answered, command.release.version)
            case j.AskPermit():
                if isinstance(answer, j.PermitGranted):
                    self.permits.add(answer.permit)
                if isinstance(answer, j.FutureLost):
                    self.answered = Version((answer.version or command.to_version) - 1)
            case j.Warm() | j.StartObject():
                self.warm = command.release.version
            case j.Quiesce():
                self.serving = None
            case j.Transform():
                assert self.serving is None, "the folder is open"
                assert command.from_version in self.folders
                self.folders.add(command.release.version)
            case j.HandOver():
                assert self.answered is not None
                assert command.to_version <= self.answered
                self.serving, self.warm = command.to_version, None
            case j.Resume():
                self.serving, self.warm = command.version, None
                self.folders -= set(command.abandoned)
            case j.Prove():
                assert self.serving == command.to_version
            case j.Commit():
                self.folders -= {command.from_version, *command.through[:-1]}
            case j.ReturnPermit():
                self.permits.discard(command.permit)
            case _:
                assert_never(command)


FAILURES = (
    j.FetchFailed
    | j.FirstStartFailed
    | j.FutureRefused
    | j.FutureLost
    | j.WarmFailed
    | j.QuiesceFailed
    | j.TransformFailed
    | j.StartFailed
    | j.HandOverFailed
    | j.Disproven
)
#: These leave nothing in service when they fail; of the others half may be done.
CLEAN = j.FirstStartFailed | j.FutureRefused


def live(events: list[j.Event], crashes: list[bool], halves: list[bool]) -> Machine:
    """Live through a journal; where `crashes` says so, the agent dies with the answer in its hands."""
    machine, journal = Machine(), list[j.Event]()
    for event, crash, half in zip(events, crashes, halves, strict=True):
        for _ in range(2 if crash else 1):
            _, commands = j.fold(journal)
            for command in commands:
                if (
                    not isinstance(event, FAILURES)
                    or isinstance(event, j.FutureLost)
                    or (half and not isinstance(event, CLEAN))
                ):
                    machine.run(command, event)
        journal.append(event)
    return machine


@STEADY
@given(data=st.data())
def test_a_command_that_is_issued_twice_leads_to_the_same_place(walks: Walks, data: DataObject) -> None:
    events = data.draw(walks)
    each = st.lists(st.booleans(), min_size=len(events), max_size=len(events))
    crashes, halves = data.draw(each), data.draw(each)
    assert live(events, crashes, halves) == live(events, [False] * len(events), halves)


@STEADY_SLOW
@given(data=st.data())
def test_a_node_at_rest_is_whole_whatever_failed_before(walks: Walks, data: DataObject) -> None:
    events = data.draw(walks)
    halves = data.draw(st.lists(st.booleans(), min_size=len(events), max_size=len(events)))
    for count in range(1, len(events) + 1):
        at, commands = j.fold(events[:count])
        if at.phase is j.Phase.SERVING:
            machine = live(events[:count], [False] * count, halves[:count])
            assert commands == ()
            assert machine.serving == at.object_version
            assert machine.folders == {at.object_version}
            assert machine.warm is None
            assert machine.permits == set()
