"""What docs/simulations.md says to write does what the page says."""

import asyncio
import importlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc.aio
import pytest

import segue

PAGE = "simulations.md"

Page = Any  #: conftest's
Serving = Callable[..., AbstractAsyncContextManager[grpc.aio.Channel]]


@pytest.fixture(scope="module")
def board(page: Page) -> ModuleType:
    """The page's board.py."""
    return importlib.import_module("board")


@pytest.fixture
def serve(board: ModuleType, serving: Serving) -> Serving:
    """Serve the page's Board with one past simulation, or several."""

    def serve(*past: Any, **versions: Any) -> AbstractAsyncContextManager[grpc.aio.Channel]:
        def add(server: Any) -> None:
            board.v2_grpc.add_BoardServicer_to_server(board.Board(), server)

        return serving(add, version=1 + len(past), past=past, **versions)

    return serve


def test_the_first_example_prints_what_the_page_says(page: Page) -> None:
    """Following the page word by word leads where it says."""
    assert page.output == page.printed()
    assert "version 1 reads" in page.output


def test_every_block_of_code_is_tried(page: Page) -> None:
    """No code stands on the page that these tests do not run."""
    tried = ("async def All", "def All", "async def Get", "async def Clear", "def __init__", "@segue.")
    for block in page.blocks:
        if block.language == "python":
            assert block.name == "board.py" or block.code.startswith(tried), block.code


async def test_what_is_missing_is_unimplemented(board: ModuleType, serve: Serving) -> None:
    """Version 1's callers of what the first example leaves out are told so."""
    async with serve(board.Version1) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await board.v1_grpc.BoardStub(channel).All(board.v1.Nothing())
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("way", ["async def All", "def All"])
async def test_one_reply_collects_a_stream(page: Page, board: ModuleType, serve: Serving, way: str) -> None:
    """An asynchronous method and a plain one both gather what the delegate streams."""
    async with serve(page.with_methods(board, "Version1", way)) as channel:
        old, new = board.v1_grpc.BoardStub(channel), board.v2_grpc.BoardStub(channel)
        await old.Put(board.v1.Note(name="milk", text="two\nbottles"))
        await new.Put(board.v2.Note(name="bread", lines=["one"], colour="red"))
        found = await old.All(board.v1.Nothing())
    assert [(note.name, note.text) for note in found.notes] == [("milk", "two\nbottles"), ("bread", "one")]


