"""The application's process: each step may be asked twice, and a step that fails leaves the node as it was."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

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


async def test_a_process_whose_agent_was_killed_takes_nobodys_place(spawn: Spawn, stage: Stage, plan: HostPlan) -> None:
    """It comes up when the next agent has a process of the same generation already, and that one stays in reach."""
    host = await up(await spawn(), stage)
    nobody, its_output = os.pipe()
    os.close(nobody)
    late = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "segue.node.host", stdin=asyncio.subprocess.PIPE, stdout=its_output
    )
    os.close(its_output)
    await late.communicate(json.dumps(plan.to_json()).encode())
    assert (await host.report())["pid"] == host.pid


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


async def test_an_object_that_did_not_close_is_not_quiet(
    spawn: Spawn, stage: Stage, say: Say, make_release: MakeRelease
) -> None:
    """Who asks again does not hear that it is: an agent may have died before it heard of the failure."""
    host = await up(
        await spawn(releases=(make_release(1, {"self.file.close()": "raise RuntimeError('busy')"}),)), stage
    )
    with pytest.raises(AuthorCodeError, match="busy"):
        await host.quiesce(5)
    with pytest.raises(HostFaultError, match="did not close"):
        await host.quiesce(5)
    await up(host, stage)
    assert await say(b"a") == b"a"


async def test_an_object_that_did_not_start_is_not_started_beside_itself(
    spawn: Spawn, stage: Stage, make_release: MakeRelease
) -> None:
    """Who asks again, as an agent died before it heard of the failure, gets another process for it."""
    once = {"        self.file = self": "        open(self.path.parent / 'starts', 'a').write('x')\n"
            "        raise RuntimeError('half open')\n        self.file = self"}  # fmt: skip
    host = await spawn(releases=(make_release(1, once),))
    await host.warm()
    with pytest.raises(AuthorCodeError, match="half open"):
        await host.start(stage)
    with pytest.raises(HostFaultError, match="another process"):
        await host.start(stage)
    assert Path(stage.state, "starts").read_text() == "x"


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


def labelled(plan: HostPlan) -> grpc.aio.Channel:
    """Open a connection that stays, as a client of version 1; whoever opens it closes it."""
    return labelled_channel(plan.address, version=1, options=[("grpc.use_local_subchannel_pool", 1)])


def number(tmp_path: Path, generation: int) -> dict[str, str]:
    """Return the sockets of the next process of the node."""
    return {name: str(tmp_path / f"{generation}.{name}") for name in ("control", "peer")}


async def test_a_process_that_leaves_comes_back(
    spawn: Spawn, stage: Stage, plan: HostPlan, say: Say, tmp_path: Path
) -> None:
    """Its successor died before it answered a call: callers wait meanwhile, and then everything is as before."""
    old = await up(await spawn(max_connection_age_s=60), stage)
    async with labelled(plan) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/notes.Notes/Say")
        assert await method(b"a") == b"a"
        await old.quiesce(5)
        new = await spawn(**number(tmp_path, 2))
        await up(new, stage)
        for _ in range(2):
            await old.leave(tmp_path / "2.peer")
        os.kill(new.pid, signal.SIGKILL)
        await new.ended()
        waiting = method(b"b")
        with pytest.raises(HostFaultError, match="start it first"):
            await old.serve()
        for _ in range(2):
            await up(old, stage)
        assert await waiting == b"ab"
        del waiting  # or gRPC keeps its connection
        assert await say(b"c") == b"abc"
        assert (await old.report())["phase"] == "serving"
    # Nobody is connected now; a process that leaves would see that at once.
    assert await say(b"d") == b"abcd"
    await old.quiesce(5)
    third = await up(await spawn(**number(tmp_path, 3)), stage)
    await old.leave(tmp_path / "3.peer")
    assert await say(b"e") == b"abcde"
    async with asyncio.timeout(30):
        await old.ended()
    assert runs(third.pid)


async def test_a_second_upgrade_begins_while_an_old_process_leaves(
    spawn: Spawn, stage: Stage, plan: HostPlan, tmp_path: Path
) -> None:
    """The first process forwards to the third then; each leaves when nobody needs it, and no sooner."""
    first = await up(await spawn(max_connection_age_s=60), stage)
    async with labelled(plan) as one, labelled(plan) as two:
        by_first: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = one.unary_unary("/notes.Notes/Say")
        assert await by_first(b"a") == b"a"
        await first.quiesce(5)
        second = await up(await spawn(max_connection_age_s=60, **number(tmp_path, 2)), stage)
        await first.leave(tmp_path / "2.peer")
        by_second: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = two.unary_unary("/notes.Notes/Say")
        assert [await by_first(b"b"), await by_second(b"c")] == [b"ab", b"abc"]
        await second.quiesce(5)
        third = await up(await spawn(**number(tmp_path, 3)), stage)
        await second.leave(tmp_path / "3.peer")
        # By way of the second, and then directly.
        assert await by_first(b"d") == b"abcd"
        for _ in range(2):
            await first.leave(tmp_path / "3.peer")
        assert [await by_first(b"e"), await by_second(b"f")] == [b"abcde", b"abcdef"]
    async with asyncio.timeout(30):
        await first.ended()
        await second.ended()
    assert runs(third.pid)
    assert Path(stage.state, "notes").read_bytes() == b"abcdef"


#: `Say` answers in parts, and without end.
STREAM = {
    "grpc.unary_unary_rpc_method_handler": "grpc.unary_stream_rpc_method_handler",
    "        return self.path.read_bytes()": "        yield self.path.read_bytes()\n        await asyncio.sleep(600)",
}


@pytest.mark.parametrize("when", ["quiet", "leaving"])
async def test_an_endless_stream_keeps_no_process(
    when: str, spawn: Spawn, stage: Stage, plan: HostPlan, tmp_path: Path, make_release: MakeRelease
) -> None:
    """When the node goes quiet, and when a process forwards longer than it may: the caller is told why it ends."""
    releases = (make_release(1, STREAM),)
    limits = {"max_connection_age_s": 0.5, "drain_limit_s": 1, "stream_grace_s": 0.1}
    old = await up(await spawn(releases=releases, **limits), stage)
    async with labelled(plan) as channel, labelled(plan) as connected:
        # A connection to the old process, for a call that comes when it leaves.
        await connected.channel_ready()
        say: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/notes.Notes/Say")
        call = say(b"a")
        assert await call.read() == b"a"
        await old.quiesce(5, streams_s=0.1)
        if when == "leaving":
            forwarded = connected.unary_stream("/notes.Notes/Say")(b"b")  # type: ignore[var-annotated, arg-type]
        new = await up(await spawn(releases=releases, **number(tmp_path, 2)), stage)
        await old.leave(tmp_path / "2.peer")
        if when == "leaving":
            call = forwarded
            assert await call.read() == b"ab"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        refusal = refusal_of(caught.value)
        assert refusal is not None
        assert refusal.reason is RefusalReason.NODE_UPGRADING
        async with asyncio.timeout(30):
            await old.ended()
    assert runs(new.pid)


async def test_whoever_watches_the_nodes_health_keeps_no_process(
    spawn: Spawn, stage: Stage, plan: HostPlan, tmp_path: Path
) -> None:
    """Its call ends when the node has upgraded, and again when its connection is to be renewed."""
    old = await up(await spawn(), stage)
    async with labelled(plan) as channel:
        watch = HealthStub(channel).Watch
        watching = watch(HealthCheckRequest(service="notes.Notes"))
        assert (await watching.read()).status == HealthCheckResponse.SERVING
        await old.quiesce(5)
        await up(await spawn(**number(tmp_path, 2)), stage)
        await old.leave(tmp_path / "2.peer")
        with pytest.raises(grpc.aio.AioRpcError, match="watch again"):
            await watching.read()
        again = watch(HealthCheckRequest(service="notes.Notes"))
        assert (await again.read()).status == HealthCheckResponse.SERVING
        async with asyncio.timeout(30):
            await old.ended()
        assert (await HealthStub(channel).Check(HealthCheckRequest())).status == HealthCheckResponse.SERVING


async def test_parked_calls_are_limited_as_the_operator_says(spawn: Spawn, stage: Stage, plan: HostPlan) -> None:
    """In number, and in the bytes of their requests."""
    host = await up(await spawn(park_calls=2, park_bytes=100), stage)
    async with labelled(plan) as channel:
        say: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/notes.Notes/Say")
        await host.quiesce(5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await say(b"x" * 101)
        refusal = refusal_of(caught.value)
        assert refusal is not None
        assert refusal.reason is RefusalReason.TOO_MANY_PARKED
        calls = [say(b"a") for _ in range(3)]
        async with asyncio.timeout(10):
            while not any(call.done() for call in calls):  # noqa: ASYNC110 - one of the three is refused
                await asyncio.sleep(0.01)
        await up(host, stage)
        codes = sorted([(await call.code()).name for call in calls])
        assert codes == ["OK", "OK", "UNAVAILABLE"]


async def test_a_start_that_is_given_up_leaves_no_process(plan: HostPlan) -> None:
    """Nobody would know of it, as it has not come up yet."""
    async with asyncio.TaskGroup() as tasks:  # which waits for the ends of all that was started
        starting = tasks.create_task(Hosts(tasks).spawn(plan, 1))
        while not any("_reap" in repr(task) for task in asyncio.all_tasks()):  # noqa: ASYNC110 - it is there, then
            await asyncio.sleep(0)
        starting.cancel()
    assert starting.cancelled()
