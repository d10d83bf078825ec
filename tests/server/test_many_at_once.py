"""Rule: however many nodes ask at the same moment, no more are away than the schedule allows."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import pytest

from segue.errors import PeerError
from segue.model.ids import NodeId
from segue.release.bundle import content_hash
from segue.server.admission import ask_permit, return_permit
from segue.server.bundles import BundleFolder
from segue.server.facts import Granted, Held, NotYet, Report
from segue.server.memory import MemoryStore
from segue.server.publication import publish
from segue.server.sql import SqlStore
from segue.testing.server import SYSTEM, HeldClock, bundle_of
from segue.wire.messages import Heartbeat, PermitRequest, PermitReturnRequest

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
NODES = [NodeId(f"n{number:02}") for number in range(50)]
LIMIT = 3
AnyStore: TypeAlias = MemoryStore | SqlStore
REQUEST = PermitRequest(class_name="BlockNode", from_version=1, to_version=2)


def fill(store: AnyStore, folder: Path, limit: int = LIMIT) -> None:
    for version in (1, 2):
        bundle = bundle_of(version, schedule=f"max_unavailable = {limit}")
        publish(store, BundleFolder(folder), bundle, sha256=content_hash(bundle), now=NOON)
    said = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="waiting")
    for node in NODES:
        store.hear([Report.of(SYSTEM, node, said)])


def test_one_question_from_each_of_fifty_threads(store: AnyStore, tmp_path: Path) -> None:
    fill(store, tmp_path / "bundles")
    start = threading.Barrier(len(NODES))

    def ask(node: NodeId) -> bool:
        start.wait()
        while True:
            try:
                return isinstance(ask_permit(store, SYSTEM, node, REQUEST, permit=f"of-{node}"), Granted)
            except PeerError:  # too many wait on this machine: a node asks again
                continue

    with ThreadPoolExecutor(len(NODES)) as threads:
        granted = list(threads.map(ask, NODES))
    assert sum(granted) == LIMIT
    away = [permit for permit in store.picture_of(SYSTEM).permits if permit.returned_at is None]
    assert len(away) == LIMIT


@pytest.mark.parametrize("processes", [1, 2])
def test_a_whole_rollout_from_many_threads(tmp_path: Path, processes: int) -> None:
    """Two stores on one file stand for two servers: their threads share nothing but the file."""
    path = tmp_path / "database.sqlite"
    stores = [SqlStore(path) for _ in range(processes)]
    fill(stores[0], tmp_path / "bundles")
    away: set[NodeId] = set()
    most = [0]
    lock = threading.Lock()

    def go(node: NodeId) -> None:
        store = stores[NODES.index(node) % processes]
        attempt = 0
        while True:
            attempt += 1
            match ask_permit(store, SYSTEM, node, REQUEST, permit=f"{node}.{attempt}"):
                case Granted(permit) | Held(permit):
                    break
                case NotYet():
                    continue
        with lock:
            away.add(node)
            most[0] = max(most[0], len(away))
        with lock:
            away.remove(node)
        return_permit(store, SYSTEM, node, permit.id, PermitReturnRequest())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(go, NODES[:16]))
    assert 1 <= most[0] <= LIMIT
    picture = stores[0].picture_of(SYSTEM)
    assert [node.version for node in picture.nodes] == [2] * 16 + [1] * 34
    assert picture.asks == ()
    for store in stores:
        store.close()


def test_times_tell_the_order_of_grants(store: AnyStore, tmp_path: Path) -> None:
    """n1 comes back while n2's request is under way: n2 is granted after that, and the times say so."""
    store.clock = clock = HeldClock()
    fill(store, tmp_path / "bundles", limit=1)
    first, second = NODES[:2]
    held = ask_permit(store, SYSTEM, first, REQUEST, permit="p1")
    assert isinstance(held, Granted)
    back = threading.Thread(target=return_permit, args=(store, SYSTEM, first, "p1", PermitReturnRequest()))

    class Interrupted(HeldClock):
        """Reads the time, and then lets n1's return go before, if the database does."""

        def now(self) -> datetime:
            now = clock.now()
            if not back.ident:
                clock.move(1)
                store.clock = clock
                back.start()
                back.join(0.2)
            return now

    store.clock = Interrupted()
    ask_permit(store, SYSTEM, second, REQUEST, permit="p2")
    back.join()
    clock.move(1)
    ask_permit(store, SYSTEM, second, REQUEST, permit="p3")
    before, after = store.picture_of(SYSTEM).permits
    assert before.returned_at is not None
    assert (before.node, after.node) == (first, second)
    assert before.returned_at <= after.granted_at


def test_two_publishers_of_one_version(tmp_path: Path) -> None:
    """One of them wins, the other is refused; the history has one release 1."""
    with closing(SqlStore(tmp_path / "database.sqlite")) as store:
        bundles, start = BundleFolder(tmp_path / "bundles"), threading.Barrier(8)

        def go(number: int) -> str:
            bundle = bundle_of(1, description=f"by {number}")
            start.wait()
            try:
                return publish(store, bundles, bundle, sha256=content_hash(bundle), now=NOON)[0].description
            except Exception as error:
                return type(error).__name__

        with ThreadPoolExecutor(8) as threads:
            became = sorted(threads.map(go, range(8)))
        (release,) = store.history_of(SYSTEM)
        assert became == sorted(["HistoryError"] * 7 + [release.description])


def test_the_test_can_fail(tmp_path: Path) -> None:
    """A store that lets go of its lock between reading and writing passes the limit: the barrier is enough."""

    class Torn(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.read = threading.Barrier(len(NODES))

        def admit(self, system, judge):  # type: ignore[no-untyped-def]
            verdicts = judge(self.picture_of(system))
            self.read.wait()
            return super().admit(system, lambda _: verdicts)

    store = Torn()
    fill(store, tmp_path / "bundles")
    with ThreadPoolExecutor(len(NODES)) as threads:
        for node in NODES:
            threads.submit(ask_permit, store, SYSTEM, node, REQUEST, permit=f"of-{node}")
    assert len(store.picture_of(SYSTEM).permits) > LIMIT
