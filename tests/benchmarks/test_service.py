"""What upgrade servers are measured by: every answer is one, and a rollout ends with every node upgraded."""

import random

import pytest

from benchmarks.heartbeats import Pressing, Saturated, Seen, alive_figures, heartbeat_figures
from benchmarks.service import Service, measure_service


@pytest.mark.end_to_end
@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_both_databases_are_pressed_and_rolled_through() -> None:
    service = Service(pressing=Pressing(nodes=10, rounds=1, block_s=0.3), fleets=(6,))
    ticks: list[int] = []
    found = await measure_service(service, random.Random(1), lambda: ticks.append(1))
    assert len(ticks) == service.steps
    assert not found.left_out
    assert {name: figures.nodes for name, figures in found.heartbeats.items()} == {"sqlite": 10, "postgresql": 10}
    for figures in found.heartbeats.values():
        assert figures.per_second > 0
        assert figures.ratio > 0
    assert set(found.alive) == {"sqlite", "postgresql"}
    assert all(figures.ratio >= 0 for figures in found.alive.values())
    assert set(found.fleets) == {"sqlite_6", "postgresql_6"}
    for fleet in found.fleets.values():
        assert (fleet.failed, fleet.late) == (0, 0)
        assert fleet.asked >= 1


def test_a_ratio_is_of_one_round() -> None:
    """Whatever else the machine did in a round met both."""

    def took(*rates: int) -> list[Saturated]:
        return [Saturated(answered=rate, took_s=1.0, cpu_s=0.5, client_share=0.2) for rate in rates]

    found = heartbeat_figures({"empty": took(1000, 100, 1000), "sqlite": took(600, 60, 500)}, 5, random.Random(1))
    assert found["sqlite"].ratio == 0.6
    assert (found["sqlite"].per_second, found["sqlite"].verdict) == (500, "kept")
    assert found["sqlite"].cpu_us == 1000.0


def test_alive_is_compared_by_what_each_costs() -> None:
    """Not by how many come in a second, as those that say that nothing changed wait for each other."""

    def took(*us: int) -> list[Saturated]:
        return [Saturated(answered=1000, took_s=1.0, cpu_s=one / 1000, client_share=0.2) for one in us]

    seen = Seen(heartbeats={}, news={"sqlite": took(400, 500, 4000)}, alive={"sqlite": took(160, 200, 2000)})
    found = alive_figures(seen, random.Random(1))["sqlite"]
    assert (found.ratio, found.cpu_us, found.news_cpu_us, found.verdict) == (0.4, 200, 500, "kept")
