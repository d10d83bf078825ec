"""Rule: an agent's metrics say what the journal says, and how the node is; nobody waits for who asks for them."""

import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from segue import journey as j
from segue.errors import OperatorError
from segue.journey import Journey, Phase
from segue.local import free_ports
from segue.model.disk import Disk
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.model.release import Announcement
from segue.node import measures
from segue.node.metrics import NodeMetrics
from segue.node.metrics_server import serving
from segue.node.reports import Condition
from segue.node.settings import NodeSettings

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def free_address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def release(version: int) -> Announcement:
    return Announcement(version=Version(version), sha256=ContentHash(f"{version:064x}"), size_bytes=1)


START: Sequence[j.Event] = (j.Learned(release=release(1)), j.Fetched(), j.FirstStarted())
LEARN_2: Sequence[j.Event] = (j.Learned(release=release(2)), j.Fetched(), j.FutureInstalled(took_ms=3.0))
AWAY: Sequence[j.Event] = (j.PermitGranted(permit="p"), j.Warmed(pid=2), j.Quiesced(pid=1, at=NOON))
TRANSFORMED = j.Transformed(took_ms=90.0, size_bytes=10)
SERVES: Sequence[j.Event] = (j.Started(), j.HandedOver(pid=2, at=NOON + timedelta(seconds=0.2)))
BACK: Sequence[j.Event] = (j.Proven(), j.Committed(), j.PermitReturned())
FAILS: Sequence[j.Event] = (j.TransformFailed(reason="no", final=False), j.Resumed(), j.PermitReturned())
UPGRADED = (*START, *LEARN_2, *AWAY, TRANSFORMED, *SERVES, *BACK)


class Watched:
    """A node, of which only its metrics are there."""

    def __init__(self, state: Path, *events: j.Event) -> None:
        settings = NodeSettings(
            server_url="http://127.0.0.1:1", system=SystemName("notes"), class_name=ClassName("Notes"),
            node_id=NodeId("n1"), address="127.0.0.1:9001", state=state,
        )  # fmt: skip
        self.registry = CollectorRegistry()
        self.metrics = NodeMetrics(settings, events, self.registry)
        self.at, _ = j.fold(events)

    def happen(self, *events: j.Event) -> None:
        for event in events:
            after, _ = j.advance(self.at, event)
            self.metrics.note(self.at, event, after)
            self.at = after

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"class" if key == "cls" else key: v for key, v in labels.items()})


def test_a_node_that_never_ran(tmp_path: Path) -> None:
    node = Watched(tmp_path)
    assert node.value("segue_node_info", system="notes", cls="Notes", node="n1", hand_over="port") == 1
    assert node.value("segue_node_phase", phase="new") == 1
    assert node.value("segue_node_phase", phase="serving") == 0
    assert node.value("segue_node_version") == 0
    assert node.value("segue_node_upgrades_total", outcome="upgraded") == 0
    assert node.value("segue_node_pause_seconds_count") == 0
    assert node.value("segue_node_disk_bytes", part="free") is None


def test_an_upgrade(tmp_path: Path) -> None:
    node = Watched(tmp_path)
    node.happen(*START, *LEARN_2)
    assert [node.value("segue_node_version"), node.value("segue_node_target_version")] == [1, 2]
    assert node.value("segue_node_phase", phase="waiting") == 1
    node.happen(*AWAY, TRANSFORMED, *SERVES, *BACK)
    assert [node.value("segue_node_version"), node.value("segue_node_target_version")] == [2, 2]
    assert node.value("segue_node_upgrades_total", outcome="upgraded") == 1
    assert node.value("segue_node_pause_seconds_sum") == pytest.approx(0.2)
    assert node.value("segue_node_pause_seconds_bucket", le="0.1") == 0
    assert node.value("segue_node_pause_seconds_bucket", le="0.25") == 1
    assert node.value("segue_node_transform_seconds_sum") == pytest.approx(0.09)


def test_attempts_that_fail(tmp_path: Path) -> None:
    node = Watched(tmp_path)
    node.happen(*START, *LEARN_2, *AWAY, *FAILS)
    assert node.value("segue_node_upgrades_total", outcome="failed") == 1
    assert node.value("segue_node_upgrades_total", outcome="upgraded") == 0
    assert [node.value("segue_node_failures"), node.value("segue_node_gave_up")] == [1, 0]


def test_a_probation_that_failed_after_calls_were_answered(tmp_path: Path) -> None:
    node = Watched(tmp_path)
    fails = j.Disproven(reason="it crashed", answered=True, final=True)
    node.happen(*START, *LEARN_2, *AWAY, TRANSFORMED, *SERVES, fails, j.Committed(), j.PermitReturned())
    assert node.value("segue_node_upgrades_total", outcome="failed_probation") == 1
    assert node.value("segue_node_upgrades_total", outcome="upgraded") == 0
    assert node.value("segue_node_upgrades_total", outcome="failed") == 0
    assert node.value("segue_node_gave_up") == 1


