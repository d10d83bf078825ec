"""A release that must not get far: its self-test fails, and the rollout halts on its canary."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from segue.demo.options import Example
from segue.errors import OperatorError
from segue.journey import Phase
from segue.wire.messages import SystemStatus

#: What the self-test says.
SAID: Final = "this build cannot read its own blocks"
#: Where a node is that serves and does not go anywhere at the moment.
AT_WORK: Final = frozenset({Phase.SERVING, Phase.WAITING})

_NODE = Path("blockstore", "node.py")
_SELF_TEST = "    async def self_test(self) -> None:\n"


def break_release(example: Example, folder: Path) -> Example:
    """Return the example with a copy of its last release whose self-test fails.

    Args:
        example: the system.
        folder: where the copy goes; it must not be there.

    Raises:
        OperatorError: the release has no self-test that could be made to fail.
    """
    version = max(example.releases)
    shutil.copytree(example.releases[version], folder)
    path = folder / _NODE
    text = path.read_text(encoding="utf-8")
    if _SELF_TEST not in text:
        raise OperatorError(
            f"{example.releases[version] / _NODE} has no self_test to break: take it from the repository"
        )
    path.write_text(
        text.replace(_SELF_TEST, f'{_SELF_TEST}        raise RuntimeError("{SAID}")\n', 1), encoding="utf-8"
    )
    return replace(example, releases={**example.releases, version: folder})


def has_halted(status: SystemStatus | None) -> bool:
    """Say whether a node has given the release up, and every other waits and is told why."""
    nodes = status.nodes if status else ()
    given_up = [node for node in nodes if node.waits_for_operator]
    others = [node for node in nodes if not node.waits_for_operator]
    return bool(given_up) and bool(others) and all(node.phase == Phase.WAITING and node.waits_for for node in others)
