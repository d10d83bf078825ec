"""Rule: whatever asks and comes back in whatever order, a permit passes no budget on its way, and ends for a reason."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.release.bundle import manifest_of
from segue.server.admission import ask_permit, return_permit
from segue.server.facts import Granted, Held, NotYet, Release, Report
from segue.server.memory import MemoryStore
from segue.testing.server import HeldClock, bundle_of
from segue.wire.messages import Heartbeat, PermitRequest, PermitReturnRequest

SYSTEM = SystemName("blockstore")
NODES = [NodeId(f"n{number}") for number in range(4)]
NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
#: A release's limit of nodes away; 0 for one that leaves the class untouched.
LIMITS = st.lists(st.integers(0, 3), min_size=1, max_size=5)
DEEDS = st.lists(st.tuples(st.sampled_from(NODES), st.integers(1, 5), st.booleans()), max_size=25)


def store_of(limits: list[int]) -> MemoryStore:
    store = MemoryStore(HeldClock())
    for version, limit in enumerate([1, *limits], start=1):
        bundle = bundle_of(
            version, schedule=f"max_unavailable = {max(1, limit)}", untouched=() if limit else ("BlockNode",)
        )
        manifest = manifest_of(bundle).model_dump_json()
        store.append(
            Release(
                system=SYSTEM, version=Version(version), sha256=ContentHash("a" * 64), size_bytes=1, description="",
                published_at=NOON, manifest=manifest,
            )
        )  # fmt: skip
    said = Heartbeat(class_name=ClassName("BlockNode"), version=1, address="h:1", phase="serving")
    for node in NODES:
        store.hear([Report.of(SYSTEM, node, said)])
    return store


@settings(derandomize=True, deadline=None, max_examples=80)
@given(limits=LIMITS, deeds=DEEDS)
def test_a_permit_passes_no_budget_and_ends_for_a_reason(
    limits: list[int], deeds: list[tuple[NodeId, int, bool]]
) -> None:
    store, newest = store_of(limits), len(limits) + 1
    held: dict[NodeId, str] = {}
    for number, (node, ahead, comes_back) in enumerate(deeds):
        at = {one.id: one.version for one in store.picture_of(SYSTEM).nodes}[node]
        to = min(newest, at + ahead)
        if comes_back and node in held:
            return_permit(store, SYSTEM, node, held.pop(node), PermitReturnRequest())
            continue
        on_the_way = [limit for limit in limits[at - 1 : to - 1] if limit]
        if not on_the_way:
            continue
        request = PermitRequest(class_name="BlockNode", from_version=at, to_version=to)
        verdict = ask_permit(store, SYSTEM, node, request, permit=f"p{number}")
        match verdict:
            case Granted(permit):
                passed = [limit for limit in limits[at - 1 : permit.to_version - 1] if limit]
                assert passed
                assert len(held) < min(passed)
                assert permit.from_version == at < permit.to_version <= to
                assert permit.to_version == to or limits[permit.to_version - 1] > 0
                held[node] = permit.id
            case Held(permit):
                assert permit.id == held[node]
                assert permit.to_version <= to
            case NotYet(reason=reason):
                assert node not in held
                assert len(held) >= on_the_way[0] or reason.endswith("asked before")
