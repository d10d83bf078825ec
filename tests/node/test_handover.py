"""New connections go to the newest of the listeners that share a port, and none is lost when the others leave."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from segue.node import handover
from segue.node.handover import (
    attach,
    can_steer,
    connections,
    is_waited_for,
    listeners_at,
    mode_of,
    steer_to_newest,
    stop_listening,
)
from segue.node.plan import HandOver, HandOverMode

LOOPBACK = ["127.0.0.1", "::1"]


def listener(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host, port))
    made.listen(64)
    return made


@pytest.mark.parametrize("host", LOOPBACK)
def test_new_connections_go_to_the_newest_listener(host: str) -> None:
    """All of them: by chance alone, 64 would go to one of two once in 10^19 times."""
    with closing(listener(host)) as old:
        port = old.getsockname()[1]
        with closing(listener(host, port)) as new:
            # Both are this process's, so the program is attached as the newer process would attach it.
            attach(new, index=1)
            _connect_and_expect(host, port, new, times=64)


@pytest.mark.parametrize("host", LOOPBACK)
def test_when_the_others_leave_the_last_listener_gets_all(host: str) -> None:
    """The program still names the place that it had; the kernel then falls back to whoever is left."""
    with closing(listener(host)) as old:
        port = old.getsockname()[1]
        new = listener(host, port)
        attach(new, index=1)
    with closing(new):
        _connect_and_expect(host, port, new, times=64)


@pytest.mark.parametrize("host", LOOPBACK)
def test_what_stops_to_listen_leaves_the_group_and_keeps_its_connections(host: str) -> None:
    """So that the process after the next finds two in the group, not three, however long the first stays."""
    with closing(listener(host)) as old:
        port = old.getsockname()[1]
        client = socket.create_connection((host, port))
        accepted, _ = old.accept()
        with closing(client), closing(accepted):
            stop_listening({port})
            stop_listening({port})
            assert listeners_at({port}) == 0
            with closing(listener(host, port)) as new:
                _connect_and_expect(host, port, new, times=8)
            accepted.sendall(b"still here")
            assert client.recv(16) == b"still here"


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_single_listener_steers_to_itself(host: str) -> None:
    """The first process of a node does as every other one does."""
    with closing(listener(host)) as only:
        port = only.getsockname()[1]
        steer_to_newest({port})
        _connect_and_expect(host, port, only, times=8)


@pytest.mark.parametrize("host", LOOPBACK)
def test_open_connections_are_counted(host: str) -> None:
    """Those that clients opened to the port, accepted or not, until they are closed."""
    with closing(listener(host)) as server:
        port = server.getsockname()[1]
        assert connections({port}) == 0
        with closing(socket.create_connection((host, port))):
            assert (connections({port}), is_waited_for({port})) == (1, True)
            accepted, _ = server.accept()
            assert (connections({port}), is_waited_for({port})) == (1, False)
            assert connections({port + 1}) == 0
            accepted.close()
            assert connections({port}) == 0


def test_connections_of_a_unix_socket_are_counted_by_the_name_that_it_was_bound_to(tmp_path: Path) -> None:
    """Whatever the path is called by now, and whoever has it."""
    name, path = tmp_path / "bound", tmp_path / "path"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(name))
        server.listen()
        name.rename(path)
        client.connect(str(path))
        assert (connections({str(name)}), connections({str(path)}), is_waited_for({str(name)})) == (1, 0, True)
        accepted, _ = server.accept()
        assert (connections({str(name)}), is_waited_for({str(name)})) == (1, False)
        accepted.close()
        assert connections({str(name)}) == 0


def test_groups_are_counted_by_their_address() -> None:
    """Two addresses with one port are two groups."""
    with closing(listener("127.0.0.1")) as first:
        port = first.getsockname()[1]
        with closing(listener("127.0.0.2", port)):
            assert listeners_at({port}) == 1
            with closing(listener("127.0.0.2", port)):
                assert listeners_at({port}) == 2


@pytest.fixture
def forget() -> Iterator[None]:
    mode_of.cache_clear()
    yield
    mode_of.cache_clear()


def test_this_kernel_steers(forget: None) -> None:
    """Linux does; where it is found out by trying, it is found."""
    assert can_steer()
    assert mode_of(HandOver.AUTO) is HandOverMode.PORT


def test_an_operator_can_have_it_without_the_kernel(forget: None) -> None:
    assert mode_of(HandOver.STOP_AND_START) is HandOverMode.STOP_AND_START


@pytest.mark.parametrize("fault", ["refuses", "takes it and does nothing"])
def test_a_kernel_that_does_not_steer_is_found_out(fault: str, forget: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a sandbox that knows no such programs, whether it says so or not."""

    def refuse(listener: socket.socket, index: int) -> None:
        if fault == "refuses":
            raise OSError("Protocol not available")

    monkeypatch.setattr(handover, "attach", refuse)
    monkeypatch.setattr(handover, "_TRY_S", 0.1)
    assert mode_of(HandOver.AUTO) is HandOverMode.STOP_AND_START


def _connect_and_expect(host: str, port: int, expected: socket.socket, *, times: int) -> None:
    expected.settimeout(5)
    for _ in range(times):
        with closing(socket.create_connection((host, port))) as client:
            accepted, address = expected.accept()
            accepted.close()
            assert address == client.getsockname()