def test_restarts(tmp_path: Path) -> None:
    node = Watched(tmp_path)
    went = (j.RestartOrdered(), j.Warmed(pid=2), j.Quiesced(pid=1, at=NOON), j.Started(), j.HandedOver(pid=2, at=NOON))
    failed = (j.RestartOrdered(), j.WarmFailed(reason="no", final=False), j.Resumed())
    node.happen(*START, *went, *went, *failed)
    assert node.value("segue_node_restarts_total", outcome="restarted") == 2
    assert node.value("segue_node_restarts_total", outcome="failed") == 1
    assert node.value("segue_node_upgrades_total", outcome="upgraded") == 0


@pytest.mark.parametrize("cut", range(0, len(UPGRADED) + 1, 4))
def test_an_agent_that_starts_anew_counts_on(tmp_path: Path, cut: int) -> None:
    """Wherever the agent before ended: what the journal has is counted once."""
    never_ended, anew = Watched(tmp_path), Watched(tmp_path, *UPGRADED[:cut])
    never_ended.happen(*UPGRADED)
    anew.happen(*UPGRADED[cut:])
    assert _samples(anew) == _samples(never_ended)


def _samples(node: Watched) -> Mapping[tuple[str, str], float]:
    return {
        (sample.name, str(sorted(sample.labels.items()))): sample.value
        for family in node.registry.collect()
        for sample in family.samples
        if family.name.startswith("segue_")
    }


def test_what_the_node_reports(tmp_path: Path) -> None:
    node = Watched(tmp_path, *START)
    disk = Disk(state_bytes=10, old_bytes=20, releases_bytes=30, free_bytes=40, measured_at=NOON)
    processes: list[Mapping[str, Any]] = [
        {"in_flight": {"clients": 1, "nodes": 0, "parked": 0, "forwarded": 7}, "answers": [1]},
        {"in_flight": {"clients": 2, "nodes": 1, "parked": 5, "forwarded": 0}, "answers": [1, 2]},
        {"of": "a process of an earlier Segue, or one that has ended"},
    ]
    node.metrics.reports(Condition(crashes=3, disk=disk), processes)
    node.metrics.reported(answered=True)
    node.metrics.reported(answered=False)
    node.metrics.reported(answered=False)
    calls = {
        where: node.value("segue_node_calls", where=where) for where in ("clients", "nodes", "parked", "forwarded")
    }
    assert calls == {"clients": 3, "nodes": 1, "parked": 5, "forwarded": 7}
    assert node.value("segue_node_answered_versions") == 2
    assert node.value("segue_node_crashes_total") == 3
    parts = {part: node.value("segue_node_disk_bytes", part=part) for part in ("state", "old", "releases", "free")}
    assert parts == {"state": 10, "old": 20, "releases": 30, "free": 40}
    assert node.value("segue_node_heartbeats_total", outcome="answered") == 1
    assert node.value("segue_node_heartbeats_total", outcome="failed") == 2


def test_every_metric_is_there_as_it_is_told_of(tmp_path: Path) -> None:
    families = {family.name: family for family in Watched(tmp_path).registry.collect()}
    for metric in measures.OF_THE_AGENT:
        family = families.pop(metric.name.removesuffix("_total"))
        assert (family.type, family.documentation) == (metric.kind.value, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), metric.name
    assert all(name.startswith("process_") for name in families)


def test_they_are_told_over_http_until_the_agent_ends(tmp_path: Path) -> None:
    node = Watched(tmp_path, *UPGRADED)
    with serving(free_address(), node.registry) as where:
        url = f"http://{where}"
        answer = httpx.get(f"{url}/metrics?a=b", headers={"Accept": "text/plain; version=none"}, trust_env=False)
        wrong = httpx.get(f"{url}/", trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert found["segue_node_version"].samples[0].value == 2
    assert wrong.status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/metrics", trust_env=False)


def test_nothing_listens_unless_it_is_asked_for() -> None:
    with serving(None, CollectorRegistry()) as where:
        assert where is None


def test_a_client_that_says_nothing_is_in_nobodys_way(tmp_path: Path) -> None:
    node = Watched(tmp_path)
    with serving(free_address(), node.registry) as where:
        assert where is not None
        with socket.create_connection((where.host, where.port)):
            assert httpx.get(f"http://{where}/metrics", trust_env=False).status_code == 200


def test_a_port_that_is_taken_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        message = f"metrics cannot be told at {address}: Address already in use: stop what listens there, or choose"
        with pytest.raises(OperatorError, match=message), serving(address, CollectorRegistry()):
            pass


@pytest.mark.parametrize("address", ["9100", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused_when_the_agent_starts(tmp_path: Path, address: str) -> None:
    with pytest.raises(OperatorError, match=address):
        NodeSettings(
            server_url="http://127.0.0.1:1", system=SystemName("notes"), class_name=ClassName("Notes"),
            node_id=NodeId("n1"), address="127.0.0.1:9001", state=tmp_path, metrics=address,
        )  # fmt: skip


def test_the_phases_are_all_there(tmp_path: Path) -> None:
    node = Watched(tmp_path)
    assert Journey().phase is Phase.NEW
    assert sum(node.value("segue_node_phase", phase=phase.value) or 0 for phase in Phase) == 1
    assert all(node.value("segue_node_phase", phase=phase.value) is not None for phase in Phase)
