"""A client that has nothing of grpcio in it, not even its HTTP/2, is answered in v1alpha and v1 alike."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from reflection.enable import enable_reflection
from shop import shop_pb2_grpc
from shop.node import Shop

import segue

Serve = Callable[[Callable[[grpc.aio.Server], object]], Awaitable[str]]

#: In a process of its own, as its messages have the names of ours: grpclib's stubs of a version, as they are.
CLIENT = """
import asyncio, importlib, json, sys
from grpclib.client import Channel

version, host, port = sys.argv[1:]
messages = importlib.import_module(f"grpclib.reflection.{version}.reflection_pb2")
stubs = importlib.import_module(f"grpclib.reflection.{version}.reflection_grpc")


async def main():
    asked = [
        messages.ServerReflectionRequest(list_services=""),
        messages.ServerReflectionRequest(file_by_filename="shop/items.proto"),
        messages.ServerReflectionRequest(all_extension_numbers_of_type="shop.Item"),
        messages.ServerReflectionRequest(file_by_filename="nowhere.Nothing"),
    ]
    async with Channel(host, int(port)) as channel:
        stub = stubs.ServerReflectionStub(channel)
        services, items, numbers, missing = at_once = await stub.ServerReflectionInfo(asked)
        async with stub.ServerReflectionInfo.open() as stream:  # each answer before the next question
            in_turn = []
            for request in asked:
                await stream.send_message(request)
                in_turn.append(await stream.recv_message())
            await stream.end()
    assert in_turn == at_once
    assert [reply.original_request for reply in at_once] == asked
    print(json.dumps({
        "services": [service.name for service in services.list_services_response.service],
        "files": [file.hex() for file in items.file_descriptor_response.file_descriptor_proto],
        "numbers": list(numbers.all_extension_numbers_response.extension_number),
        "missing": missing.error_response.error_code,
    }))


asyncio.run(main())
"""


async def looked_up(version: str, address: str) -> Any:
    """Have the client look, and return what it found."""
    host, _, port = address.rpartition(":")
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, version, host, port,
        env=dict(os.environ), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await client.communicate()
    assert client.returncode == 0, errors.decode()
    return json.loads(output)


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
async def test_grpclibs_own_stubs(version: str, serve: Serve) -> None:
    """Both versions' stubs, unmodified, against a server whose object answers v1 only."""

    async def prepare(server: grpc.aio.Server) -> segue.Versions:
        shop_pb2_grpc.add_ShopServicer_to_server(Shop(), server)
        return await enable_reflection(server, ["shop.Shop"])

    found = await looked_up(version, await serve(prepare))
    assert found["services"] == [f"grpc.reflection.{version}.ServerReflection", "shop.Shop"]
    assert [FileDescriptorProto.FromString(bytes.fromhex(file)).name for file in found["files"]] == ["shop/items.proto"]
    assert (found["numbers"], found["missing"]) == ([100, 120], 5)
