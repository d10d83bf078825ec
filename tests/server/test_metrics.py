"""Rule: the metrics say what the fleets are at and how the server does, by labels that nobody can make up."""

from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from segue.errors import PeerError
from segue.model.hand import Deed
from segue.model.ids import NodeId, SystemName
from segue.model.metric import MetricKind
from segue.release.bundle import content_hash
from segue.server import measures
from segue.server.app import create_app
from segue.server.bundles import BundleFolder
from segue.server.facts import Picture, Tally
from segue.server.memory import MemoryStore
from segue.server.metrics import Metrics
from segue.testing.server import SYSTEM, Bench, bundle_of
from segue.wire.hand import ActionRequest
from segue.wire.messages import Heartbeat, UpgradeRow, UsageRow

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Samples:
    """Return `{(name, labels): value}`."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(bench: Bench) -> Samples:
    return read(Metrics(bench.store).text().decode())


def value(samples: Samples, name: str, **labels: str) -> float | None:
    given = {"class" if label == "cls" else label: text for label, text in labels.items()}
    return samples.get((name, frozenset(given.items())))


def labels_of(samples: Samples, name: str, label: str) -> set[str]:
    return {dict(labels)[label] for found, labels in samples if found == name}


async def publish(bench: Bench, *versions: int, schedule: str = "max_unavailable = 2") -> None:
    for version in versions:
        await bench.server.publish(bundle_of(version, schedule=schedule))


async def test_a_fleet_in_a_rollout(bench: Bench) -> None:
    await publish(bench, 1, 2)
    for node in ("n1", "n2", "n3", "n4"):
        await bench.beat(node)
    back = (await bench.ask("n1")).permit
    away = (await bench.ask("n2")).permit
    assert away is not None
    assert (await bench.ask("n3")).permit is None
    bench.clock.move(10)
    await bench.give_back("n1", back)
    await bench.beat("n1", 2)
    assert (await bench.ask("n3")).permit is not None
    await bench.give_back("n3", (await bench.ask("n3")).permit, "its self-test failed", final=True)
    assert (await bench.ask("n4")).permit is not None
    bench.clock.move(6)
    await bench.beat("n1", 2)

    found = scrape(bench)
    one = {"system": SYSTEM, "cls": "BlockNode"}
    assert value(found, "segue_database_up") == 1
    assert value(found, "segue_releases", system=SYSTEM) == 2
    assert value(found, "segue_nodes", **one, version="1", phase="serving") == 3
    assert value(found, "segue_nodes", **one, version="2", phase="serving") == 1
    assert value(found, "segue_nodes_upgraded", **one) == 1
    assert value(found, "segue_nodes_away", **one) == 2
    assert value(found, "segue_nodes_away_limit", **one) == 2
    assert value(found, "segue_nodes_silent", **one) == 3
    assert value(found, "segue_heartbeat_age_seconds", **one) == 16
    assert value(found, "segue_permit_age_seconds", **one) == 16
    assert value(found, "segue_permits_granted_total", **one) == 4
    assert value(found, "segue_permits_returned_total", **one, outcome="upgraded") == 1
    assert value(found, "segue_permits_returned_total", **one, outcome="failed") == 1


async def test_a_node_waits_until_its_request_lapses(bench: Bench) -> None:
    await publish(bench, 1, 2, schedule="max_unavailable = 1")
    await bench.beat("n1")
    await bench.beat("n2")
    await bench.ask("n1")
    await bench.ask("n2")
    one = {"system": SYSTEM, "cls": "BlockNode"}
    assert value(scrape(bench), "segue_nodes_waiting", **one) == 1
    bench.clock.move(60)
    assert value(scrape(bench), "segue_nodes_waiting", **one) == 0


async def test_failures_pauses_and_transforms(bench: Bench) -> None:
    await publish(bench, 1, 2)
    now = bench.clock.now()
    upgrade = UpgradeRow(
        from_version=1, to_version=2, pids=(1, 2), pause_ms=200.0, install_future_ms=1.0, transform_ms=90_000.0,
        transform_bytes=1, quiesced_at=now, serving_at=now,
    )  # fmt: skip
    said = Heartbeat(
        class_name="BlockNode", version=2, address="", phase="serving", failure="no", waits_for_operator=True,
        upgrades=(upgrade, upgrade),
    )  # fmt: skip
    await bench.server.heartbeat(SYSTEM, NodeId("n1"), said)
    found, one = scrape(bench), {"system": SYSTEM, "cls": "BlockNode"}
    assert value(found, "segue_nodes_failed", **one) == 1
    assert value(found, "segue_nodes_gave_up", **one) == 1
    assert value(found, "segue_upgrade_pause_seconds_count", **one) == 2
    assert value(found, "segue_upgrade_pause_seconds_sum", **one) == pytest.approx(0.4)
    assert value(found, "segue_upgrade_pause_seconds_bucket", **one, le="0.1") == 0
    assert value(found, "segue_upgrade_pause_seconds_bucket", **one, le="0.25") == 2
    assert value(found, "segue_upgrade_transform_seconds_bucket", **one, le="60.0") == 0
    assert value(found, "segue_upgrade_transform_seconds_bucket", **one, le="300.0") == 2


async def test_what_holds_a_rollout(bench: Bench) -> None:
    await publish(bench, 1, 2, schedule='max_unavailable = "50%"\nfailure_budget = 1')
    for node in ("n1", "n2", "n3", "n4"):
        await bench.beat(node)
    one = {"system": SYSTEM, "cls": "BlockNode"}
    before = scrape(bench)
    assert value(before, "segue_nodes_away_limit", **one) == 2
    assert value(before, "segue_rollouts_paused", system=SYSTEM) == 0
    assert value(before, "segue_rollouts_halted", **one) == 0
    assert value(before, "segue_actions_total", system=SYSTEM, deed="pause") == 0
    await bench.give_back("n1", (await bench.ask("n1")).permit, "its self-test failed", final=True)
    assert value(scrape(bench), "segue_rollouts_halted", **one) == 1
    for deed in (Deed.PAUSE, Deed.RESUME, Deed.PAUSE):
        await bench.server.act(SYSTEM, ActionRequest(deed=deed, who="ann", why="a look at it"))
    found = scrape(bench)
    assert value(found, "segue_rollouts_paused", system=SYSTEM) == 1
    assert value(found, "segue_actions_total", system=SYSTEM, deed="pause") == 2
    assert value(found, "segue_actions_total", system=SYSTEM, deed="resume") == 1


def calls(**different: object) -> UsageRow:
    row: dict[str, object] = {
        "incarnation": "a", "node_version": 1, "caller_version": 1, "caller": "10.0.0.7", "method": "/s/Get",
        "answered_by": "current", "from_node": False, "outcome": "OK", "count": 7,
    }  # fmt: skip
    return UsageRow.model_validate(row | different)


async def test_calls_by_the_callers_version(bench: Bench) -> None:
    await publish(bench, 1, 2)
    rows = (
        calls(),
        calls(method="/s/Put", caller="billing"),
        calls(caller_version=2, answered_by="future", from_node=True),
        calls(outcome="NOT_FOUND", count=2),
    )
    await bench.beat("n1", usage=rows)
    found = scrape(bench)
    one = {"system": SYSTEM, "caller_version": "1", "caller": "client", "answered_by": "current"}
    assert value(found, "segue_calls_total", **one, outcome="ok") == 14
    assert value(found, "segue_calls_total", **one, outcome="error") == 2
    other = {"system": SYSTEM, "caller_version": "2", "caller": "node", "answered_by": "future"}
    assert value(found, "segue_calls_total", **other, outcome="ok") == 7


async def test_nobody_makes_up_labels(bench: Bench) -> None:
    await publish(bench, 1)
    for number in range(30):
        rows = (calls(caller_version=100 + number, outcome=f"odd{number}", caller=f"c{number}"),)
        await bench.beat(f"n{number}", cls=f"Odd{number}", usage=rows)
        said = Heartbeat(class_name="BlockNode", version=number % 2, address="", phase=f"odd{number}")
        await bench.server.heartbeat(SYSTEM, NodeId(f"m{number}"), said)
        said = said.model_copy(update={"version": 0})
        await bench.server.heartbeat(SystemName(f"odd{number}"), NodeId("n1"), said)
    found = scrape(bench)
    assert labels_of(found, "segue_nodes", "system") == {SYSTEM}
    assert labels_of(found, "segue_nodes", "class") == {"BlockNode", "(other)"}
    assert labels_of(found, "segue_nodes", "version") == {"1", "0"}
    assert labels_of(found, "segue_nodes", "phase") == {"serving", "(other)"}
    assert labels_of(found, "segue_calls_total", "caller_version") == {"(other)"}
    assert labels_of(found, "segue_calls_total", "outcome") == {"error"}


async def test_requests_are_counted_by_route_and_status(bench: Bench) -> None:
    await publish(bench, 1)
    await bench.beat("n1")
    await bench.beat("n2")
    await bench.http.get("/v1/systems/blockstore/status")
    await bench.http.get("/v1/systems/nobodys/status")
    for number in range(5):
        await bench.http.get(f"/made/up/{number}")
    await bench.http.request("BREW", "/v1/releases")
    found = read((await bench.http.get("/metrics")).text)
    beat, status = "/v1/systems/{system}/nodes/{node}/heartbeat", "/v1/systems/{system}/status"
    assert value(found, "segue_requests_total", method="POST", route=beat, status="200") == 2
    assert value(found, "segue_request_duration_seconds_count", method="POST", route=beat) == 2
    assert value(found, "segue_requests_total", method="GET", route=status, status="200") == 1
    assert value(found, "segue_requests_total", method="GET", route=status, status="404") == 1
    assert value(found, "segue_requests_total", method="GET", route="(other)", status="404") == 5
    assert "BREW" not in labels_of(found, "segue_requests_total", "method")
    assert not any(name.endswith("_created") for name, _ in found)


class Unanswering(MemoryStore):
    """A database that does not answer when it is told so."""

    is_away = False

    def tally_of(self, system: SystemName) -> Tally:
        if self.is_away:
            raise PeerError("the upgrade database does not answer")
        return super().tally_of(system)

    def picture_of(self, system: SystemName) -> Picture:
        if self.is_away:
            raise PeerError("the upgrade database does not answer")
        return super().picture_of(system)


async def test_a_database_that_does_not_answer_is_told(tmp_path: Path) -> None:
    store = Unanswering()
    app = create_app(store, BundleFolder(tmp_path))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://segue") as http:
        bundle = bundle_of(1)
        published = await http.post("/v1/releases", params={"sha256": content_hash(bundle)}, content=bundle)
        assert published.status_code == 201
        store.is_away = True
        assert (await http.get("/v1/systems/blockstore/status")).status_code == 503
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found = read(answer.text)
    assert value(found, "segue_database_up") == 0
    assert value(found, "segue_database_errors_total") == 1
    assert not [name for name, _ in found if name == "segue_nodes"]


class Counting(MemoryStore):
    """A database that counts how often it is looked at."""

    looks = 0

    def systems(self) -> tuple[SystemName, ...]:
        self.looks += 1
        return super().systems()


def test_the_database_is_read_once_for_all_who_ask_in_the_same_seconds() -> None:
    store, now = Counting(), [100.0]
    metrics = Metrics(store, look_s=5, seconds=lambda: now[0])
    for now[0] in (100.0, 101.0, 104.9, 105.0, 109.0):
        metrics.text()
    assert store.looks == 2


def test_every_metric_is_there_as_it_is_told_of() -> None:
    families = {family.name: family for family in Metrics(MemoryStore()).registry.collect()}
    for metric in (*measures.OF_THE_DATABASE, *measures.OF_THE_PROCESS):
        family = families.pop(metric.name.removesuffix("_total"))
        assert (family.type, family.documentation) == (metric.kind.value, metric.help)
        assert metric.kind is MetricKind.COUNTER or family.name == metric.name
    assert all(name.startswith("process_") for name in families)
