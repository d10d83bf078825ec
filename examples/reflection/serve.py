"""Serves the shop, with reflection of both versions, until it is interrupted.

By hand:

    python examples/reflection/serve.py --listen 127.0.0.1:9000
"""

import argparse
import asyncio
import contextlib

import grpc.aio
from reflection.enable import enable_reflection
from shop import shop_pb2_grpc
from shop.node import Shop


async def serve(address: str) -> None:
    """Serve on `address`, such as `127.0.0.1:9000`."""
    server = grpc.aio.server()
    shop_pb2_grpc.add_ShopServicer_to_server(Shop(), server)
    versions = await enable_reflection(server, ["shop.Shop"])
    server.add_insecure_port(address)
    await server.start()
    print(f"serving on {address}; interrupt to end")
    try:
        await asyncio.Event().wait()  # gRPC's wait_for_termination, when interrupted, keeps `stop` from working
    finally:
        await server.stop(1)
        await versions.stop()
        for key, calls in versions.counts().items():
            print(f"{key.caller}, version {key.caller_version}, {key.answered_by} object: {calls} calls {key.outcome}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the shop, with reflection of both versions.")
    parser.add_argument("--listen", default="127.0.0.1:9000", help="the address, 127.0.0.1:9000 if not given")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args().listen))
