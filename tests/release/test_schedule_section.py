"""The rule: a schedule is understood to the last key, or refused at build time with the line and the reason."""

import re
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from segue.errors import ReleaseError
from segue.model.amount import Percent
from segue.model.hours import Freeze, Window
from segue.release.lines import line_of
from segue.release.manifest import Manifest, parse_manifest
from segue.release.schedule_section import ScheduleSection
from segue.schedule import Bound, Budget, Canary, Rate, Rules, Waves

HEAD = """\
[release]
system = "shop"
version = 2

[classes.Origin]
object = "shop.origin:Origin"

[classes.Edge]
object = "shop.edge:Edge"
[classes.Edge.upgrade]
transform = "shop.upgrade:transform"
past = "shop.upgrade:Past"
future = "shop.upgrade:Future"
[classes.Edge.upgrade.schedule]
"""

ALL = """\
max_unavailable = { system = "25%", zone = 1 }
canary = { nodes = ["e1", "e2"], soak = "10m" }
waves = { sizes = ["5%", "25%", "100%"], soak = "1h" }
rate = "20/h"
spread = "6h"
after = "Origin"
window = [
    { zone = "Europe/Berlin", days = "mon-thu", hours = "22:00-06:00" },
    { zone = "Europe/Berlin", days = ["sat", "sun"] },
]
freeze = { first = 2026-12-20, last = 2027-01-06, zone = "Europe/Berlin" }
gate = ["load-test", "https://ci.example/may-go"]
healthy = [{ fact = "error_rate", most = 0.01 }, { fact = "latency_ms", most_times = 1.5, dry_run = true }]
failure_budget = "2%"
when = "shop.upgrade:may_go"
custom = "shop.upgrade:decide"
deadline = "7d"
in_progress = "queue"
"""


def schedule_of(written: str) -> ScheduleSection:
    upgrade = parse_manifest(HEAD + written, source="release.toml").classes["Edge"].upgrade
    assert upgrade is not None
    return upgrade.schedule


def test_all_rules_together() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert Rules.of(schedule_of(ALL)) == Rules(
        budgets=(Budget(limit=Percent(25.0)), Budget(limit=1, per="zone")),
        canary=Canary(nodes=("e1", "e2"), soak_s=600),  # type: ignore[arg-type]
        waves=Waves(sizes=(Percent(5.0), Percent(25.0), Percent(100.0)), soak_s=3600),
        rate=Rate(nodes=20, per_s=3600),
        spread_s=6 * 3600,
        after=("Origin",),  # type: ignore[arg-type]
        windows=(
            Window(zone=berlin, days=(0, 1, 2, 3), begin=time(22), end=time(6)),
            Window(zone=berlin, days=(5, 6)),
        ),
        freezes=(Freeze(zone=berlin, first=date(2026, 12, 20), last=date(2027, 1, 6)),),
        gates=("load-test",),
        webhooks=("https://ci.example/may-go",),
        healthy=(Bound(fact="error_rate", most=0.01), Bound(fact="latency_ms", most_times=1.5, dry_run=True)),
        failure_budget=Percent(2.0),
        queues=True,
        decides=True,
        deadline=7 * 86400.0,
    )


def test_it_survives_json() -> None:
    """As the upgrade server keeps it."""
    manifest = parse_manifest(HEAD + ALL, source="release.toml")
    assert Manifest.model_validate_json(manifest.model_dump_json(exclude_none=True)) == manifest


def test_the_code_that_it_names_is_checked_with_the_rest() -> None:
    manifest = parse_manifest(HEAD + ALL, source="release.toml")
    schedule = {key: name for key, name in manifest.references().items() if ".schedule." in key}
    assert schedule == {
        "classes.Edge.upgrade.schedule.when": "shop.upgrade:may_go",
        "classes.Edge.upgrade.schedule.custom": "shop.upgrade:decide",
    }


