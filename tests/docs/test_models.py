"""The three models of docs/models.md answer one sequence of calls as the page's table says."""

import asyncio
import importlib
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc.aio
import pytest

import segue

PAGE = "models.md"
DOCS = Path(__file__).parents[2] / "docs"

Page = Any  #: conftest's
Serving = Callable[..., AbstractAsyncContextManager[grpc.aio.Channel]]

#: The page's sequence: (the caller's version, method, fields of the request)
CALLS: list[tuple[int, str, dict[str, Any]]] = [
    (2, "Invite", {"name": "ann", "table": 7}),
    (1, "Cancel", {"name": "ann"}),
    (1, "Invite", {"name": "ann"}),
    (2, "Find", {"name": "ann"}),
    (2, "Confirm", {"name": "ann"}),
    (1, "Cancel", {"name": "ann"}),
    (2, "Find", {"name": "ann"}),
]


@pytest.fixture(scope="module")
def guests(page: Page) -> ModuleType:
    """The page's guests.py."""
    return importlib.import_module("guests")


def table() -> dict[str, list[str]]:
    """Return the page's table of answers: {model: answers}, and its calls as "calls"."""
    page = (DOCS / PAGE).read_text()
    _, rows = re.split(r"^\| \| call \|.*\n\| ---.*\n", page, flags=re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows.split("\n\n")[0].splitlines()]
    return {
        "calls": [f"{row[0]} {row[1]}" for row in cells],
        "Direct": [row[2] for row in cells],
        "Hybrid": [row[3] for row in cells],
        "Interceptor": [row[4] for row in cells],
    }


async def answers(guests: ModuleType, channel: grpc.aio.Channel) -> list[str]:
    """Make the sequence of calls, and return what each answers, in the table's words."""
    stubs = {1: guests.v1_grpc.GuestsStub(channel), 2: guests.v2_grpc.GuestsStub(channel)}
    messages = {1: guests.v1.Guest, 2: guests.v2.Guest}
    found = []
    for version, method, fields in CALLS:
        try:
            reply = await getattr(stubs[version], method)(messages[version](**fields))
        except grpc.aio.AioRpcError as error:
            found.append(error.code().name)
        else:
            is_guest = isinstance(reply, guests.v2.Guest)
            found.append(f"table {reply.table}{', confirmed' * reply.confirmed}" if is_guest else "done")
    return found


def test_the_table_has_the_calls_that_are_made_here() -> None:
    """The page's sequence and this module's are one."""
    said = [
        f"version {version} `{method}(ann{', table 7' * ('table' in fields)})`" for version, method, fields in CALLS
    ]
    assert table()["calls"] == said


def test_the_program_prints_what_the_page_says(page: Page) -> None:
    """What the reader sees is the page's text, and the table's columns."""
    assert page.output == page.printed()
    columns = {name: "; ".join(found) for name, found in table().items() if name != "calls"}
    assert page.output.splitlines() == [f"{name}: {found}" for name, found in columns.items()]


