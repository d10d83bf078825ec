"""A client of the block store, for versions 1, 2 and 3.

It speaks one version in one process: it takes that version's generated code from the release's
folder, which it puts on `sys.path`, and all versions have a package `blockstore`.

By hand:

    python examples/blockstore/client.py --version 1 --members n1=127.0.0.1:9001,n2=127.0.0.1:9002 put FILE
    python examples/blockstore/client.py --version 1 --members n1=127.0.0.1:9001,n2=127.0.0.1:9002 get KEY
    python examples/blockstore/client.py --version 3 --members n1=127.0.0.1:9001 --user ann --readers ben put FILE
"""

import argparse
import asyncio
import hashlib
import importlib
import random
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

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

    #: What a call for a private block of others ends with: a reason of Segue's refusals, else a gRPC status.
    private_ends: ClassVar[str]

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

    private_ends = "NOT_FOUND"

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

    private_ends = "DISALLOWED"

    async def put(self, data: bytes) -> str:
        """Store a block of at most 1 MiB, and return its key as text."""
        key = (await self._node().Put(self._messages.PutRequest(content=data), timeout=DEADLINE_S)).key
        return f"{key.position:016x}-{key.digest.hex()}"

    async def get(self, key: str) -> bytes:
        """Return the block with this key.

        Raises:
            ValueError: `key` is not a key's text.
        """
        request = self._messages.GetRequest(key=self._key(key))
        return bytes((await self._node().Get(request, timeout=DEADLINE_S)).content)

    def key_of(self, data: bytes) -> str:
        """Return the key that the block with this content has, as text."""
        return f"{hashlib.sha1(data).hexdigest()[:16]}-{hashlib.sha256(data).hexdigest()}"

    def _key(self, text: str) -> Any:
        if not re.fullmatch("[0-9a-f]{16}-[0-9a-f]{64}", text):
            raise ValueError(f"key {text!r}: give the text that put returned, 16 hexadecimal digits, a dash, 64 more")
        position, digest = text.split("-")
        return self._messages.Key(position=int(position, 16), digest=bytes.fromhex(digest))


class Client3(Client2):
    """Speaks version 3, as `user`; keys are as in version 2. Nobody checks who a user is.

    Args:
        members, messages, services: as for every client.
        user: who puts and gets; empty for nobody.
    """

    private_ends = "PERMISSION_DENIED"

    def __init__(self, members: Members, messages: Any, services: Any, user: str = "") -> None:
        super().__init__(members, messages, services)
        self._user = user

    def as_user(self, user: str) -> "Client3":
        """Return a client of another user, over the same channels."""
        return Client3(self._members, self._messages, self._services, user)

    async def put(self, data: bytes) -> str:
        """Store a public block of at most 1 MiB, and return its key as text."""
        return await self._put(self._messages.PutRequest(content=data, user=self._user))

    async def put_private(self, data: bytes, readers: Sequence[str]) -> str:
        """Store a block that the user and `readers` may read, and return its key as text."""
        access = self._messages.Access(readers=readers)
        return await self._put(self._messages.PutRequest(content=data, user=self._user, access=access))

    async def get(self, key: str) -> bytes:
        """Return the block with this key.

        Raises:
            ValueError: `key` is not a key's text.
        """
        request = self._messages.GetRequest(key=self._key(key), user=self._user)
        return bytes((await self._node().Get(request, timeout=DEADLINE_S)).content)

    async def set_readers(self, key: str, readers: Sequence[str]) -> None:
        """Change whom the user admits to a private block of theirs."""
        access = self._messages.Access(readers=readers)
        request = self._messages.SetAccessRequest(key=self._key(key), user=self._user, access=access)
        await self._node().SetAccess(request, timeout=DEADLINE_S)

    async def _put(self, request: Any) -> str:
        key = (await self._node().Put(request, timeout=DEADLINE_S)).key
        return f"{key.position:016x}-{key.digest.hex()}"


#: `{version: the client that speaks it}`
KINDS: Mapping[int, type[Client]] = {1: Client1, 2: Client2, 3: Client3}


def open_client(version: int, members: Mapping[str, str], *, release: Path, rng: random.Random | None = None) -> Client:
    """Return a client that speaks one version, the only one that this process can speak from now on.

    Args:
        version: 1, 2 or 3.
        members: all nodes, `{"n1": "127.0.0.1:9001", ...}`.
        release: the folder of the release of that version.
        rng: picks the node for each call; a fresh one by default.

    Raises:
        ValueError: there is no such version, or this process speaks another one.
    """
    if version not in KINDS:
        raise ValueError(f"version {version}: this client speaks 1, 2 and 3")
    sys.path.insert(0, str(release))
    messages = importlib.import_module("blockstore.blockstore_pb2")
    if not Path(str(messages.__file__)).is_relative_to(release):
        raise ValueError(f"this process took its code from {messages.__file__}: use another process for {release}")
    services = importlib.import_module("blockstore.blockstore_pb2_grpc")
    return KINDS[version](Members(version, members, rng or random.Random()), messages, services)


async def _run(arguments: argparse.Namespace) -> None:
    members = dict(member.split("=", 1) for member in arguments.members.split(","))
    release = HERE / f"blockstore-{arguments.version}"
    client = open_client(arguments.version, members, release=release)
    if isinstance(client, Client3):
        client = client.as_user(arguments.user or "")
    elif arguments.user or arguments.readers is not None:
        raise ValueError(f"--user and --readers: version {arguments.version} knows no users, speak --version 3")
    try:
        if arguments.command == "put":
            data = await asyncio.to_thread(arguments.file.read_bytes)
            if isinstance(client, Client3) and arguments.readers is not None:
                print(await client.put_private(data, [name for name in arguments.readers.split(",") if name]))
            else:
                print(await client.put(data))
        else:
            sys.stdout.buffer.write(await client.get(arguments.key))
    finally:
        await client.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Put a file into the block store as one block, or get it back.")
    parser.add_argument("--version", type=int, choices=sorted(KINDS), required=True, help="the version to speak")
    parser.add_argument("--members", required=True, help="the nodes: n1=127.0.0.1:9001,n2=127.0.0.1:9002")
    parser.add_argument("--user", help="version 3: who puts or gets, by your word alone")
    parser.add_argument("--readers", help="version 3: put a private block that these may read: ann,ben; '' for none")
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
