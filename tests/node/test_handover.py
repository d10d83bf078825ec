"""A port is taken only when nobody has it, and new connections go to the newest of those who share it."""

import socket
from contextlib import closing

import pytest

from segue.errors import OperatorError
from segue.node.handover import attach, check_free, connections, steer_to_newest


def listener(port: int = 0, *, share: bool = True) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if share:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen(64)
    return made


@pytest.mark.parametrize("share", [True, False])
def test_a_port_that_somebody_has_is_refused_even_if_they_would_share_it(share: bool) -> None:
    """Two nodes on one port would answer each other's callers."""
    with (
        closing(listener(share=share)) as other,
        pytest.raises(OperatorError, match=r"cannot listen at 127\.0\.0\.1:"),
    ):
        check_free(f"127.0.0.1:{other.getsockname()[1]}")


def test_a_port_that_nobody_has_is_free() -> None:
    """The probe leaves nothing behind: it can be asked again."""
    with closing(listener()) as other:
        port = other.getsockname()[1]
    check_free(f"127.0.0.1:{port}")
    check_free(f"127.0.0.1:{port}")


def test_new_connections_go_to_the_newest_listener() -> None:
    """All of them: by chance alone, 64 would go to one of two once in 10^19 times."""
    with closing(listener()) as old:
        port = old.getsockname()[1]
        with closing(listener(port)) as new:
            # Both are this process's, so the program is attached as the newer process would attach it.
            attach(new, index=1)
            _connect_and_expect(port, new, times=64)


def test_when_the_others_leave_the_last_listener_gets_all() -> None:
    """The program still names the place that it had; the kernel then falls back to whoever is left."""
    with closing(listener()) as old:
        port = old.getsockname()[1]
        new = listener(port)
        attach(new, index=1)
    with closing(new):
        _connect_and_expect(port, new, times=64)


def test_a_single_listener_steers_to_itself() -> None:
    """The first process of a node does as every other one does."""
    with closing(listener()) as only:
        port = only.getsockname()[1]
        steer_to_newest(port)
        _connect_and_expect(port, only, times=8)


def test_open_connections_are_counted() -> None:
    """Those that clients opened to the port, on our side of them, until they are closed."""
    with closing(listener()) as server:
        port = server.getsockname()[1]
        assert connections(port) == 0
        with closing(socket.create_connection(("127.0.0.1", port))):
            accepted, _ = server.accept()
            assert connections(port) == 1
            accepted.close()
            assert connections(port) == 0


def _connect_and_expect(port: int, expected: socket.socket, *, times: int) -> None:
    expected.settimeout(5)
    for _ in range(times):
        with closing(socket.create_connection(("127.0.0.1", port))) as client:
            accepted, address = expected.accept()
            accepted.close()
            assert address == client.getsockname()
