"""Somebody else has an address when the new process is to take it: no call that was accepted is lost."""

import asyncio
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from segue.model.ids import Version
from segue.testing.crashing.callers import StoreCaller, Writer
from segue.testing.keeping import N1, NODE, OBJECT, keeping

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

Segue = Callable[..., Awaitable[str]]


async def test_before_the_old_process_leaves(
    segue: Segue, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The old version serves on; what somebody put where a socket was is left alone."""
    path = tmp_path_factory.mktemp("n1") / "calls"
    async with keeping(tmp_path, "--retries", "0", "--listen", f"unix:{path}") as rig:
        await rig.put("a", "b", "c")
        before, pid = rig.state_of(1), (await rig.until_serving(1)).nodes[0].pid
        path.unlink()
        path.write_text("somebody's")
        async with rig.reading():
            await rig.release(2)
            node = await rig.until_given_up()
        assert (node.version, node.pid, node.away) == (1, pid, False)
        assert rig.state_of(1) == before
        await rig.put("later1")
        await rig.put("later2", version=2)
        await rig.check_values(1, 2)
        assert not rig.left_over()
        assert path.read_text() == "somebody's"
        (permit,) = (await rig.until_serving(1)).permits
        shown = await segue("status", "--system", "crashing", "--server", rig.local.url)
        for said in (node.failure, permit.failure, shown, rig.local.log(N1)):
            assert f"the port cannot be taken: what is at {path} is no socket" in (said or "")


async def test_when_the_old_process_has_left(segue: Segue, tmp_path: Path) -> None:
    """Where a node stops and starts: what it has accepted is answered, and it takes the port as soon as it is free."""
    stolen = tmp_path / "stolen"
    # The new process takes its time, so that the port is free for long enough.
    code = f"""{OBJECT}    async def start(self):
        import asyncio, os, time

        async def dawdle():
            while not os.path.exists({str(stolen)!r}):
                time.sleep(0.2)
                await asyncio.sleep(0)

        await super().start()
        self.dawdling = asyncio.create_task(dawdle())

"""
    async with keeping(tmp_path, "--hand-over", "stop-and-start") as rig:
        await rig.put("a", "b", "c")
        address = rig.local.members[N1]
        async with StoreCaller(Version(1), address) as caller, asyncio.TaskGroup() as tasks:
            writer = Writer(caller, "w", random.Random(4))
            tasks.create_task(writer.run())
            with thief(int(address.rpartition(":")[2]), stolen):
                await rig.release(2, {NODE: {OBJECT: code}})
                node = await rig.until_node(N1, lambda node: bool(node.failure), "says that it has not its port")
                assert stolen.exists()
                assert "version 2 does not have its ports yet: the port cannot be taken: " in (node.failure or "")
                assert node.phase == "handing over"
                shown = await segue("status", "--system", "crashing", "--server", rig.local.url)
                assert "the port cannot be taken: " in shown
                assert "does not have its ports yet" in rig.local.log(N1)
            after = (await rig.until_serving(2)).nodes[0]
            writer.stop()
        assert after.failure is None
        assert [permit.failure for permit in (await rig.until_serving(2)).permits] == [None]
        rig.acknowledged[N1] |= writer.acknowledged
        await rig.check_values(1, 2)


@contextmanager
def thief(port: int, stolen: Path) -> Iterator[None]:
    """Take a port of 127.0.0.1 as soon as nobody has it, make a file of that, and have it until the context is left."""
    done = threading.Event()

    def steal() -> None:
        with socket.socket() as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            while not done.is_set():
                try:
                    own.bind(("127.0.0.1", port))
                    own.listen(1)
                except OSError:
                    done.wait(0.0001)
                    continue
                stolen.touch()
                done.wait()

    thread = threading.Thread(target=steal)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
