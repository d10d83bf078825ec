"""Clients of v1alpha, unmodified, and of v1 find and call the services of a server whose object answers v1 only."""

import asyncio
import importlib.util
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from reflection import reflection_v1_pb2 as v1
from reflection import reflection_v1_pb2_grpc as v1_services
from reflection.enable import enable_reflection
from shop import shop_pb2_grpc
from shop.node import Shop

import segue
from segue.model.ids import Version
from segue.model.usage import CallKey

Prepare = Callable[[grpc.aio.Server], object]
Serve = Callable[[Prepare], Awaitable[str]]
Connect = Callable[[str], grpc.aio.Channel]


@pytest.fixture
def versions() -> list[segue.Versions]:
    """What the servers counted, in the order they were started."""
    return []


@pytest.fixture
async def address(serve: Serve, versions: list[segue.Versions]) -> str:
    """Where the shop is served, with reflection of both versions."""

    async def prepare(server: grpc.aio.Server) -> segue.Versions:
        shop_pb2_grpc.add_ShopServicer_to_server(Shop(), server)
        versions.append(await enable_reflection(server, ["shop.Shop"]))
        return versions[-1]

    return await serve(prepare)


def look_with_v1alpha(address: str) -> None:
    """Do all that grpcio-reflection's client can do, and check what it finds.

    But for `FindFileContainingExtension`: with the protobuf of today it answers None without asking any server.
    """
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert list(database.get_services()) == ["grpc.reflection.v1alpha.ServerReflection", "shop.Shop"]
        assert database.FindFileByName("shop/items.proto").package == "shop"
        assert database.FindFileContainingSymbol("shop.PriceRequest").name == "shop/shop.proto"
        assert list(database.FindAllExtensionNumbers("shop.Item")) == [100, 120]
        fresh = ProtoReflectionDescriptorDatabase(channel)
        for find in (fresh.FindFileByName, fresh.FindFileContainingSymbol, fresh.FindAllExtensionNumbers):
            with pytest.raises(KeyError):
                find("nowhere.Nothing")
        pool = DescriptorPool(fresh)
        price = pool.FindServiceByName("shop.Shop").methods_by_name["Price"]
        assert [field.name for field in price.output_type.fields] == ["cents", "valid_until"]
        assert pool.FindServiceByName("grpc.reflection.v1alpha.ServerReflection").methods_by_name


async def look_with_v1(channel: Any) -> None:
    """Ask in v1 what the other client asks, all on one stream."""
    requests = [
        v1.ServerReflectionRequest(list_services=""),
        v1.ServerReflectionRequest(file_by_filename="shop/items.proto"),
        v1.ServerReflectionRequest(file_containing_symbol="shop.PriceRequest"),
        v1.ServerReflectionRequest(all_extension_numbers_of_type="shop.Item"),
        v1.ServerReflectionRequest(
            file_containing_extension=v1.ExtensionRequest(containing_type="shop.Item", extension_number=120)
        ),
        v1.ServerReflectionRequest(file_by_filename="nowhere.Nothing"),
        v1.ServerReflectionRequest(),
    ]

    async def all_requests() -> AsyncIterator[v1.ServerReflectionRequest]:
        for request in requests:
            yield request

    stream = v1_services.ServerReflectionStub(channel).ServerReflectionInfo(all_requests())
    replies: list[v1.ServerReflectionResponse] = [reply async for reply in stream]
    assert [reply.original_request for reply in replies] == requests
    services, items, shop, numbers, extension, missing, senseless = replies
    assert [service.name for service in services.list_services_response.service] == [
        "grpc.reflection.v1.ServerReflection",
        "shop.Shop",
    ]
    assert names_of(items) == names_of(extension) == ["shop/items.proto"]
    assert names_of(shop) == ["shop/shop.proto", "google/protobuf/timestamp.proto", "shop/items.proto"]
    assert numbers.all_extension_numbers_response.extension_number == [100, 120]
    assert missing.error_response == v1.ErrorResponse(error_code=5, error_message="not found")
    assert senseless.error_response == v1.ErrorResponse(error_code=3, error_message="invalid argument")


def names_of(reply: v1.ServerReflectionResponse) -> list[str]:
    files = reply.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(file).name for file in files]


async def test_grpcios_own_client_of_v1alpha(address: str) -> None:
    """It sends no label: the method's path tells its version."""
    await asyncio.to_thread(look_with_v1alpha, address)


async def test_a_client_of_v1(address: str, connect: Connect) -> None:
    await look_with_v1(connect(address))


async def test_both_at_once(address: str, connect: Connect, versions: list[segue.Versions]) -> None:
    """Many clients of both versions at once find the same; v1's are answered by the object, v1alpha's by the past."""
    channel = connect(address)
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(asyncio.to_thread(look_with_v1alpha, address))
            group.create_task(look_with_v1(channel))
    counts = dict(versions[0].counts())
    current = CallKey(
        node_version=Version(2),
        caller_version=Version(2),
        caller="127.0.0.1",
        method="/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        answered_by="current",
        from_node=False,
        outcome="OK",
    )
    assert counts.pop(current) == 5
    assert {(key.caller_version, key.answered_by) for key in counts} == {(1, "past")}


async def test_a_call_without_generated_code(example: Path, address: str) -> None:
    """The example's `call.py` learns by v1alpha how to call the shop, and calls it."""
    spec = importlib.util.spec_from_file_location("call", example / "call.py")
    assert spec is not None
    assert spec.loader is not None
    call = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(call)
    assert await asyncio.to_thread(call.price, address, "spoon") == 50
    with pytest.raises(grpc.RpcError) as caught:
        await asyncio.to_thread(call.price, address, "cup")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("program", ["reflection/call.py", "spicedb/call_v0.py"])
def test_without_a_server_one_line_says_so(example: Path, program: str) -> None:
    """Who forgot to start it reads an address and a status, and no traceback."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{free.getsockname()[1]}"
        item = ["spoon"] if program.startswith("reflection") else []
        command = [sys.executable, str(example.parent / program), "--target", target, *item]
        done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{target} answers UNAVAILABLE: ")
    assert len(done.stderr.splitlines()) == 1
