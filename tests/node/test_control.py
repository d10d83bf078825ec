"""A question gets the answer, the error or the death of the process that it was put to."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from segue.errors import PeerError, ReleaseError
from segue.node.control import HostError, ask, listen


async def answer(question: str, arguments: dict[str, Any]) -> dict[str, Any]:
    match question:
        case "echo":
            return arguments
        case "fail":
            raise ReleaseError("blockstore/node.py:3: no such name")
        case "break":
            raise ZeroDivisionError("by nought")
        case "wait":
            await asyncio.Event().wait()
    raise AssertionError(question)


async def test_an_answer_comes_back(tmp_path: Path) -> None:
    """What crosses as JSON comes back as it went."""
    async with await listen(tmp_path / "s", answer):
        assert await ask(tmp_path / "s", "echo", wait_s=5, a=1, b=["x"]) == {"a": 1, "b": ["x"]}


async def test_errors_come_back_in_one_line_with_their_traceback(tmp_path: Path) -> None:
    """Ours by their message, others with their type; the traceback is for the log."""
    async with await listen(tmp_path / "s", answer):
        with pytest.raises(HostError, match=r"^blockstore/node.py:3: no such name$"):
            await ask(tmp_path / "s", "fail", wait_s=5)
        with pytest.raises(HostError, match=r"^ZeroDivisionError: by nought$") as caught:
            await ask(tmp_path / "s", "break", wait_s=5)
        assert "Traceback" in caught.value.details


async def test_nobody_there_is_a_peer_error(tmp_path: Path) -> None:
    """Neither a missing socket nor one that a dead process left hangs or raises OSError."""
    with pytest.raises(PeerError):
        await ask(tmp_path / "s", "echo", wait_s=5)
    server = await listen(tmp_path / "s", answer)
    server.close()
    await server.wait_closed()
    with pytest.raises(PeerError):
        await ask(tmp_path / "s", "echo", wait_s=5)


async def test_an_answer_that_does_not_come_is_a_peer_error(tmp_path: Path) -> None:
    """The wait has a bound."""
    async with await listen(tmp_path / "s", answer):
        with pytest.raises(PeerError, match=r"within 0\.05 s"):
            await ask(tmp_path / "s", "wait", wait_s=0.05)


async def test_a_process_takes_the_place_of_one_that_died(tmp_path: Path) -> None:
    """The socket's file may be there already."""
    (tmp_path / "s").write_text("")
    async with await listen(tmp_path / "s", answer):
        assert await ask(tmp_path / "s", "echo", wait_s=5) == {}
