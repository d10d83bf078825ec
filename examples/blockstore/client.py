"""A client of the block store, for version 1 and for version 2.

It speaks one version in one process: it takes that version's generated code from the release's
folder, which it puts on `sys.path`, and both versions have a package `blockstore`.

By hand:

    python examples/blockstore/client.py --version 1 --members n1=127.0.0.1:9001,n2=127.0.0.1:9002 put FILE
    python examples/blockstore/client.py --version 1 --members n1=127.0.0.1:9001,n2=127.0.0.1:9002 get KEY
"""

import argparse
import asyncio
import hashlib
import importlib
import random
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from segue import labelled_channel
from segue.model.ids import Version

HERE = Path(__file__).resolve().parent

#: For one call. A node that upgrades parks calls for a moment; what takes this long has failed.
DEADLINE_S = 30.0


class Members:
    """The nodes of the store, over one channel to each that is kept until `close`.

    Args:
        version: the version that calls are made in.
        members: all nodes, `{"n1": "127.0.0.1:9001", ...}`.
        rng: picks the node for a call.
    """

    def __init__(self, version: int, members: Mapping[str, str], rng: random.Random) -> None:
        self._version = Version(version)
        self._addresses = sorted(members.values())
        self._rng = rng
        self._channels: dict[str, grpc.aio.Channel] = {}

    def pick(self) -> grpc.aio.Channel:
        """Return the channel to any one of the nodes."""
        address = self._rng.choice(self._addresses)
        if address not in self._channels:
            self._channels[address] = labelled_channel(address, version=self._version)
        return self._channels[address]

    async def close(self) -> None:
        """Close the channels."""
        while self._channels:
            _, channel = self._channels.popitem()
            await channel.close()


class Client(ABC):
    """Puts blocks and gets them, each time through a node that it picks at random.

    It tries once: a call that fails, or is not answered within `DEADLINE_S`, raises `grpc.aio.AioRpcError`.

    Args:
        members: the nodes to call.
        messages: the generated module of the version's messages.
        services: the generated module of its stubs.
    """

    def __init__(self, members: Members, messages: Any, services: Any) -> None:
        self._members = members
        self._messages = messages
        self._services = services

    def _node(self) -> Any:
        return self._services.BlockStoreStub(self._members.pick())

    @abstractmethod
    async def put(self, data: bytes) -> str:
        """Store a block of at most 1 MiB, and return its key as text."""

    @abstractmethod
    async def get(self, key: str) -> bytes:
        """Return the block with this key."""

    @abstractmethod
    def key_of(self, data: bytes) -> str:
        """Return the key that the block with this content has, as text."""

    async def close(self) -> None:
        """Close the channels."""
        await self._members.close()


class Client1(Client):
    """Speaks version 1; keys are the SHA-1 in hexadecimal digits."""

    async def put(self, data: bytes) -> str:
        """Store a block of at most 1 MiB, and return its key as text."""
        return str((await self._node().Put(self._messages.PutRequest(data=data), timeout=DEADLINE_S)).key)

    async def get(self, key: str) -> bytes:
        """Return the block with this key."""
        return bytes((await self._node().Get(self._messages.GetRequest(key=key), timeout=DEADLINE_S)).data)

    def key_of(self, data: bytes) -> str:
        """Return the key that the block with this content has, as text."""
        return hashlib.sha1(data).hexdigest()


class Client2(Client):
    """Speaks version 2; keys are `POSITION-DIGEST` in hexadecimal digits."""

    async def put(self, data: bytes) -> str:
        """Store a block of at most 1 MiB, and return its key as text."""
        key = (await self._node().Put(self._messages.PutRequest(content=data), timeout=DEADLINE_S)).key
        return f"{key.position:016x}-{key.digest.hex()}"

    async def get(self, key: str) -> bytes:
        """Return the block with this key.

        Raises:
            ValueError: `key` is not a key's text.
        """
        if not re.fullmatch("[0-9a-f]{16}-[0-9a-f]{64}", key):
            raise ValueError(f"key {key!r}: give the text that put returned, 16 hexadecimal digits, a dash, 64 more")
        position, digest = key.split("-")
        of_block = self._messages.Key(position=int(position, 16), digest=bytes.fromhex(digest))
        return bytes((await self._node().Get(self._messages.GetRequest(key=of_block), timeout=DEADLINE_S)).content)

    def key_of(self, data: bytes) -> str:
        """Return the key that the block with this content has, as text."""
        return f"{hashlib.sha1(data).hexdigest()[:16]}-{hashlib.sha256(data).hexdigest()}"


def open_client(version: int, members: Mapping[str, str], *, release: Path, rng: random.Random | None = None) -> Client:
    """Return a client that speaks one version, the only one that this process can speak from now on.

    Args:
        version: 1 or 2.
        members: all nodes, `{"n1": "127.0.0.1:9001", ...}`.
        release: the folder of the release of that version.
        rng: picks the node for each call; a fresh one by default.

    Raises:
        ValueError: there is no such version, or this process speaks the other one.
    """
    kinds: dict[int, type[Client]] = {1: Client1, 2: Client2}
    if version not in kinds:
        raise ValueError(f"version {version}: this client speaks 1 and 2")
    sys.path.insert(0, str(release))
    messages = importlib.import_module("blockstore.blockstore_pb2")
    if not Path(str(messages.__file__)).is_relative_to(release):
        raise ValueError(f"this process took its code from {messages.__file__}: use another process for {release}")
    services = importlib.import_module("blockstore.blockstore_pb2_grpc")
    return kinds[version](Members(version, members, rng or random.Random()), messages, services)


async def _run(arguments: argparse.Namespace) -> None:
    members = dict(member.split("=", 1) for member in arguments.members.split(","))
    release = HERE / f"blockstore-{arguments.version}"
    client = open_client(arguments.version, members, release=release)
    try:
        if arguments.command == "put":
            print(await client.put(await asyncio.to_thread(arguments.file.read_bytes)))
        else:
            sys.stdout.buffer.write(await client.get(arguments.key))
    finally:
        await client.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Put a file into the block store as one block, or get it back.")
    parser.add_argument("--version", type=int, choices=(1, 2), required=True, help="the version to speak")
    parser.add_argument("--members", required=True, help="the nodes: n1=127.0.0.1:9001,n2=127.0.0.1:9002")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("put", help="store a file of at most 1 MiB, print its key").add_argument("file", type=Path)
    commands.add_parser("get", help="write the block to stdout").add_argument("key")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        asyncio.run(_run(_arguments()))
    except grpc.aio.AioRpcError as failure:
        sys.exit(f"{failure.code().name}: {failure.details()}")
    except (OSError, ValueError) as failure:
        sys.exit(str(failure))
