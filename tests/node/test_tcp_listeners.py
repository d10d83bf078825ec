"""Every listener of a port is found, of each kind of address, and nothing else."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from segue.node import tcp_listeners as module
from segue.node.tcp_listeners import TcpListener, tcp_listeners


def by_netlink(_: pytest.MonkeyPatch) -> None:
    pass


def by_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(family: int) -> Iterator[TcpListener]:
        raise PermissionError(f"no netlink for family {family} in this sandbox")

    monkeypatch.setattr(module, "_dump", refuse)


@pytest.fixture(params=[by_netlink, by_proc])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel asked one way, and then the other."""
    choose: Callable[[pytest.MonkeyPatch], None] = request.param
    choose(monkeypatch)


def listener(family: int, host: str, port: int = 0) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host, port))
    made.listen(8)
    return made


def seen(one: socket.socket) -> TcpListener:
    address, port = one.getsockname()[:2]
    return TcpListener(address=socket.inet_pton(one.family, address), port=port, inode=os.fstat(one.fileno()).st_ino)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("family", "host"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")],
)
def test_all_who_share_a_port_are_found(family: int, host: str) -> None:
    """With their addresses and numbers; and no connection is, nor anybody on another port."""
    with ExitStack() as opened:
        try:
            first: Any = opened.enter_context(closing(listener(family, host)))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        port = first.getsockname()[1]
        second = opened.enter_context(closing(listener(family, host, port)))
        opened.enter_context(closing(listener(family, host)))
        near = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        opened.enter_context(closing(socket.create_connection((near, port))))
        assert sorted(tcp_listeners([port]), key=lambda one: one.inode) == sorted(
            (seen(first), seen(second)), key=lambda one: one.inode
        )
    assert tcp_listeners([port]) == []
