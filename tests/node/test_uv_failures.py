"""The rule: whoever can do something about a failed installation is the one who is told."""

from pathlib import Path

import pytest

from segue.errors import OperatorError, PeerError, ReleaseError, SegueError
from segue.node.uv_failures import Attempt, failure
from segue.release.requirements import parse_requirements

LOCK = f"first==1.0 --hash=sha256:{'0' * 64}\nmy-lib==2.0 --hash=sha256:{'0' * 64}\n"
REQUIREMENTS = parse_requirements(LOCK.encode(), "r.txt")


def failed(said: str, status: int = 2) -> SegueError:
    """Return what a run of uv that ended so stands for."""
    return failure(Attempt(status=status, said=said, offline=False), None, Path("r.txt"), REQUIREMENTS)


@pytest.mark.parametrize(
    ("said", "status", "family"),
    [
        ("error: Failed to install: x\n  cause: No space left on device (os error 28)", 2, PeerError),
        ("error: Failed to install: x\n  cause: Cannot allocate memory (os error 12)", 1, PeerError),
        ("error: failed to open file `/x`\n  cause: Permission denied (os error 13)", 2, OperatorError),
        ("error: failed to open file `/x`\n  cause: Read-only file system (os error 30)", 2, OperatorError),
        ("error: Failed to fetch: http://i/simple/my-lib/\n  cause: dns error", 1, PeerError),
        ("error: Failed to fetch: x\n  cause: Connection refused (os error 111)", 2, PeerError),
        ("error: Failed to parse: `uv.toml`", 2, PeerError),
        ("", -9, PeerError),
        ("error: something that no uv says yet", 2, PeerError),
        ("error: something that no uv says yet", 1, ReleaseError),
        ("error: Failed to install: my_lib-2.0-py3-none-any.whl\n  cause: The wheel is invalid", 1, ReleaseError),
    ],
)
def test_each_failure_has_its_family(said: str, status: int, family: type[SegueError]) -> None:
    error = failed(said, status)
    assert isinstance(error, family)
    assert error.details == said  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "said",
    [
        "error: Failed to download `my-lib==2.0`",
        "error: No solution\n  cause: Because x and you require my_lib==2.0, we can conclude",
        "error: No solution\n  cause: Because x and you require\n         my_lib==2.0, we can conclude",
        "error: Failed to fetch: http://127.0.0.1/simple/my-lib/",
        "error: error sending request for url (http://127.0.0.1/simple/my-lib/)",
    ],
)
def test_the_line_of_the_requirement_is_named(said: str) -> None:
    assert str(failed(said)).startswith("r.txt:2: my-lib==2.0: ")


def test_the_message_is_one_line_however_much_uv_says() -> None:
    said = "Using CPython\nwarning: x\nerror: one\n  cause: two\n\n   Expected:\n     three\n\nhint: four\n"
    said += "five " * 1000
    error = failed(said, 1)
    assert str(error).startswith("r.txt: one: two Expected: three; hint: four five")
    assert "\n" not in str(error)
    assert len(str(error)) < 700
    assert error.details == said  # type: ignore[attr-defined]
