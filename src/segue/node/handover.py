"""How a port passes from one process to the next without a failed connection.

Both processes listen on the same port (`SO_REUSEPORT`). The kernel picks a listener for each new
connection by a program attached to the group (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)); ours always picks
the newest. Old connections stay with the old process until gRPC retires them. Linux only: elsewhere, and
where a sandbox stands between, `can_steer` says that it cannot be done, and a node stops and starts.

Source: docs/decisions/0007, and the measurements named there.
"""

import ctypes
import os
import select
import socket
import stat
import struct
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from typing import TypeAlias

from segue.node.plan import HandOver, HandOverMode
from segue.node.tcp_listeners import tcp_listeners

#: Where this process listens: a port, or the path that a Unix socket was bound to.
Place: TypeAlias = int | str

_SO_ATTACH_REUSEPORT_CBPF = 51  # <asm-generic/socket.h>; the socket module has no name for it
_BPF_RET_K = 0x06  # <linux/bpf_common.h>: BPF_RET | BPF_K
#: Connections that try out whether the kernel steers: by chance alone, 16 go to one of two once in 65,536 times.
_TRIES = 16
_TRY_S = 1.0


@cache
def mode_of(wanted: HandOver) -> HandOverMode:
    """Return how ports pass on this machine, tried once in a process's life."""
    return HandOverMode.PORT if wanted is HandOver.AUTO and can_steer() else HandOverMode.STOP_AND_START


def can_steer() -> bool:
    """Say whether the kernel steers new connections, by having it done with two listeners of this process."""
    with suppress(OSError), closing(_shared("127.0.0.1", 0)) as old:
        port: int = old.getsockname()[1]
        with closing(_shared("127.0.0.1", port)) as new:
            attach(new, index=1)
            new.settimeout(_TRY_S)
            for _ in range(_TRIES):
                with closing(socket.create_connection(("127.0.0.1", port), timeout=_TRY_S)):
                    new.accept()[0].close()
            return True
    return False


def steer_to_newest(ports: Collection[int]) -> None:
    """Send every new connection to `ports` to this process, which was the last to listen on them.

    Raises:
        OSError: the kernel cannot (it is not Linux, or it refuses the program).
    """
    if sys.platform != "linux":
        raise OSError("only Linux can steer new connections to one of several listeners")
    listeners = tcp_listeners(ports)
    with _own_sockets(ports) as sockets:
        mine = {os.fstat(own.fileno()).st_ino: own for own in sockets if _listens(own)}
        for entry in listeners:
            if entry.inode in mine:
                # A group is all that listen on one address. It is numbered in the order of joining, so ours comes
                # after those of other processes. When these leave, the number is out of range, and the kernel
                # falls back to whoever is left: us.
                group = (entry.address, entry.port)
                others = [one for one in listeners if (one.address, one.port) == group and one.inode not in mine]
                attach(mine[entry.inode], len(others))


def attach(listener: socket.socket, index: int) -> None:
    """Have the kernel give every new connection to the listener number `index` of this one's group.

    Raises:
        OSError: the kernel refuses the program.
    """
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET_K, 0, 0, index))
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)


def listeners_at(ports: Collection[int]) -> int:
    """Return how many listen on one address of `ports`, of any process: the most that there are on any."""
    counted = Counter((entry.address, entry.port) for entry in tcp_listeners(ports))
    return max(counted.values(), default=0)


def connections(places: Collection[Place]) -> int:
    """Count this process's open connections from clients of `places`; of each, one at most that is not accepted yet."""
    # Not by the kernel's tables: while connections come and go, whoever reads them may miss one that stays.
    with _own_sockets(places) as sockets:
        return sum(_has_waiting(own) if _listens(own) else _is_connected(own) for own in sockets)


def is_waited_for(places: Collection[Place]) -> bool:
    """Say whether there is a connection to one of `places` that this process has not accepted yet."""
    with _own_sockets(places) as sockets:
        return any(_has_waiting(own) for own in sockets if _listens(own))


def stop_listening(ports: Collection[int]) -> None:
    """Take no more connections on `ports`; those that were accepted go on. Safe to repeat.

    gRPC, which has the sockets, says in the log that it failed to accept: it was meant to.
    """
    with _own_sockets(ports) as sockets:
        for own in sockets:
            if _listens(own):
                with suppress(OSError):  # gRPC has closed it at this moment
                    own.shutdown(socket.SHUT_RDWR)


def _shared(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
        made.listen(_TRIES)
    except OSError:
        made.close()
        raise
    return made


@contextmanager
def _own_sockets(places: Collection[Place]) -> Iterator[list[socket.socket]]:
    """Give this process's ends of connections to `places`, and what listens there, by descriptors of their own."""
    descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    # All are looked at before one is made: it would take the number that the listing had, and be found itself.
    sockets = [descriptor for descriptor in descriptors if _is_socket(descriptor)]
    with ExitStack() as opened:
        found = []
        for descriptor in sockets:
            try:
                own = socket.socket(fileno=os.dup(descriptor))
            except OSError:  # closed meanwhile
                continue
            if _place(own) in places:
                found.append(opened.enter_context(own))
            else:
                own.close()
        yield found


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:  # closed meanwhile, or the listing's own
        return False


def _place(own: socket.socket) -> Place | None:
    if own.type != socket.SOCK_STREAM or own.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        return None
    try:
        name = own.getsockname()
    except OSError:
        return None
    place: Place = name if own.family == socket.AF_UNIX else name[1]
    return place


def _listens(own: socket.socket) -> bool:
    return bool(own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _is_connected(own: socket.socket) -> bool:
    try:
        own.getpeername()
    except OSError:
        return False
    return True


def _has_waiting(listener: socket.socket) -> bool:
    looks = select.poll()
    looks.register(listener, select.POLLIN)
    return any(event & select.POLLIN for _, event in looks.poll(0))
