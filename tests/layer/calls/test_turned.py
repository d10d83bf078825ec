# ruff: noqa: N802 - gRPC names its methods in CamelCase
"""A simulation may turn one kind of call into another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest

MakeWorld = Callable[..., Awaitable[Any]]
Hear = Callable[[str, Any], Awaitable[tuple[list[str], Any]]]


class Turning:
    """One reply is collected from the delegate's many, and many are made of one; the same for requests."""

    async def Unary(self: Any, request: str, context: Any) -> str:
        with self.noted(context):
            return "".join([reply async for reply in self.delegate.Down(request, context)])

    async def Down(self: Any, request: str, context: Any) -> AsyncIterator[str]:
        with self.noted(context):
            for letter in await self.delegate.Unary(request, context):
                yield letter

    async def Up(self: Any, requests: AsyncIterator[str], context: Any) -> str:
        with self.noted(context):
            return "".join([reply async for reply in self.delegate.Both(requests, context)])

    async def Both(self: Any, requests: AsyncIterator[str], context: Any) -> AsyncIterator[str]:
        with self.noted(context):
            yield await self.delegate.Up(requests, context)


class PlainlyTurning:
    def Unary(self: Any, request: str, context: Any) -> str:
        with self.noted(context):
            return "".join(self.delegate.Down(request, context))

    def Down(self: Any, request: str, context: Any) -> Iterator[str]:
        with self.noted(context):
            yield from self.delegate.Unary(request, context)

    def Up(self: Any, requests: Iterator[str], context: Any) -> str:
        with self.noted(context):
            return "".join(self.delegate.Both(requests, context))

    def Both(self: Any, requests: Iterator[str], context: Any) -> Iterator[str]:
        with self.noted(context):
            yield self.delegate.Up(requests, context)


ANSWERS = {"Unary": ["o:ao:b"], "Down": ["o", ":", "a", "b"], "Up": ["o:ao:b"], "Both": ["o:ab"]}


@pytest.mark.parametrize("delivery", ["direct", "parked", "forwarded"])
@pytest.mark.parametrize("current", ["a", "w", "p"])
@pytest.mark.parametrize("turning", [Turning, PlainlyTurning])
async def test_kinds_may_differ(
    turning: Any, current: str, delivery: str, kind: str, world: MakeWorld, make_way: Any, hear: Hear
) -> None:
    """Over objects of each style, for calls that come each way."""
    node = await world(make_way(past="a", current=current, delivery=delivery), turning=turning)
    assert await hear(kind, await node.begin(kind, "ab")) == (ANSWERS[kind], None)
    await node.over()


@pytest.mark.parametrize("delivery", ["direct", "parked", "forwarded"])
@pytest.mark.parametrize("current", ["a", "w", "p"])
@pytest.mark.parametrize("turning", [Turning, PlainlyTurning])
async def test_they_end_with_the_call(
    turning: Any, current: str, delivery: str, kind: str, world: MakeWorld, scripted: Any, make_way: Any
) -> None:
    """A caller that gives up ends the delegate's call of the other kind."""
    way = make_way(past="a", current=current, delivery=delivery)
    node = await world(way, scripted(hangs=True), turning=turning)
    call = await node.begin(kind, "ab")
    async with asyncio.timeout(5):
        await node.until(lambda: node.actors[0].hanging)
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED
    await node.over()
    assert [(actor.entered, actor.cleaned) for actor in node.actors] == [(1, 1)] * 2
