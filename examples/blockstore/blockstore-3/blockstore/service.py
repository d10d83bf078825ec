"""What a node answers: for its own blocks, and for clients about the whole ring.

Where the node has its public blocks is left open: whoever inherits says. Work on blocks (files, zlib,
hashes) goes to a thread: to compress the largest takes 10 ms, for which no other call should wait.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NoReturn, Protocol

import grpc

import segue

from . import blockstore_pb2 as messages
from . import blockstore_pb2_grpc as services
from .access import Found, admits, fault_of
from .block import MAX_BLOCK_BYTES, DamagedError, compress, content_of, key_of, text_of
from .blocks import PrivateFiles
from .replicas import Context, Replicas


class PublicBlocks(Protocol):
    """The public blocks of one node."""

    async def fetch(self, key: messages.Key, context: Context) -> bytes | None:
        """Return a block, compressed; None if it is not here."""
        ...

    async def store(self, key: messages.Key, compressed: bytes, context: Context) -> None:
        """Keep a block."""
        ...

    async def stat(self, key: messages.Key, context: Context) -> messages.StatReply | None:
        """Return the sizes and the age of a block; None if it is not here."""
        ...

    def keys(self, context: Context) -> AsyncIterator[messages.Key]:
        """Yield the key of each block."""
        ...


async def refuse_malformed(key: messages.Key, context: Context) -> None:
    """End the call INVALID_ARGUMENT unless `key` has the form of a key."""
    if len(key.digest) != 32:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"key with a digest of {len(key.digest)} bytes: give the key that Put returned, its digest has 32",
        )


class Service(services.BlockStoreServicer):
    """Answers every call of version 3.

    Attributes:
        public: the node's public blocks, set by whoever inherits.
        private: its private ones.
        replicas: the other nodes.
    """

    public: PublicBlocks

    def __init__(self, node: segue.Node) -> None:
        self.private = PrivateFiles(node.state)
        self.replicas = Replicas(node)

    def register(self, server: Any) -> None:
        """Have `server` answer the store's calls with this."""
        services.add_BlockStoreServicer_to_server(self, server)

    async def start(self) -> None:
        """Get ready to answer."""
        self.private.files.open()

    async def stop(self) -> None:
        """Close what is open; no call comes after this."""
        await self.replicas.close()

    # For clients.

    async def Put(self, request: messages.PutRequest, context: Context) -> messages.PutReply:
        """Store a block on all its nodes."""
        if len(request.content) > MAX_BLOCK_BYTES:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{len(request.content)} bytes: a block has at most {MAX_BLOCK_BYTES}, so put it in pieces",
            )
        if request.HasField("access"):
            await self._refuse_list(request.user, request.access, context)
        key = key_of(request.content)
        stored = messages.StoreRequest(key=key, compressed=await asyncio.to_thread(compress, request.content))
        if request.HasField("access"):
            known = await self._known_everywhere(key, context)
            stored.grant.CopyFrom(_next(known, request.user, request.access))
        await self._store_everywhere(stored, context)
        return messages.PutReply(key=key)

    async def Get(self, request: messages.GetRequest, context: Context) -> messages.GetReply:
        """Return a block from this node, else from one of the block's."""
        found = await self._readable(request.key, request.user, context)
        if found.compressed is None:
            await _absent(request.key, context)
        return messages.GetReply(content=await asyncio.to_thread(content_of, request.key, found.compressed))

    async def Exists(self, request: messages.ExistsRequest, context: Context) -> messages.ExistsReply:
        """Say whether a block is on any of its nodes."""
        found = await self._readable(request.key, request.user, context, without_content=True)
        return messages.ExistsReply(exists=found.kind != messages.ABSENT)

    async def GetAccess(self, request: messages.GetAccessRequest, context: Context) -> messages.GetAccessReply:
        """Say whether a block is public or private, and by which lists the user may read it."""
        await refuse_malformed(request.key, context)
        found = await self._found(request.key, request.user, context, without_content=True)
        if not found.public and found.grants:  # a user may be on more lists than the first that was found
            found = found.joined(await self.replicas.ask_all(request.key, context))
        grants = [grant for _, grant in sorted(found.grants.items()) if admits(grant, request.user)]
        return messages.GetAccessReply(kind=found.kind, grants=[] if found.public else grants)

    async def SetAccess(self, request: messages.SetAccessRequest, context: Context) -> messages.SetAccessReply:
        """Change whom the user admits to a block."""
        await refuse_malformed(request.key, context)
        await self._refuse_list(request.user, request.access, context)
        known = await self._known_everywhere(request.key, context)
        if known.public:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f"block {text_of(request.key)} is public, and stays so"
            )
        if known.kind == messages.ABSENT:
            await _absent(request.key, context)
        if request.user not in known.grants:
            await _denied(request.key, f"{request.user!r} does not own it", context)
        grant = _next(known, request.user, request.access)
        await self._store_everywhere(messages.StoreRequest(key=request.key, grant=grant), context)
        return messages.SetAccessReply()

    # For clients and nodes.

    async def Holds(self, request: messages.HoldsRequest, context: Context) -> messages.HoldsReply:
        """Say whether a block is on this node."""
        found = await self._readable_here(request.key, request.user, context)
        return messages.HoldsReply(holds=found.compressed is not None)

    async def Stat(self, request: messages.StatRequest, context: Context) -> messages.StatReply:
        """Return the sizes and the age of a block on this node."""
        found = await self._readable_here(request.key, request.user, context)
        reply = await self.public.stat(request.key, context) if found.public else None
        if reply is None and found.grants:
            reply = await asyncio.to_thread(self.private.files.stat, request.key)
        if reply is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no block {text_of(request.key)} on this node")
        return reply

    async def Scan(self, request: messages.ScanRequest, context: Context) -> AsyncIterator[messages.ScanReply]:
        """Yield the key of each block on this node that the user may read."""
        public = set()
        async for key in self.public.keys(context):
            public.add(key.digest)
            yield messages.ScanReply(key=key)
        for key in self.private.keys() if request.user else ():
            if key.digest not in public and Found(grants=self.private.grants(key)).may_be_read_by(request.user):
                yield messages.ScanReply(key=key)

    # Between nodes.

    async def Store(self, request: messages.StoreRequest, context: Context) -> messages.StoreReply:
        """Keep a block on this node, or an owner's grant."""
        if request.HasField("compressed"):
            try:
                await asyncio.to_thread(content_of, request.key, request.compressed)
            except DamagedError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        elif not request.HasField("grant"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "nothing to store: neither a content nor a grant")
        await self._keep(request, context)
        return messages.StoreReply()

    async def Fetch(self, request: messages.FetchRequest, context: Context) -> messages.FetchReply:
        """Return what this node has of a block."""
        await refuse_malformed(request.key, context)
        found = await self._here(request.key, context)
        reply = messages.FetchReply(kind=found.kind, grants=[grant for _, grant in sorted(found.grants.items())])
        if found.compressed is not None and not request.without_content:
            reply.compressed = found.compressed
        return reply

    # What is known.

    async def _here(self, key: messages.Key, context: Context) -> Found:
        """Return what this node has of a block."""
        compressed, grants = await self.public.fetch(key, context), self.private.grants(key)
        if compressed is not None:
            return Found(public=True, compressed=compressed, grants=grants)
        block = await asyncio.to_thread(self.private.files.read, key) if grants else None
        return Found(compressed=block[1] if block else None, grants=grants)

    async def _found(self, key: messages.Key, user: str, context: Context, *, without_content: bool) -> Found:
        """Ask node after node until one lets `user` read the block; end the call UNAVAILABLE if one is gone."""
        found, failures = await self._here(key, context), []
        if _suffices(found, user, without_content=without_content):
            return found
        async for there in self.replicas.ask(key, without_content=without_content):
            if isinstance(there, str):
                failures.append(there)
                continue
            try:
                if there.compressed is not None:
                    await asyncio.to_thread(content_of, key, there.compressed)
            except DamagedError as error:
                failures.append(str(error))
                continue
            found = found.joined(there)
            if _suffices(found, user, without_content=without_content):
                return found
        if failures and (found.kind == messages.ABSENT or found.may_be_read_by(user)):
            text = f"cannot reach block {text_of(key)}: {failures}"
            await context.abort(grpc.StatusCode.UNAVAILABLE, text)
        return found

    async def _readable(
        self, key: messages.Key, user: str, context: Context, *, without_content: bool = False
    ) -> Found:
        """Return what is found of a block, anywhere; end the call PERMISSION_DENIED if `user` may not read it."""
        await refuse_malformed(key, context)
        found = await self._found(key, user, context, without_content=without_content)
        await _refuse_denied(key, found, user, context)
        return found

    async def _readable_here(self, key: messages.Key, user: str, context: Context) -> Found:
        """Return what this node has of a block; end the call PERMISSION_DENIED if `user` may not read it."""
        await refuse_malformed(key, context)
        found = await self._here(key, context)
        await _refuse_denied(key, found, user, context)
        return found

    # What is to be kept.

    async def _refuse_list(self, user: str, access: messages.Access, context: Context) -> None:
        fault = fault_of(user, access)
        if fault:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, fault)

    async def _known_everywhere(self, key: messages.Key, context: Context) -> Found:
        """Return what all of the block's nodes know of it."""
        here = replace(await self._here(key, context), compressed=None)
        return here.joined(await self.replicas.ask_all(key, context))

    async def _store_everywhere(self, request: messages.StoreRequest, context: Context) -> None:
        if self.replicas.include_me(request.key):
            await self._keep(request, context)
        await self.replicas.store(request, context)

    async def _keep(self, request: messages.StoreRequest, context: Context) -> None:
        if not request.HasField("grant"):
            await self.public.store(request.key, request.compressed, context)
            return
        if request.HasField("compressed"):  # first: a list is the sign that the block is here
            await asyncio.to_thread(self.private.files.write, request.key, request.compressed)
        self.private.admit(request.key, request.grant)


def _next(known: Found, user: str, access: messages.Access) -> messages.Grant:
    """Return the user's grant that comes after all that are known."""
    before = known.grants.get(user)
    readers = sorted(set(access.readers))
    return messages.Grant(
        owner=user, access=messages.Access(readers=readers), revision=before.revision + 1 if before else 1
    )


def _suffices(found: Found, user: str, *, without_content: bool) -> bool:
    return found.may_be_read_by(user) and (without_content or found.compressed is not None)


async def _refuse_denied(key: messages.Key, found: Found, user: str, context: Context) -> None:
    if found.kind == messages.PRIVATE and not found.may_be_read_by(user):
        await _denied(key, f"{user!r} may not read it" if user else "say in `user` who asks", context)


async def _denied(key: messages.Key, why: str, context: Context) -> NoReturn:
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"block {text_of(key)} is private: {why}")
    raise AssertionError("a call that was ended goes on")


async def _absent(key: messages.Key, context: Context) -> NoReturn:
    await context.abort(grpc.StatusCode.NOT_FOUND, f"no node has block {text_of(key)}")
    raise AssertionError("a call that was ended goes on")
