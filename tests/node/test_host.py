"""The application's process: each step may be asked twice, and a step that fails leaves the node as it was."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from segue import RefusalReason, labelled_channel, refusal_of
from segue.errors import PeerError
from segue.node.control import AuthorCodeError, HostFaultError, HostSilentError
from segue.node.hosts import HostProcess, Hosts
from segue.node.plan import HostPlan, ReleasePlan, Stage

pytestmark = pytest.mark.timeout(60)

Spawn = Callable[..., Awaitable[HostProcess]]
Say = Callable[..., Awaitable[bytes]]
Refused = Callable[..., Awaitable[grpc.StatusCode | None]]
MakeRelease = Callable[..., ReleasePlan]


async def up(host: HostProcess, stage: Stage) -> HostProcess:
    await host.warm()
    await host.start(stage)
    await host.serve()
    return host


def runs(pid: int) -> bool:
    """Say whether a process runs; one that has ended, and that nobody has reaped yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_every_step_may_be_asked_twice(spawn: Spawn, stage: Stage, say: Say, make_release: MakeRelease) -> None:
    """The agent repeats the last one after a crash: once more changes nothing."""
    host = await spawn()
    for _ in range(2):
        await up(host, stage)
    assert await say(b"a") == b"a"
    future = make_release(2)
    assert await host.install(future) > 0
    assert await host.install(future) == 0
    assert await say(b"b", version=2) == b"future ab"
    for _ in range(2):
        await host.quiesce(5)
    for _ in range(2):
        await up(host, replace(stage, futures=(future,)))
    assert await say(b"c") == b"abc"
    assert await say(b"d", version=2) == b"future abcd"


async def test_steps_asked_at_once_are_taken_one_after_the_other(
    spawn: Spawn, stage: Stage, say: Say, make_release: MakeRelease
) -> None:
    """An agent that died while a start went on is followed by one that asks again: there is one object still."""
    slow = {"        self.file = self": "        open(self.path.parent / 'starts', 'a').write('x')\n"
            "        await asyncio.sleep(0.3)\n        self.file = self"}  # fmt: skip
    host = await spawn(releases=(make_release(1, slow),))
    await host.warm()
    async with asyncio.TaskGroup() as asked:
        for _ in range(3):
            asked.create_task(host.start(stage))
    await host.serve()
    assert await say(b"a") == b"a"
    assert Path(stage.state, "starts").read_text() == "x"


async def test_a_port_that_cannot_be_had_answers_no_call(
    spawn: Spawn, stage: Stage, plan: HostPlan, refused: Refused
) -> None:
    """Not the port's, and not by the way round: the agent may then put the old state back."""
    host = await spawn(address="203.0.113.1:9001")  # nobody's: RFC 5737
    await host.warm()
    await host.start(stage)
    with pytest.raises(HostFaultError, match=r"203\.0\.113\.1"):
        await host.serve()
    assert await refused(b"lost", target=f"unix:{plan.peer}", within_s=1) is not grpc.StatusCode.OK
    assert not Path(stage.state, "notes").read_bytes()


async def test_a_future_simulation_that_fails_does_not_keep_the_object_down(
    spawn: Spawn, stage: Stage, say: Say, refused: Refused, make_release: MakeRelease
) -> None:
    """One that starts only on a fresh folder, say: the old version's callers are answered all the same."""
    once = {'(self.state / "seen").touch()': '(self.state / "seen").mkdir()'}
    future = make_release(2, once)
    host = await up(await spawn(), stage)
    await host.install(future)
    await host.quiesce(5)
    await up(host, replace(stage, futures=(future,)))
    assert await say(b"a") == b"a"
    assert await host.answers() == {1}
    assert await refused(b"b", version=2) is None  # parked: it may come yet


async def test_a_chain_that_could_not_be_closed_is_made_anew(
    spawn: Spawn, stage: Stage, say: Say, make_release: MakeRelease
) -> None:
    """Objects that are half closed do not go back into service."""
    torn = {"        self.file.close()": "        self.file.close()\n        raise RuntimeError('after closing')"}
    host = await up(await spawn(releases=(make_release(1, torn),)), stage)
    assert await say(b"a") == b"a"
    with pytest.raises(AuthorCodeError, match="after closing"):
        await host.quiesce(5)
    await up(host, stage)
    assert await say(b"b") == b"ab"