async def test_a_cancel_waits_for_a_confirm(guests: ModuleType) -> None:
    """Otherwise a guest who has been cancelled would stay confirmed."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Slow(guests.Guests):  # type: ignore[misc, name-defined]
        async def Find(self, request: Any, context: Any) -> Any:  # noqa: N802
            found = await super().Find(request, context)
            asked.set()
            await go_on.wait()
            return found

    class Refusing:
        async def abort(self, code: grpc.StatusCode, details: str) -> None:
            raise segue.AbortError(code, details)

    ann, context = guests.v2.Guest(name="ann"), Refusing()
    simulation = guests.Direct(None, Slow())
    await simulation.Invite(ann, context)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(simulation.Confirm(ann, context))
        await asked.wait()
        cancel = tasks.create_task(refused(simulation.Cancel(ann, context)))
        await asyncio.sleep(0)
        go_on.set()
    assert cancel.result()
    assert simulation.guests["ann"].confirmed


async def refused(call: Awaitable[object]) -> bool:
    try:
        await call
    except segue.AbortError:
        return True
    return False


@pytest.mark.parametrize("model", ["Direct", "Hybrid", "Interceptor"])
async def test_each_model_answers_as_the_page_says(guests: ModuleType, serving: Serving, model: str) -> None:
    """One sequence of calls in both versions tells the three models apart."""

    def add(server: Any) -> None:
        guests.v1_grpc.add_GuestsServicer_to_server(guests.Guests(), server)

    async with serving(add, version=1, future=[getattr(guests, model)]) as channel:
        assert await answers(guests, channel) == table()[model]


async def test_the_interceptor_answers_as_the_upgraded_node(guests: ModuleType, serving: Serving) -> None:
    """The last column is what version 2's object and its past simulation answer."""

    class Current(guests.v2_grpc.GuestsServicer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.guests: dict[str, Any] = {}

        async def Invite(self, request: Any, context: Any) -> Any:  # noqa: N802
            self.guests[request.name] = guests.v2.Guest(name=request.name, table=request.table)
            return guests.v2.Done()

        async def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
            if request.name in self.guests and self.guests[request.name].confirmed:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION)
            self.guests.pop(request.name, None)
            return guests.v2.Done()

        async def Find(self, request: Any, context: Any) -> Any:  # noqa: N802
            if request.name not in self.guests:
                await context.abort(grpc.StatusCode.NOT_FOUND)
            return self.guests[request.name]

        async def Confirm(self, request: Any, context: Any) -> Any:  # noqa: N802
            (await self.Find(request, context)).confirmed = True
            return guests.v2.Done()

    class Version1(segue.PastSimulation, guests.v1_grpc.GuestsServicer):  # type: ignore[misc, name-defined]
        def register(self, server: Any) -> None:
            guests.v1_grpc.add_GuestsServicer_to_server(self, server)

        async def Invite(self, request: Any, context: Any) -> Any:  # noqa: N802
            await self.delegate.Invite(guests.v2.Guest(name=request.name), context)
            return guests.v1.Done()

        async def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
            await self.delegate.Cancel(guests.v2.Guest(name=request.name), context)
            return guests.v1.Done()

    def add(server: Any) -> None:
        guests.v2_grpc.add_GuestsServicer_to_server(Current(), server)

    async with serving(add, version=2, past=[Version1]) as channel:
        assert await answers(guests, channel) == table()["Interceptor"]


async def test_what_a_model_cannot_say_is_disallowed(guests: ModuleType, serving: Serving) -> None:
    """The hybrid that promises less confirms nobody, and gives no wrong answer."""

    def add(server: Any) -> None:
        guests.v1_grpc.add_GuestsServicer_to_server(guests.Guests(), server)

    async with serving(add, version=1, future=[guests.HybridThatPromisesLess]) as channel:
        found = await answers(guests, channel)
    assert found == ["done", "done", "done", "table 0", "FAILED_PRECONDITION", "done", "NOT_FOUND"]


async def test_versions_beyond_hear_of_version_1s_calls(
    guests: ModuleType, serving: Serving, register_something: Callable[[object, Any], None]
) -> None:
    """Version 3's simulation, which knows version 2 only, follows version 1's calls."""
    told: list[str] = []

    class Version3(segue.FutureSimulation):
        register = register_something

        @segue.observes("Invite")
        async def invited(self, request: Any, reply: Any, context: Any) -> None:
            told.append(f"{request.name} at {request.table}")

        @segue.observes("Cancel")
        async def cancelled(self, request: Any, reply: Any, context: Any) -> None:
            told.append(f"no {request.name}")

    def add(server: Any) -> None:
        guests.v1_grpc.add_GuestsServicer_to_server(guests.Guests(), server)

    async with serving(add, version=1, future=[guests.Interceptor, Version3]) as channel:
        await answers(guests, channel)
    assert told == ["ann at 7", "no ann", "ann at 0"]
