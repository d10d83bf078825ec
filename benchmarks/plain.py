"""An object as it is served without Segue: `python -m benchmarks.plain RELEASE ADDRESS STATE`, until it is terminated.

RELEASE is the folder of a release of `segue.testing.lineage`. It prints a line when it serves.
"""

import asyncio
import importlib
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import grpc.aio

#: For calls inside to end.
_GRACE_S = 5.0


async def _serve(address: str, state: Path) -> None:
    instance = importlib.import_module("tally.node").Tally(SimpleNamespace(state=state))
    await instance.start()
    server = grpc.aio.server()
    instance.register(server)
    server.add_insecure_port(address)
    await server.start()
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    print("serves", flush=True)
    await told.wait()
    await server.stop(_GRACE_S)


if __name__ == "__main__":
    release, address, state = sys.argv[1:]
    sys.path.insert(0, release)
    asyncio.run(_serve(address, Path(state)))