async def test_going_quiet_slowly_is_not_death(
    spawn: Spawn, stage: Stage, say: Say, make_release: MakeRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `stop` that takes long may still write: the process is silent, not gone, and serves again when asked to."""
    slow = {"        self.file.close()": "        await asyncio.sleep(0.5)\n        self.file.write(b'last')"}
    host = await up(await spawn(releases=(make_release(1, slow),)), stage)
    monkeypatch.setattr("segue.node.hosts.ANSWER_TIMEOUT_S", 0.1)
    with pytest.raises(HostSilentError):
        await host.quiesce(0.1)
    monkeypatch.undo()
    await up(host, stage)
    assert await say(b"!") == b"last!"


async def test_a_process_that_is_ended_keeps_its_counts_and_is_gone(
    spawn: Spawn, stage: Stage, plan: HostPlan, say: Say, make_release: MakeRelease
) -> None:
    """Also if the author's `stop` fails, which is called once."""
    loud = {
        "        self.file.close()": "        open(self.path.parent / 'stops', 'a').write('x')\n        raise OSError"
    }
    host = await up(await spawn(releases=(make_release(1, loud),)), stage)
    await say(b"a")
    await host.end()
    assert not runs(host.pid)
    (kept,) = Path(plan.usage).glob("*.json")
    (calls,) = json.loads(kept.read_text())["calls"]
    assert (calls["method"], calls["count"], calls["outcome"]) == ("/notes.Notes/Say", 1, "OK")
    assert Path(stage.state, "stops").read_text() == "x"


async def test_calls_without_a_label_are_taken_for_what_the_operator_says(
    spawn: Spawn, stage: Stage, plan: HostPlan, make_release: MakeRelease
) -> None:
    """So that clients that were never labelled keep their version when the node upgrades."""
    host = await up(await spawn(unlabelled="2"), stage)
    await host.install(make_release(2))
    async with grpc.aio.insecure_channel(plan.address) as channel:
        say: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/notes.Notes/Say")
        assert await say(b"a") == b"future a"


async def test_a_call_waits_for_its_version_as_long_as_the_operator_says(
    spawn: Spawn, stage: Stage, plan: HostPlan
) -> None:
    """Nobody installs version 2 here: a caller without a deadline hears of it after that time."""
    await up(await spawn(park_limit_s=0.1), stage)
    async with labelled_channel(plan.address, version=2) as channel:
        say: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/notes.Notes/Say")
        with pytest.raises(grpc.aio.AioRpcError, match=r"did not come to answer version 2 within 0\.1 s") as caught:
            await say(b"a")
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert refusal.reason is RefusalReason.UNKNOWN_VERSION


async def test_a_busy_process_is_found(spawn: Spawn, stage: Stage, plan: HostPlan, make_release: MakeRelease) -> None:
    """An agent that comes back while author's code holds the event loop must not start a second process beside it."""
    busy = {"        self.file = self": "        import time; time.sleep(1)\n        self.file = self"}
    host = await spawn(releases=(make_release(1, busy),))
    await host.warm()
    async with asyncio.TaskGroup() as asked:
        starting = asked.create_task(host.start(stage))
        await asyncio.sleep(0.2)
        (found,) = Hosts(asked).find(Path(plan.control).parent)
        assert (found.pid, found.generation) == (host.pid, 1)
        assert not starting.done()


async def test_no_step_brings_back_a_process_that_ends(spawn: Spawn, stage: Stage, make_release: MakeRelease) -> None:
    """A supervisor signals agent and application together: what is asked then is refused, not half done."""
    slow = {"        self.file.close()": "        await asyncio.sleep(0.5)"}
    host = await up(await spawn(releases=(make_release(1, slow),)), stage)
    os.kill(host.pid, signal.SIGTERM)

    async def serve_on() -> None:
        while True:
            await host.serve()

    with pytest.raises(PeerError):
        await serve_on()
    async with asyncio.timeout(10):
        await host.ended()


async def test_a_process_that_hangs_is_killed(
    spawn: Spawn, stage: Stage, make_release: MakeRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it runs when `end` returns."""
    stuck = {"        self.file.close()": "        import time; time.sleep(600)"}
    host = await up(await spawn(releases=(make_release(1, stuck),)), stage)
    monkeypatch.setattr("segue.node.hosts.END_TIMEOUT_S", 0.2)
    await host.end()
    assert not runs(host.pid)


async def test_the_port_passes_without_a_failed_call(
    spawn: Spawn, stage: Stage, plan: HostPlan, say: Say, tmp_path: Path, make_release: MakeRelease
) -> None:
    """New connections go to the new process at once, calls on old ones are forwarded, and the old process leaves."""
    old = await up(await spawn(), stage)
    said: list[bytes] = []
    stop, progress = asyncio.Event(), asyncio.Condition()

    async def keep_saying() -> None:
        while not stop.is_set():
            said.append(await say(b"."))
            async with progress:
                progress.notify_all()

    async def until(count: int) -> None:
        async with progress:
            await progress.wait_for(lambda: len(said) >= count)

    async with asyncio.TaskGroup() as callers:
        for _ in range(4):
            callers.create_task(keep_saying())
        await until(20)
        await old.quiesce(5)
        new = await spawn(control=str(tmp_path / "2.control"), peer=str(tmp_path / "2.peer"))
        await up(new, stage)
        await old.leave(tmp_path / "2.peer")
        await until(len(said) + 50)
        stop.set()
    async with asyncio.timeout(20):
        await old.ended()
    assert len(Path(stage.state, "notes").read_bytes()) == len(said)
