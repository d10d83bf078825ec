"""Messages larger than gRPC's own limit, on real processes whose operator allowed them."""

from pathlib import Path

import grpc
import pytest

from segue.local import LocalSettings
from segue.model.ids import ClassName, NodeId, SystemName
from segue.testing.lineage import tally_callers, write_lineage
from segue.testing.rig import rigged

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

LARGE = "x" * (8 << 20)
LIMIT_MIB = 9


async def test_8_mib_before_and_after_an_upgrade(tmp_path: Path) -> None:
    """Large requests and replies pass to the object and through simulations, and a still larger one is refused."""
    lineage = write_lineage(tmp_path / "releases", 2)
    first, second = lineage.folders
    settings = LocalSettings(
        system=SystemName("tally"), class_name=ClassName("Tally"), nodes=1,
        max_connection_age_s=1, max_message_mib=LIMIT_MIB,
    )  # fmt: skip
    with tally_callers(lineage, [("grpc.max_receive_message_length", LIMIT_MIB << 20)]) as calling:
        async with rigged(tmp_path / "system", settings, first) as rig:
            address = rig.local.members[NodeId("n1")]
            async with calling(1, address) as older, calling(2, address) as newer:
                assert await older.add(LARGE, 1) == 1
                await rig.publish(second, first)
                await rig.until_serving(2)
                assert await older.add(LARGE, 1) == 2  # on a connection that may still be the old process's
                assert await newer.add(LARGE, 1) == 3
                assert await older.trace() == (1, [LARGE])
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await newer.add(LARGE + LARGE, 1)
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
