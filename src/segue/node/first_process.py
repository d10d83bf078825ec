"""What process 1 of a container must do, so that the agent can be one.

The kernel gives every process whose parent has died to process 1, which must reap it, and it ends a signal there that
nobody handles. An agent that reaped whatever ends would take the ends of its own children from those who wait for
them (asyncio waits for each by its id). So, as process 1, the agent goes on in a child, and process 1 does nothing but
pass signals on and reap. It is the one fork there is: nothing goes into the background.
"""

import os
import signal
import sys
import time
from contextlib import suppress

#: What somebody may tell process 1, for the agent.
_PASSED_ON = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
#: Whatever the agent has left running has so long to end when it has; then the kernel kills it.
_REST_S = 10.0


def step_aside_as_first_process() -> None:
    """Go on as before in a child, if this is process 1; any other process just goes on.

    Process 1 itself never returns from here: it ends with the status of the child, or 128 and the number of the signal
    that killed it. Call it before there are threads.
    """
    if os.getpid() != 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    watched = _PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    child = os.fork()
    if child == 0:
        # In a group of its own: Ctrl-C would else reach it twice, from the terminal and from process 1.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    status = _until_ended(child, watched)
    _end_the_rest(watched)
    os._exit(status)


def _until_ended(child: int, watched: frozenset[signal.Signals]) -> int:
    """Reap and pass on until `child` has ended; return its exit status."""
    while True:
        number = signal.sigwait(watched)
        if number is not signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        ended, _ = _reap()
        if child in ended:
            status = os.waitstatus_to_exitcode(ended[child])
            return status if status >= 0 else 128 - status


def _reap() -> tuple[dict[int, int], bool]:
    """Reap all children that have ended: `{process: wait status}`; and say whether there are others."""
    ended: dict[int, int] = {}
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if not process:
            return ended, True
        ended[process] = status


def _end_the_rest(watched: frozenset[signal.Signals]) -> None:
    """Tell all that is left to end, and wait for it a while; whoever is told to end meanwhile does not wait."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGTERM)
    deadline = time.monotonic() + _REST_S
    while _reap()[1] and (left_s := deadline - time.monotonic()) > 0:
        told = signal.sigtimedwait(watched, left_s)
        if told is not None and told.si_signo != signal.SIGCHLD:
            return
