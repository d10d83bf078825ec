"""docs/schedules.md: its schedules are taken as they stand, its table has every key, and its words are those said."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from segue.model.amount import Percent
from segue.model.fleet import Fleet, NodeFact
from segue.model.ids import ClassName, NodeId, Version
from segue.release.manifest import parse_manifest
from segue.release.schedule_section import ScheduleSection
from segue.schedule import Budget, Decision, Rules, decide

PAGE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
BLOCKS = re.findall(r"^```toml *([a-z-]*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
STOCK = {name: text for name, text in BLOCKS if name}
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)

MANIFEST = """
[release]
system = "shop"
version = 2
[classes.Server]
object = "shop:Server"
[classes.BlockNode]
object = "shop:Client"
[classes.BlockNode.upgrade]
transform = "shop:transform"
past = "shop:Past"
future = "shop:Future"
"""
HEAD = "[classes.BlockNode.upgrade.schedule]\n"


def rules_of(text: str) -> Rules:
    text = text if text.startswith("[") else HEAD + text
    upgrade = parse_manifest(MANIFEST + text, source="release.toml").classes["BlockNode"].upgrade
    assert upgrade is not None
    return Rules.of(upgrade.schedule)


@pytest.mark.parametrize("text", [text for _, text in BLOCKS])
def test_every_schedule_on_the_page_is_one(text: str) -> None:
    rules_of(text)


def test_there_is_one_for_each_schedule_of_the_papers() -> None:
    assert list(STOCK) == [
        "eager", "rolling", "replica-aware", "random", "canary", "servers-before-clients", "at-night",
        "wait-for-an-operator",
    ]  # fmt: skip


def test_the_table_has_every_key() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(ScheduleSection.model_fields)


def decided(name: str, *, at: datetime = NOON, begun: datetime = NOON, more: tuple[NodeFact, ...] = ()) -> Decision:
    """Decide on eight nodes, two of each replica group, that ask at the same time."""
    waiting = [
        NodeFact(
            id=NodeId(f"n{number}"),
            class_name=ClassName("BlockNode"),
            version=Version(1),
            attributes={"replica_group": f"g{number // 2}"},
            last_seen=at,
            waits_since=at,
        )
        for number in range(8)
    ]
    fleet = Fleet.of(ClassName("BlockNode"), Version(2), [*waiting, *more], begun_at=begun)
    return decide(fleet, rules_of(STOCK[name]), at)


def test_what_the_stock_schedules_do() -> None:
    assert len(decided("eager").grants) == 8
    assert decided("rolling").grants == ("n0",)
    assert decided("replica-aware").grants == ("n0", "n2", "n4", "n6")
    assert len(decided("random").grants) == 0
    assert 0 < len(decided("random", at=NOON + timedelta(hours=12)).grants) < 8
    assert len(decided("random", at=NOON + timedelta(days=1)).grants) == 8
    assert decided("canary").grants == ("n0",)
    server = NodeFact(id=NodeId("s1"), class_name=ClassName("Server"), version=Version(1), last_seen=NOON)
    assert decided("servers-before-clients", more=(server,)).grants == ()
    assert len(decided("servers-before-clients").grants) == 2
    assert decided("at-night").grants == ()
    assert len(decided("at-night", at=NOON + timedelta(hours=12)).grants) == 2
    assert len(decided("at-night", begun=NOON - timedelta(days=7)).grants) == 2
    assert decided("wait-for-an-operator").grants == ()


def test_without_rules_one_node_goes_at_a_time() -> None:
    assert rules_of(HEAD).budgets == (Budget(limit=1),)
    assert rules_of(STOCK["eager"]).budgets == (Budget(limit=Percent(100.0)),)


def test_its_words_are_those_that_are_said() -> None:
    """What the page has in italics stands in the code that says it, but for names, numbers and times."""
    source = (Path(__file__).parents[2] / "src" / "segue" / "schedule" / "words.py").read_text()
    said = [" ".join(words.split()) for words in re.findall(r"(?<!\*)\*([a-z0-9][^*]{12,})\*(?!\*)", PAGE)]
    assert len(said) > 15
    for phrase in (
        "goes first", "not upgraded yet", "soaks until", "failed: no other node may go", "the next window opens at",
        "a freeze holds all until", "is not approved", "says no since", "gives no answer", "was not asked yet",
        "an operator must resume", "the node itself:", "its moment is", "within the last", "not there yet", "paused by",
        "and nobody has heard of it", "is upgraded and reports", "does not report",
    ):  # fmt: skip
        assert phrase in " ".join(PAGE.split()), phrase
        assert phrase in " ".join(source.replace('"\n', "").split()), phrase
