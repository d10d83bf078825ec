"""A question gets the answer, the error or the death of the process that it was put to."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from segue.errors import ReleaseError
from segue.node.control import AuthorCodeError, HostFaultError, HostGoneError, HostSilentError, ask, listen


async def answer(question: str, arguments: dict[str, Any]) -> dict[str, Any]:
    match question:
        case "echo":
            return arguments
        case "fail":
            raise ReleaseError("blockstore/node.py:3: no such name")
        case "break":
            raise ZeroDivisionError("by nought")
        case "lack":
            raise OSError(28, "No space left on device")
        case "surrogate":
            raise ValueError(b"caf\xe9".decode(errors="surrogateescape"))
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
        with pytest.raises(AuthorCodeError, match=r"^blockstore/node.py:3: no such name$"):
            await ask(tmp_path / "s", "fail", wait_s=5)
        with pytest.raises(AuthorCodeError, match=r"^ZeroDivisionError: by nought$") as caught:
            await ask(tmp_path / "s", "break", wait_s=5)
        assert "Traceback" in caught.value.details


async def test_what_the_machine_refuses_is_not_the_authors_fault(tmp_path: Path) -> None:
    """So that a full disk does not turn a node against a release for ever."""
    async with await listen(tmp_path / "s", answer):
        with pytest.raises(HostFaultError, match="No space left"):
            await ask(tmp_path / "s", "lack", wait_s=5)


async def test_a_message_can_be_written_anywhere(tmp_path: Path) -> None:
    """Text that no encoding takes would otherwise break the journal or the report that it ends up in."""
    async with await listen(tmp_path / "s", answer):
        with pytest.raises(AuthorCodeError) as caught:
            await ask(tmp_path / "s", "surrogate", wait_s=5)
        assert str(caught.value).encode("utf-8")


async def test_nobody_there_is_a_peer_error(tmp_path: Path) -> None:
    """Neither a missing socket nor one that a dead process left hangs or raises OSError."""
    with pytest.raises(HostGoneError):
        await ask(tmp_path / "s", "echo", wait_s=5)
    server = await listen(tmp_path / "s", answer)
    server.close()
    await server.wait_closed()
    with pytest.raises(HostGoneError):
        await ask(tmp_path / "s", "echo", wait_s=5)


async def test_an_answer_that_does_not_come_is_a_peer_error(tmp_path: Path) -> None:
    """The wait has a bound."""
    async with await listen(tmp_path / "s", answer):
        with pytest.raises(HostSilentError, match=r"within 0\.05 s"):
            await ask(tmp_path / "s", "wait", wait_s=0.05)


async def test_a_process_takes_the_place_of_one_that_died(tmp_path: Path) -> None:
    """The socket's file may be there already."""
    (tmp_path / "s").write_text("")
    async with await listen(tmp_path / "s", answer):
        assert await ask(tmp_path / "s", "echo", wait_s=5) == {}
