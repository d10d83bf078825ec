"""Who looks at a node in its pause sees that it upgrades, how far it is, and that it is not down."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from segue.testing.keeping import N1, UPGRADE, keeping

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

Segue = Callable[..., Awaitable[str]]

TRANSFORM = '(new / "shelves").mkdir()\n'


async def _health(address: str, service: str) -> tuple[str, str]:
    """Return what the standard health service says of a service, and the phase that comes with it."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        status = health_pb2.HealthCheckResponse.ServingStatus.Name((await call).status)
        return status, dict(await call.trailing_metadata())["segue-phase"]


async def test_progress_and_health(segue: Segue, tmp_path: Path) -> None:
    """What the author counts reaches `segue status`; the health service tells "upgrading" from "down"."""
    gate = tmp_path / "gate"
    waits = (
        f"{TRANSFORM}    context.progress(items_done=1, items_total=4)\n"
        f"    while not __import__('os').path.exists({str(gate)!r}):\n"
        "        __import__('time').sleep(0.01)\n"
    )
    async with keeping(tmp_path) as rig:
        address = rig.local.members[N1]
        await rig.put("a")
        assert await _health(address, "segue.ready") == ("SERVING", "serving")
        async with rig.reading():
            await rig.release(2, {UPGRADE: {TRANSFORM: waits}})
            await rig.until_node(
                N1, lambda node: bool(node.progress and node.progress.items_done), "tells how far it is"
            )
            assert "25 % of 4 items" in await segue("status", "--system", "crashing", "--server", rig.local.url)
            assert await _health(address, "") == ("SERVING", "upgrading")
            assert await _health(address, "segue.ready") == ("NOT_SERVING", "upgrading")
            gate.touch()
            await rig.until_serving(2)
            assert await _health(address, "segue.ready") == ("SERVING", "serving")
        assert await rig.local.end(N1) == 0
        with pytest.raises(grpc.aio.AioRpcError):
            await _health(address, "segue.ready")


async def test_old_states_go_when_their_time_has_come(tmp_path: Path) -> None:
    """What was kept is removed by itself, and the disk use that is reported says so."""
    async with keeping(tmp_path, "--keep-old-s", "1") as rig:
        await rig.put("a")
        await rig.release(2)
        await rig.until_serving(2)
        old = rig.local.state(N1) / "old"
        await rig.until_node(
            N1, lambda node: bool(node.disk and not node.disk.old_bytes and not any(old.iterdir())), "has removed it"
        )
        await rig.check_values(1, 2)
