"""An endpoint of the same shape as that for heartbeats, which does nothing: `python -m benchmarks.empty_server`.

It reads and checks the same message, answers the same message, and is run as the upgrade server is. It says its port.
"""

import socket

import uvicorn
from fastapi import FastAPI

from segue.server.app import BACKLOG, KEEP_ALIVE_S
from segue.wire.messages import Heartbeat, HeartbeatReply

app = FastAPI()


@app.post("/v1/systems/{system}/nodes/{node}/heartbeat")
async def report_heartbeat(system: str, node: str, said: Heartbeat) -> HeartbeatReply:  # noqa: ARG001 - as the other has it
    """Answer at once."""
    return HeartbeatReply(newest=1)


def main() -> None:
    """Serve until ended by a signal."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(BACKLOG)
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(
            app, lifespan="off", log_level="warning", access_log=False, timeout_keep_alive=KEEP_ALIVE_S
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