async def test_what_the_delegate_aborts_with_is_caught(page: Page, board: ModuleType, serve: Serving) -> None:
    """Without catching it the caller gets the delegate's status; with it, version 1's answer."""
    async with serve(board.Version1) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await board.v1_grpc.BoardStub(channel).Get(board.v1.Name(name="milk"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    async with serve(page.with_methods(board, "Version1", "async def Get")) as channel:
        found = await board.v1_grpc.BoardStub(channel).Get(board.v1.Name(name="milk"))
    assert (found.name, found.text) == ("milk", "")


async def test_what_means_nothing_is_disallowed(page: Page, board: ModuleType, serve: Serving) -> None:
    """The caller gets the status, the reason and the author's words."""
    async with serve(page.with_methods(board, "Version1", "async def Clear")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await board.v1_grpc.BoardStub(channel).Clear(board.v1.Nothing())
    refusal = segue.refusal_of(raised.value)
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal is not None
    assert refusal.reason == segue.RefusalReason.DISALLOWED
    assert "keeps all notes" in refusal.message


async def test_state_outlives_the_server(page: Page, board: ModuleType, serve: Serving, tmp_path: Path) -> None:
    """What `stop` writes, `start` reads the next time."""
    simulation = page.with_methods(board, "Version1", "def __init__")
    async with serve(simulation, state=tmp_path) as channel:
        await board.v1_grpc.BoardStub(channel).Put(board.v1.Note(name="milk"))
    async with serve(simulation, state=tmp_path) as channel:
        latest = await board.v1_grpc.BoardStub(channel).Latest(board.v1.Nothing())
    assert latest.name == "milk"


async def test_an_observer_keeps_state_right(page: Page, board: ModuleType, serve: Serving) -> None:
    """Without the page's observer, the simulation misses what version 2's callers do."""
    for blocks, latest in ([], "milk"), (["@segue.observes"], "bread"):
        async with serve(page.with_methods(board, "Version1", "def __init__", *blocks)) as channel:
            old, new = board.v1_grpc.BoardStub(channel), board.v2_grpc.BoardStub(channel)
            await old.Put(board.v1.Note(name="milk"))
            await new.Put(board.v2.Note(name="bread"))
            assert (await old.Latest(board.v1.Nothing())).name == latest


async def test_an_interceptor_refuses_the_other_versions_call(page: Page, board: ModuleType, serve: Serving) -> None:
    """Version 2's callers cannot put what version 1's would read otherwise; others go through, and version 1's."""
    simulation = page.with_methods(board, "Version1", "def __init__", "@segue.observes", "@segue.intercepts")
    async with serve(simulation) as channel:
        old, new = board.v1_grpc.BoardStub(channel), board.v2_grpc.BoardStub(channel)
        await new.Put(board.v2.Note(name="bread"))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await new.Put(board.v2.Note(name="milk", lines=["two\nbottles"]))
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert (await old.Latest(board.v1.Nothing())).name == "bread"
        await old.Put(board.v1.Note(name="milk", text="two\nbottles"))
        assert list((await new.Get(board.v2.Name(name="milk"))).lines) == ["two", "bottles"]


async def test_simulations_beyond_are_told(
    page: Page, board: ModuleType, serve: Serving, register_something: Callable[[object, Any], None]
) -> None:
    """A simulation that follows version 1's `Put` hears of version 2's through the page's `tell`."""
    told: list[tuple[str, str]] = []

    class Older(segue.PastSimulation):
        register = register_something

        @segue.observes("Put")
        async def put(self, request: Any, reply: Any, context: Any) -> None:
            told.append((request.name, request.text))

    async with serve(page.with_methods(board, "Version1", "def __init__", "@segue.observes"), Older) as channel:
        old, new = board.v1_grpc.BoardStub(channel), board.v2_grpc.BoardStub(channel)
        await new.Put(board.v2.Note(name="bread", lines=["one", "loaf"]))
        await old.Put(board.v1.Note(name="milk", text="two"))
    assert told == [("bread", "one\nloaf"), ("milk", "two")]


async def test_calls_of_ones_own_version_and_hooks_take_turns(page: Page, board: ModuleType, serving: Serving) -> None:
    """While a call of version 1 is inside, no `Put` of version 2 begins: what the page says of order."""
    inside, go_on = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    class SlowBoard(board.Board):  # type: ignore[misc, name-defined]
        async def Put(self, request: Any, context: Any) -> Any:  # noqa: N802
            if request.name == "slow":
                inside.set()
                await go_on.wait()
            done.append(request.name)
            return await super().Put(request, context)

    def add(server: Any) -> None:
        board.v2_grpc.add_BoardServicer_to_server(SlowBoard(), server)

    simulation = page.with_methods(board, "Version1", "def __init__", "@segue.observes")
    async with serving(add, version=2, past=[simulation]) as channel:
        old, new = board.v1_grpc.BoardStub(channel), board.v2_grpc.BoardStub(channel)
        slow = old.Put(board.v1.Note(name="slow"))
        await inside.wait()
        quick = new.Put(board.v2.Note(name="quick"))
        await new.Get(board.v2.Name(name="none"), wait_for_ready=True).code()  # came later, and is answered
        assert done == []
        go_on.set()
        await slow
        await quick
        latest = await old.Latest(board.v1.Nothing())
    assert done == ["slow", "quick"]
    assert latest.name == "quick"
