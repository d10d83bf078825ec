"""Gathers what the demo sees while it runs: statuses, tallies, readings."""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping

from segue.demo.facts import ClientCalls, Failure, Reading
from segue.demo.timeline import NodeSample, Tally
from segue.demo.watch import NodeRow, View
from segue.model.ids import NodeId, Version
from segue.wire.messages import NodeStatus, SystemStatus

_FAILURES_KEPT = 20
_RATE_OVER_S = 2.0


class Observer:
    """All that was seen until now; told of things in sync methods, asked by the script and the watch."""

    def __init__(self, versions: tuple[Version, ...]) -> None:
        self.versions = versions
        self.status: SystemStatus | None = None
        self.samples: list[NodeSample] = []
        self.tallies: list[Tally] = []
        self.readings: list[Reading] = []
        self.sampled: list[Reading] = []
        self.step = ""
        self.files_to_do: int | None = None
        #: `{version of the clients: files of the command under way that are done}`
        self.files_done: dict[Version, int] = {}
        self._began_s = time.monotonic()
        self._pids: dict[NodeId, list[int]] = defaultdict(list)
        self._recent: deque[Tally] = deque()
        #: `{version of the clients: {what was counted: how many}}`
        self._counts: dict[Version, Counter[str]] = defaultdict(Counter)
        self._refused: dict[Version, Counter[str]] = defaultdict(Counter)
        self._failures: dict[Version, list[Failure]] = defaultdict(list)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._began_s

    @property
    def pids_seen(self) -> Mapping[NodeId, tuple[int, ...]]:
        """`{node: every pid that its status ever showed, in order}`."""
        return {node: tuple(pids) for node, pids in self._pids.items()}

    def begin(self, step: str, *, files: int | None = None) -> None:
        """Take note of a new step of the script, with the number of files it goes through if it does."""
        self.step = step
        self.files_to_do = files
        self.files_done = {}

    def see_status(self, status: SystemStatus) -> None:
        """Take note of a status."""
        self.status = status
        now_s = time.time()
        for node in status.nodes:
            pids = self._pids[NodeId(node.id)]
            if node.pid is not None and node.pid not in pids:
                pids.append(node.pid)
            self.samples.append(
                NodeSample(
                    at_s=now_s,
                    node=NodeId(node.id),
                    version=node.version,
                    phase=node.phase,
                    target=node.target_version,
                    answered=frozenset(Version(version) for version, calls in node.answered.items() if calls),
                )
            )

    def see_tally(self, tally: Tally) -> None:
        """Take note of what clients did."""
        self.tallies.append(tally)
        self._recent.append(tally)
        self._counts[tally.version].update(
            calls=tally.calls, failed=tally.failed, admitted=tally.admitted, leaked=tally.leaked
        )
        self._refused[tally.version].update(tally.refused)
        kept = self._failures[tally.version]
        kept += tally.failures[: _FAILURES_KEPT - len(kept)]

    def see_progress(self, version: Version, files: int) -> None:
        """Take note of how far a long command is."""
        self.files_done[version] = files

    def nodes(self) -> Mapping[NodeId, NodeStatus]:
        """Return `{node: what its last status said}`."""
        return {NodeId(node.id): node for node in self.status.nodes} if self.status else {}

    def calls(self) -> tuple[ClientCalls, ...]:
        """Return the clients' calls until now, a row per version."""
        return tuple(
            ClientCalls(
                version=version,
                calls=self._counts[version]["calls"],
                failed=self._counts[version]["failed"],
                failures=tuple(self._failures[version]),
                admitted=self._counts[version]["admitted"],
                refused=dict(self._refused[version]),
                leaked=self._counts[version]["leaked"],
            )
            for version in self.versions
        )

    def view(self) -> View:
        """Return what is to be shown now."""
        return View(
            step=self.step,
            elapsed_s=self.elapsed_s,
            versions=self.versions,
            nodes=tuple(_row(node) for node in self.status.nodes) if self.status else (),
            rates=self._rates(),
            calls=self._counted("calls"),
            failed=self._counted("failed"),
            refused=sum(refused.total() for refused in self._refused.values()),
            done=min(1.0, sum(self.files_done.values()) / self.files_to_do) if self.files_to_do else None,
        )

    def _counted(self, what: str) -> int:
        return sum(counts[what] for counts in self._counts.values())

    def _rates(self) -> dict[Version, float]:
        since_s = time.time() - _RATE_OVER_S
        while self._recent and self._recent[0].to_s < since_s:
            self._recent.popleft()
        return {
            version: sum(tally.calls for tally in self._recent if tally.version == version) / _RATE_OVER_S
            for version in self.versions
        }


def _row(node: NodeStatus) -> NodeRow:
    return NodeRow(
        id=NodeId(node.id),
        zone=node.attributes.get("zone", ""),
        version=node.version,
        target=node.target_version,
        phase=node.phase,
        pid=node.pid,
        answered=node.answered,
        waits_for=node.waits_for,
        transformed=node.progress.share if node.progress else None,
        failure=node.failure,
    )
