"""Serves permissions, whose object answers v1, until it is interrupted; callers of v0 are answered too.

By hand:

    python examples/spicedb/serve_v1.py --listen 127.0.0.1:9000
"""

import argparse
import asyncio
import contextlib

import grpc.aio
from permissions.enable import enable_permissions


async def serve(address: str) -> None:
    """Serve on `address`, such as `127.0.0.1:9000`."""
    server = grpc.aio.server()
    versions = await enable_permissions(server)
    # What v1's official client takes for a server without TLS: it sends its token only over what gRPC calls local.
    server.add_secure_port(address, grpc.local_server_credentials())
    await server.start()
    print(f"serving on {address}; interrupt to end", flush=True)
    try:
        await asyncio.Event().wait()  # gRPC's wait_for_termination, when interrupted, keeps `stop` from working
    finally:
        await server.stop(1)
        await versions.stop()
        for key, calls in versions.counts().items():
            print(f"version {key.caller_version}, {key.answered_by} object: {calls} {key.method} {key.outcome}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve permissions of both versions.")
    parser.add_argument("--listen", default="127.0.0.1:9000", help="the address, 127.0.0.1:9000 if not given")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args().listen))
