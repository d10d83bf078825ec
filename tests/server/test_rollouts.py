"""Rule: what the upgrade database knows becomes the facts of each schedule, and operators have the last word."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from segue.model.fleet import Answer
from segue.model.hand import Action, Deed
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.release.bundle import manifest_of
from segue.server.decisions import Answers, Rollouts
from segue.server.facts import Ask, Granted, NodeRecord, NotYet, Permit, Picture, Release
from segue.server.judging import judge
from segue.server.status import waiting
from segue.testing.server import bundle_of
from segue.wire.messages import DiskRow, Heartbeat

SYSTEM, BLOCKS = SystemName("blockstore"), ClassName("BlockNode")
NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
FREE = "max_unavailable = 9"


def release(version: int, schedule: str, **more: object) -> Release:
    bundle = bundle_of(version, schedule=schedule, **more)  # type: ignore[arg-type]
    return Release(
        system=SYSTEM, version=Version(version), sha256=ContentHash("a" * 64), size_bytes=1, description="",
        published_at=NOON - timedelta(hours=1), manifest=manifest_of(bundle).model_dump_json(exclude_none=True),
    )  # fmt: skip


def node(name: str, version: int = 1, *, cls: str = "BlockNode", **said: object) -> NodeRecord:
    heartbeat = Heartbeat(class_name=cls, version=version, address="h:1", phase="serving", **said)  # type: ignore[arg-type]
    return NodeRecord(id=NodeId(name), version=Version(version), said=heartbeat, last_seen=NOON)


def permit(
    name: str, since: int, to: int, *, minutes_ago: float = 30, failure: str | None = None, **more: object
) -> Permit:
    at = NOON - timedelta(minutes=minutes_ago)
    given = {"returned_at": at + timedelta(minutes=1), "final": failure is not None, **more}
    return Permit(
        id=f"{name}-{to}", node=NodeId(name), class_name=BLOCKS, from_version=Version(since), to_version=Version(to),
        granted_at=at, failure=failure, **given,  # type: ignore[arg-type]
    )  # fmt: skip


def asks(name: str, since: int = 1, to: int = 2, holds: Mapping[int, str] | None = None) -> Ask:
    return Ask(
        node=NodeId(name), class_name=BLOCKS, from_version=Version(since), to_version=Version(to),
        asked_at=NOON, last_asked_at=NOON, holds=holds,
    )  # fmt: skip


def did(deed: Deed, version: int | None = 2, *, node: str | None = None, gate: str | None = None) -> Action:
    return Action(
        deed=deed, at=NOON, who="ann", version=Version(version) if version else None,
        node=NodeId(node) if node else None, gate=gate,
    )  # fmt: skip


def picture(*schedules: str, nodes: tuple[NodeRecord, ...], **more: object) -> Picture:
    releases = [release(1, FREE), *(release(version, schedule) for version, schedule in enumerate(schedules, start=2))]
    return Picture(system=SYSTEM, at=NOON, releases=tuple(releases), nodes=nodes, **more)  # type: ignore[arg-type]


def told(seen: Picture, ask: Ask, answers: Answers | None = None) -> str | int:
    """Return how far the node may go, or why it may not go."""
    match judge(seen, ask, "p", answers or {}):
        case Granted(granted):
            return granted.to_version
        case NotYet(reason=reason):
            return reason
    raise AssertionError(ask)


class TestHand:
    def test_a_pause(self) -> None:
        seen = picture(FREE, nodes=(node("n1"),), actions=(did(Deed.PAUSE, None),))
        assert told(seen, asks("n1")) == "paused by ann since 12:00:00 UTC"

    def test_an_aborted_release_holds_all_but_leads_on_to_a_later_one(self) -> None:
        seen = picture(FREE, FREE, nodes=(node("n1"),), actions=(did(Deed.ABORT),))
        assert told(seen, asks("n1")) == "the rollout was aborted by ann at 12:00:00 UTC"
        assert told(seen, asks("n1", to=3)) == 3

    def test_an_aborted_release_is_gone_as_far_as(self) -> None:
        seen = picture(FREE, FREE, nodes=(node("n1"),), actions=(did(Deed.ABORT, 3),))
        assert told(seen, asks("n1", to=3)) == 2

    def test_a_skipped_node_stays_and_goes_past_with_the_next_release(self) -> None:
        seen = picture(FREE, FREE, nodes=(node("n1"), node("n2")), actions=(did(Deed.SKIP, node="n1"),))
        assert told(seen, asks("n1")) == "skipped by ann"
        assert told(seen, asks("n2")) == 2
        assert told(seen, asks("n1", to=3)) == 3

    def test_a_forced_node_goes_whatever_the_rules_say(self) -> None:
        actions = (did(Deed.PAUSE, None), did(Deed.FORCE, node="n1"))
        seen = picture('max_unavailable = 1\ngate = "qa"', nodes=(node("n1"), node("n2", 1)), actions=actions)
        assert told(seen, asks("n1")) == 2
        assert told(seen, asks("n2")) == "paused by ann since 12:00:00 UTC"

    def test_an_approval_is_of_one_release(self) -> None:
        nodes, gate = (node("n1"),), f'{FREE}\ngate = "qa"'
        assert told(picture(gate, nodes=nodes), asks("n1")) == "gate qa is not approved"
        assert told(picture(gate, nodes=nodes, actions=(did(Deed.APPROVE, gate="qa"),)), asks("n1")) == 2
        assert told(picture(gate, nodes=nodes, actions=(did(Deed.APPROVE, 3, gate="qa"),)), asks("n1")) != 2


class TestFailures:
    SCHEDULE = f"{FREE}\nfailure_budget = 2"

    def seen(self, *actions: Action) -> Picture:
        failed = permit("n1", 1, 2, failure="its self-test failed"), permit("n2", 1, 2, failure="its self-test failed")
        nodes = node("n1"), node("n2"), node("n3")
        return picture(self.SCHEDULE, nodes=nodes, permits=failed, actions=actions)

    def test_they_halt_the_rollout_until_somebody_resumes_it(self) -> None:
        text = "halted: 2 of 2 failures (n1 failed, n2 failed); an operator must resume"
        assert told(self.seen(), asks("n3")) == text
        assert {target: refusal.text for target, refusal in Rollouts(self.seen(), BLOCKS).halts(NOON)} == {2: text}
        resumed = self.seen(did(Deed.RESUME, None))
        assert told(resumed, asks("n3")) == 2
        assert not list(Rollouts(resumed, BLOCKS).halts(NOON))

    def test_a_retry_forgives_one(self) -> None:
        assert told(self.seen(did(Deed.RETRY, node="n1")), asks("n3")) == 2

    def test_an_aborted_rollout_is_not_halted_as_well(self) -> None:
        assert not list(Rollouts(self.seen(did(Deed.ABORT)), BLOCKS).halts(NOON))

    def test_failures_that_pass_do_not_count(self) -> None:
        seen = picture(
            self.SCHEDULE.replace("2", "1"),
            nodes=(node("n1"), node("n3")),
            permits=(permit("n1", 1, 2, failure="busy", final=False),),
        )
        assert told(seen, asks("n3")) == 2

    GATED = f'{FREE}\ngate = "qa"'

    def test_one_that_a_later_attempt_mended_leads_nobody_past_the_release(self) -> None:
        """Nor one that an operator had retried: the release is good where its schedule lets nodes go to it."""
        failed = permit("n1", 1, 2, failure="a disk was full")
        nodes, past = (node("n1", 2), node("n2")), 3
        for mended in (permit("n1", 1, 2, minutes_ago=10), permit("n1", 1, 2, minutes_ago=10, returned_at=None)):
            seen = picture(self.GATED, FREE, nodes=nodes, permits=(failed, mended))
            assert told(seen, asks("n2", to=3)) == "gate qa is not approved"
        seen = picture(self.GATED, FREE, nodes=nodes, permits=(failed,))
        assert told(seen, asks("n2", to=3)) == past
        assert told(replace(seen, actions=(did(Deed.RETRY, node="n1"),)), asks("n2", to=3)) == "gate qa is not approved"
        again = permit("n1", 1, 2, minutes_ago=-10, failure="it is broken")
        seen = replace(seen, permits=(failed, again), actions=(did(Deed.RETRY, node="n1"),))
        assert told(seen, asks("n2", to=3)) == past


class TestFacts:
    def test_a_class_that_the_release_leaves_untouched_is_not_waited_for(self) -> None:
        """Nothing upgrades its nodes: a dead one would hold the others for ever."""
        both = ("BlockNode", "Origin")
        untouched = release(2, f'{FREE}\nafter = "Origin"', classes=both, untouched=("Origin",))
        manifest = json.loads(untouched.manifest)
        upgrade = manifest["classes"]["BlockNode"]["upgrade"]
        manifest["classes"]["Origin"]["upgrade"] = {**upgrade, "schedule": {}}
        touched = replace(untouched, manifest=json.dumps(manifest))
        for second, says in ((touched, "class Origin goes first: 1 node not upgraded yet (o1)"), (untouched, 2)):
            releases = release(1, FREE, classes=both), second
            nodes = node("n1"), node("o1", cls="Origin")
            assert told(Picture(system=SYSTEM, at=NOON, nodes=nodes, releases=releases), asks("n1")) == says

    def test_the_rate_counts_what_was_granted(self) -> None:
        nodes = node("n1"), node("n2", 2)
        seen = picture(f'{FREE}\nrate = "1/h"', nodes=nodes, permits=(permit("n2", 1, 2, minutes_ago=59),))
        assert told(seen, asks("n1")) == "1 node went within the last hour: the next at 12:01:00 UTC"
        seen = picture(f'{FREE}\nrate = "1/h"', nodes=nodes, permits=(permit("n2", 1, 2, minutes_ago=60),))
        assert told(seen, asks("n1")) == 2

    def test_the_spread_begins_when_the_release_is_published(self) -> None:
        """An hour ago: n2's moment was right after that, n1's is at four tenths."""
        seen = picture(f'{FREE}\nspread = "5h"', nodes=(node("n1"), node("n2")))
        assert told(seen, asks("n2")) == 2
        assert told(seen, asks("n1")) == "its moment is 13:01:11 UTC"

    def test_what_nodes_report_and_what_room_is_on_their_disks(self) -> None:
        disk = DiskRow(state_bytes=1, old_bytes=1, releases_bytes=1, free_bytes=5, measured_at=NOON)
        healthy = f'{FREE}\nhealthy = [{{ fact = "ms", most = 9 }}, {{ fact = "disk_free_bytes", least = 6 }}]'
        for ms, text in ((10.0, "ms 10: at most 9"), (9.0, "disk_free_bytes 5: at least 6")):
            nodes = node("n1"), node("n2", 2, facts={"ms": ms}, disk=disk)
            said = told(picture(healthy, nodes=nodes, permits=(permit("n2", 1, 2),)), asks("n1"))
            assert said == f"n2 is upgraded and reports {text} is healthy"

    def test_what_is_tried_dry_is_told_beside(self) -> None:
        schedule = f'{FREE}\nhealthy = {{ fact = "ms", most = 9, dry_run = true }}'
        nodes, permits = (node("n1"), node("n2", 2, facts={"ms": 10.0})), (permit("n2", 1, 2),)
        seen = picture(schedule, nodes=nodes, permits=permits, asks=(asks("n1"),))
        assert told(seen, asks("n1")) == 2
        assert waiting(seen, NOON) == {
            "n1": "nothing any more: it goes when it next asks (a rule that is tried dry would hold it: "
            "n2 is upgraded and reports ms 10: at most 9 is healthy)"
        }

    def test_a_webhook_answers_to_one_release(self) -> None:
        seen = picture(f'{FREE}\ngate = "https://ci.example/go"', nodes=(node("n1"),))
        yes = Answer(says=True, since=NOON)
        assert told(seen, asks("n1")) == "https://ci.example/go was not asked yet"
        assert told(seen, asks("n1"), {("https://ci.example/go", Version(3)): yes}) != 2
        assert told(seen, asks("n1"), {("https://ci.example/go", Version(2)): yes}) == 2

    def test_what_a_node_says_against_one_release_holds_it_there(self) -> None:
        seen = picture(FREE, FREE, nodes=(node("n1", holds={2: "busy"}),), asks=(asks("n1", to=3),))
        assert waiting(seen, NOON) == {"n1": "the node itself: busy"}
        assert told(seen, asks("n1", to=3)) == "the node itself: busy"
        assert told(seen, asks("n1", to=3, holds={3: "busy"})) == 2
        assert told(seen, asks("n1", to=3, holds={})) == 3


class TestOwnFunctions:
    SCHEDULE = 'max_unavailable = 1\ncustom = "blockstore.upgrade:decide"'
    TEXT = "its release's own function decides when it next asks"

    def test_a_node_that_nothing_holds_is_shown_the_fleet_and_agrees(self) -> None:
        seen = picture(self.SCHEDULE, nodes=(node("n1"), node("n2")), asks=(asks("n1"), asks("n2")))
        verdict = judge(seen, asks("n2"), "p")
        assert isinstance(verdict, NotYet)
        assert (verdict.reason, verdict.decides) == (self.TEXT, (2, seen))  # n1 takes no place before it has agreed
        verdict = judge(seen, asks("n1"), "p")
        assert isinstance(verdict, NotYet)
        assert (verdict.reason, verdict.decides) == (self.TEXT, (2, seen))
        assert told(seen, replace(asks("n1"), agreed=(Version(2),))) == 2

    def test_it_is_not_asked_while_rules_hold_the_node(self) -> None:
        seen = picture(self.SCHEDULE, nodes=(node("n1"), node("n2")), permits=(permit("n2", 1, 2, returned_at=None),))
        verdict = judge(seen, replace(asks("n1"), agreed=(Version(2),)), "p")
        assert isinstance(verdict, NotYet)
        assert (verdict.reason, verdict.decides) == ("1 of 1 node is away (n2)", None)

    def test_what_it_says_is_told_of_the_node(self) -> None:
        seen = picture(self.SCHEDULE, nodes=(node("n1", holds={2: "it leads alone"}),), asks=(asks("n1"),))
        assert waiting(seen, NOON) == {"n1": "the node itself: it leads alone"}
        assert told(seen, asks("n1", holds={})) == self.TEXT

    def test_a_deadline_and_an_operator_go_past_it(self) -> None:
        late = picture(f'{self.SCHEDULE}\ndeadline = "30m"', nodes=(node("n1"),))
        assert told(late, asks("n1")) == 2
        forced = picture(self.SCHEDULE, nodes=(node("n1"),), actions=(did(Deed.FORCE, node="n1"),))
        assert told(forced, asks("n1")) == 2


class TestNewReleases:
    """What becomes of a rollout when the next release is published, case by case: docs/schedules.md."""

    @pytest.mark.parametrize(("in_progress", "far"), [("supersede", 3), ("queue", 2)])
    def test_a_node_that_has_yet_to_go(self, in_progress: str, far: int) -> None:
        seen = picture(FREE, f'{FREE}\nin_progress = "{in_progress}"', nodes=(node("n1"), node("n2")))
        assert told(seen, asks("n1", to=3)) == far

    def queued(self, *nodes: NodeRecord, **more: object) -> Picture:
        return picture(FREE, f'{FREE}\nin_progress = "queue"', nodes=(node("n1", 2), *nodes), **more)

    def test_queued_behind_nodes_that_have_not_got_there(self) -> None:
        seen = self.queued(node("n2"), node("n3", 2), node("o1", cls="Origin"))
        assert told(seen, asks("n1", since=2, to=3)) == "release 2 goes first: 1 node not there yet (n2)"
        assert told(self.queued(node("n2", 2)), asks("n1", since=2, to=3)) == 3

    def test_not_behind_nodes_that_an_operator_left_out(self) -> None:
        assert told(self.queued(node("n2"), actions=(did(Deed.SKIP, node="n2"),)), asks("n1", since=2, to=3)) == 3

    @pytest.mark.parametrize(
        "more",
        [{"actions": (did(Deed.ABORT),)}, {"permits": (permit("n2", 1, 2, failure="its self-test failed"),)}],
    )
    def test_not_behind_a_release_that_is_given_up(self, more: dict[str, object]) -> None:
        """It failed on a node, or was aborted: the next release is the way out, for those that are behind as well."""
        seen = self.queued(node("n2"), node("n3"), **more)
        assert told(seen, asks("n1", since=2, to=3)) == 3
        assert told(seen, asks("n3", to=3)) == 3
