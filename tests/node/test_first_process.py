"""As process 1 of a container, the program reaps what is left to it, passes signals on, and ends as the agent does."""

import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from segue.node.first_process import _REST_S

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
#: Far more than anything here takes, on the busiest machine.
LONG_S = 15.0


def _can_unshare() -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_unshare(), reason="a PID namespace takes unshare(1) and the right to use it")


class First:
    """A Python program as process 1 of a namespace of its own.

    Args:
        code: of the program, after it has stepped aside.
    """

    def __init__(self, code: str) -> None:
        begin = """
            import os, signal, subprocess, sys, time
            from segue.node.first_process import step_aside_as_first_process
            assert os.getpid() == 1
            step_aside_as_first_process()
            assert os.getpid() != 1
        """
        program = [sys.executable, "-u", "-c", textwrap.dedent(begin) + textwrap.dedent(code)]
        self._unshare = subprocess.Popen([*NAMESPACE, *program], stdout=subprocess.PIPE)
        assert self._unshare.stdout is not None
        self._out = self._unshare.stdout

    def said(self) -> str:
        """Return the next line that the program writes."""
        ready, _, _ = select.select([self._out], [], [], LONG_S)
        assert ready, "the program says nothing"
        return self._out.readline().decode().strip()

    @property
    def pid(self) -> int:
        """Its id, out here."""
        (child,) = _children(self._unshare.pid)
        return child

    def tell(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def children(self) -> list[int]:
        """Return its children, those that wait to be reaped too."""
        return _children(self.pid)

    def status(self) -> int:
        """Return its exit status, when it has ended."""
        return self._unshare.wait(LONG_S)

    def close(self) -> None:
        self._unshare.kill()
        self._unshare.wait()
        self._out.close()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def first() -> Iterator[Callable[[str], First]]:
    """Starts programs as process 1."""
    started: list[First] = []

    def start(code: str) -> First:
        started.append(First(code))
        return started[-1]

    yield start
    for one in started:
        with suppress(ProcessLookupError):
            one.close()


def test_orphans_are_reaped_and_children_are_not(first: Callable[[str], First]) -> None:
    """What an author's code left running ends as a child of process 1; the agent's own child is the agent's to reap."""
    program = first("""
        own = subprocess.Popen(["sh", "-c", "exit 7"])
        subprocess.run(["sh", "-c", "(sleep 0.2; echo orphan ended) &"], check=True)
        print("own child", own.wait(), flush=True)
        signal.pause()
    """)
    assert sorted((program.said(), program.said())) == ["orphan ended", "own child 7"]
    until(lambda: len(program.children()) == 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_on(first: Callable[[str], First], number: signal.Signals) -> None:
    """Process 1 would else not even notice them: the kernel keeps from it what it does not handle."""
    program = first(f"""
        def end(number, _):
            sys.exit(number + 100)
        signal.signal({int(number)}, end)
        print("ready", flush=True)
        while True:
            signal.pause()
    """)
    assert program.said() == "ready"
    program.tell(number)
    assert program.status() == number + 100


def test_the_status_is_the_agents(first: Callable[[str], First]) -> None:
    assert first("sys.exit(3)").status() == 3


def test_an_agent_that_is_killed(first: Callable[[str], First]) -> None:
    """Process 1 ends as a shell would say it, and the supervisor sees a failure."""
    assert first("os.kill(os.getpid(), signal.SIGKILL)").status() == 128 + signal.SIGKILL


def test_what_the_agent_leaves_is_told_to_end(first: Callable[[str], First]) -> None:
    """The kernel would kill the application at once; so it can end its calls."""
    program = first("""
        ready, tell = os.pipe()
        code = f"trap 'sleep 0.3; echo ended in order; exit' TERM; echo >&{tell}; while true; do sleep 0.05; done"
        subprocess.Popen(["sh", "-c", code], pass_fds=[tell])
        os.read(ready, 1)
        sys.exit(1)
    """)
    assert program.said() == "ended in order"
    began = time.monotonic()
    assert program.status() == 1
    assert time.monotonic() - began < _REST_S / 2, "nobody was left, and it was waited for"


def test_any_other_process_just_goes_on() -> None:
    code = "from segue.node.first_process import *; import os; p = os.getpid(); step_aside_as_first_process(); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print(p == os.getpid())"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