@pytest.mark.parametrize("written", ["2026-12-24T18:00:00Z", '"2026-12-24T18:00:00+00:00"'])
def test_a_deadline_may_be_a_moment(written: str) -> None:
    assert schedule_of(f"deadline = {written}").deadline_at == datetime(2026, 12, 24, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "line", "complaint"),
    [
        ('max_unavailable = "0%"', 1, "max_unavailable: expected a whole number of at least 1, or a percentage"),
        ('max_unavailable = "101%"', 1, "max_unavailable: expected a whole number"),
        ('max_unavailable = { zone = "x" }', 1, "max_unavailable: expected a whole number"),
        ("max_unavailable = 1.5", 1, "max_unavailable: expected a whole number"),
        ('canary = { nodes = [], soak = "1s" }', 1, "canary.nodes: expected a whole number of at least 1, or"),
        ('canary = { nodes = ["a", "a"], soak = "1s" }', 1, "canary.nodes: expected"),
        ('canary = { nodes = ["a b"], soak = "1s" }', 1, "canary.nodes: expected"),
        ('waves = { sizes = ["25%", "5%"], soak = "1s" }', 1, "waves.sizes: expected a list of rising numbers"),
        ('waves = { sizes = [1, "5%"], soak = "1s" }', 1, "waves.sizes: expected a list of rising numbers"),
        ('waves = { sizes = [], soak = "1s" }', 1, "waves.sizes: expected a list"),
        ('rate = "0/h"', 1, 'rate: expected nodes per time like "20/h"'),
        ('rate = "20 per hour"', 1, "rate: expected nodes per time"),
        ('spread = "0s"', 1, "spread: expected a duration"),
        ("spread = 6", 1, "spread: expected a duration"),
        ('after = ["Edge"]', 1, "after: expected classes that do not wait for this one, found itself"),
        ('after = ["Nobody"]', 1, "after: expected classes of this release, which has Origin, Edge, found 'Nobody'"),
        ('after = ["Origin", "Origin"]', 1, "after: expected a class of this release"),
        ('window = { zone = "Europe/Bielefeld" }', 1, "window[0].zone: expected a time zone's IANA name"),
        ('window = { zone = "../../etc/passwd" }', 1, "window[0].zone: expected a time zone's IANA name"),
        ('window = [\n{ zone = "UTC" },\n{ zone = "UTC", hours = "9-17" },\n]', 3, "window[1].hours: expected hours"),
        ('window = { zone = "UTC", hours = "06:00-06:00" }', 1, "window[0].hours: expected hours"),
        ('window = { zone = "UTC", hours = "06:00-25:00" }', 1, "window[0].hours: expected hours"),
        ('window = { zone = "UTC", days = "mon-someday" }', 1, "window[0].days: expected days"),
        ('window = { hours = "06:00-07:00" }', 1, "window[0].zone: expected a time zone's IANA name"),
        ("freeze = { first = 2026-12-20, last = 2026-12-19 }", 1, "freeze[0].last: expected a day"),
        ('freeze = { first = "2026-13-01", last = 2026-12-19 }', 1, "freeze[0].first: expected a day"),
        ("freeze = { first = 2026-12-20T01:00:00Z, last = 2026-12-21 }", 1, "freeze[0].first: expected a day"),
        ('gate = "no spaces"', 1, "gate[0]: expected a gate's name"),
        ('gate = ["a", "a"]', 1, "gate: expected a gate's name"),
        ('gate = "http://ci.example/go"', 1, "gate[0]: expected a gate's name"),
        ('gate = "https://user:word@ci.example/go"', 1, "gate[0]: expected a gate's name"),
        ('healthy = { fact = "error_rate" }', 1, "healthy[0].fact: expected most, least, most_times or least_times"),
        ('healthy = { fact = "e", most = 1, least = 2 }', 1, "healthy[0].least: expected a finite number, not above"),
        ('healthy = { fact = "e", most = inf }', 1, "healthy[0].most: expected a finite number"),
        ('healthy = { fact = "e", mostly = 1 }', 1, "healthy[0].mostly: expected no such key; known here are fact,"),
        ("failure_budget = 0", 1, "failure_budget: expected a whole number"),
        ('when = "may_go"', 1, "when: expected MODULE:NAME"),
        ('deadline = "7 days"', 1, "deadline: expected a duration"),
        ("deadline = 2026-12-24T18:00:00", 1, "deadline: expected a duration such as"),
        ('in_progress = "both"', 1, 'in_progress: expected "supersede" or "queue"'),
        ('\n# a word\ncanary = { nodes = 1 }\nrate = "1/h"', 3, "canary.soak: expected a duration"),
    ],
)
def test_what_is_impossible_is_refused_with_its_line(written: str, line: int, complaint: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        schedule_of(written)
    place = HEAD.count("\n") + line
    assert str(caught.value).startswith(f"release.toml:{place}: classes.Edge.upgrade.schedule.{complaint}")
    assert "\n" not in str(caught.value)


def test_two_classes_that_wait_for_each_other_are_refused() -> None:
    origin = (
        '[classes.Origin.upgrade]\ntransform = "a:b"\npast = "a:b"\nfuture = "a:b"\n'
        '[classes.Origin.upgrade.schedule]\nafter = "Edge"\n'
    )
    with pytest.raises(ReleaseError, match=re.escape("found 'Edge', which waits for 'Origin'")):
        parse_manifest(HEAD + 'after = "Origin"\n' + origin, source="release.toml")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (["release", "version"], 3),
        (["a", "b", "c"], 7),
        (["a", "b", "list", 1, "x"], 10),
        (["a", "b", "missing"], 6),
        (["nothing"], 1),
        (["a", "b", "text"], 12),
    ],
)
def test_the_line_of_a_key(path: list[str | int], line: int) -> None:
    text = (
        '[release]\nsystem = "c = 1"\nversion = 2\n\n# c = 3\n[a.b]\nc = 1\nlist = [\n  { x = 1 },\n  { x = 2 },\n]\n'
        'text = """\nx = 5\n"""\n'
    )
    assert line_of(text, path) == line
