"""Rule: a node is silent once it missed three of its own reports, and not before 15 s, whoever asks."""

import pytest

from segue.errors import OperatorError
from segue.model.hand import Deed
from segue.model.ids import NodeId
from segue.server import measures
from segue.server.fleet_metrics import numbers_of
from segue.testing.server import SYSTEM, Bench, bundle_of
from segue.wire.hand import ActionRequest
from segue.wire.messages import AgentRow


@pytest.mark.parametrize(("report_s", "silent_s"), [(None, 15), (0.5, 15), (30.0, 90)])
async def test_all_agree_on_who_is_silent(bench: Bench, report_s: float | None, silent_s: int) -> None:
    """Permits, the status in full and at a glance, metrics, and what operators may do."""
    for version in (1, 2):
        await bench.server.publish(bundle_of(version))
    agent = None if report_s is None else AgentRow(folder="f", starts=1, run="r", report_s=report_s)
    await bench.beat("n1", agent=agent)
    for passes_s, is_silent in ((silent_s - 0.1, False), (0.1, True)):
        bench.clock.move(passes_s)
        await bench.beat("n2")
        assert ((await bench.ask("n2")).permit is None) is is_silent
        permit = (await bench.ask("n2")).permit
        if permit is not None:
            await bench.give_back("n2", permit, "busy")
        assert [node.silent for node in (await bench.server.status(SYSTEM)).nodes] == [is_silent, False]
        assert (await bench.server.node(SYSTEM, NodeId("n1"))).node.silent is is_silent
        assert (await bench.server.summary(SYSTEM)).silent.count == is_silent
        measured = numbers_of(bench.store.tally_of(SYSTEM), bench.clock.now())
        assert measured.values[measures.SILENT] == {("blockstore", "BlockNode"): is_silent}
        forget = ActionRequest(deed=Deed.FORGET, who="ada", node="n1")
        if not is_silent:
            with pytest.raises(OperatorError, match=f"ask again {silent_s} s later"):
                await bench.server.act(SYSTEM, forget)
    await bench.server.act(SYSTEM, forget)
