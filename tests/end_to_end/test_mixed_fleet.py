"""An operator ends a rollout in its middle: the answer says what the mixed fleet now means, and it is so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segue.local import LocalSettings
from segue.model.ids import ClassName, SystemName
from segue.testing.rig import changed, rigged
from segue.wire.messages import SystemStatus

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

SYSTEM = SystemName("blockstore")
KNOWS = "        self.replicas = Replicas(node)\n"
TESTS = "        for key in islice(self.blocks, SELF_TEST_BLOCKS):"
#: Well on n1, which goes first, and on no other node: what a canary does not show.
EDITS = {
    "release.toml": {'canary = { nodes = 1, soak = "3s" }': 'canary = { nodes = ["n1"], soak = "0s" }'},
    "blockstore/node.py": {
        KNOWS: f"{KNOWS}        self.has_keys = node.id == 'n1'\n",
        TESTS: f'        if not self.has_keys:\n            raise RuntimeError("no key file")\n{TESTS}',
    },
}


def has_halted(now: SystemStatus) -> bool:
    """One node has version 2, one gave it up, and the third waits and knows why."""
    versions = sorted(node.version for node in now.nodes)
    gave_up = [node.waits_for_operator for node in now.nodes]
    waits = [node.waits_for for node in now.nodes if node.waits_for]
    return versions == [1, 1, 2] and any(gave_up) and any(text.startswith("halted: ") for text in waits)


async def test_an_abort_says_what_the_mixed_fleet_means(
    tmp_path: Path, releases: dict[int, Path], segue: Callable[..., Any], calling: Callable[..., Any]
) -> None:
    """As docs/operating-a-rollout.md shows it; and callers of both versions are served by all nodes."""
    settings = LocalSettings(
        system=SYSTEM,
        class_name=ClassName("BlockNode"),
        nodes=3,
        zones=("a",),
        max_connection_age_s=2,
        node_options=("--retries", "0"),
    )
    async with rigged(tmp_path / "system", settings, releases[1]) as rig:

        async def operate(*words: str) -> list[str]:
            said: str = await segue(*words, "--system", "blockstore", "--server", rig.local.url)
            return said.splitlines()

        await rig.publish(changed(releases[2], tmp_path / "wrong", EDITS), releases[1])
        now = await rig.until(has_halted, "the rollout halts on the node after the canary")
        (failed,) = (node.id for node in now.nodes if node.waits_for_operator)
        (halt,) = (line for line in await operate("status") if line.startswith("RELEASE 2 HALTED at "))
        assert halt.endswith(f"halted: 1 of 1 failures ({failed} failed); an operator must resume")

        told = await operate("abort", "--as", "ada", "--why", "only n1 has a key file")
        assert told == [
            "Release 2 of blockstore is aborted: no node gets a permit to stop at it any more.",
            "The fleet is mixed: 2 nodes run version 1, 1 node runs version 2.",
            "They work together for as long as it takes: each node answers callers of every version, by simulations.",
            "No node holds a permit.",
            "The way out is the next release: nodes go through 2 on to 3, and do not stop at it. "
            "An abort is for good: `segue resume` does not undo it.",
        ]
        assert said_on_the_page(told)
        status = await operate("status")
        (held,) = (line for line in status if line.startswith("RELEASE 2 "))
        assert held.startswith("RELEASE 2 ABORTED at ")
        assert held.endswith(" by ada: only n1 has a key file")
        happened = [line[21:] for line in await operate("history", "--last", "8")]  # among them what the nodes report
        assert [line for line in happened if line.startswith(("release 2", "ada"))][-3:] == [
            f"release 2 halted for BlockNode: 1 of 1 failures ({failed} failed)",
            "ada: abort release 2: only n1 has a key file",
            "release 2 is halted no more for BlockNode: abort by ada",
        ]
        for address in rig.local.members.values():
            for version in (1, 2):
                async with calling(version, address) as caller:
                    assert await caller.get(await caller.put(b"mixed")) == b"mixed"
        assert [node.version for node in (await rig.server.status(SYSTEM)).nodes] == [2, 1, 1]


def said_on_the_page(lines: list[str]) -> bool:
    """Say whether the page for operators shows this answer, whole."""
    page = Path(__file__).parents[2] / "docs" / "operating-a-rollout.md"
    return "\n".join(lines) in page.read_text(encoding="utf-8")
