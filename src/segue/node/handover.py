"""How a port passes from one process to the next without a failed connection.

Both processes listen on the same port (`SO_REUSEPORT`). The kernel picks a listener for each new
connection by a program attached to the group (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)); ours always picks
the newest. Old connections stay with the old process until gRPC retires them. Linux only: elsewhere
`steer_to_newest` says so.

Source: docs/decisions/0007, and the measurements named there.
"""

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from segue.errors import OperatorError
from segue.model.address import split_address

_SO_ATTACH_REUSEPORT_CBPF = 51  # <asm-generic/socket.h>; the socket module has no name for it
_BPF_RET_K = 0x06  # <linux/bpf_common.h>: BPF_RET | BPF_K
_LISTEN = "0A"  # <net/tcp_states.h>
_ESTABLISHED = "01"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Socket:
    #: As the kernel writes it: hexadecimal, of 4 or 16 bytes.
    address: str
    port: int
    state: str
    inode: str


def check_free(address: str) -> None:
    """Make sure that nobody listens at `address`, not even somebody who would share the port.

    Raises:
        OperatorError: somebody does, or the address is not this machine's.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Without this, connections of an earlier process that linger in TIME_WAIT would count as somebody.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise OperatorError(
                f"cannot listen at {address}: {os.strerror(error.errno or 0)}; "
                "end the process that has the port, or choose another with --listen"
            ) from error


def steer_to_newest(port: int) -> None:
    """Send every new connection to `port` to this process, which was the last to listen on it.

    Raises:
        OSError: the kernel cannot (it is not Linux, or it refuses the program).
    """
    if sys.platform != "linux":
        raise OSError("only Linux can steer new connections to one of several listeners")
    mine = _own_sockets()
    listeners = [entry for entry in _tcp_sockets() if entry.port == port and entry.state == _LISTEN]
    for own in listeners:
        if own.inode in mine:
            # A group is all that listen on one address. It is numbered in the order of joining, so ours comes
            # after those of other processes. When these leave, the number is out of range, and the kernel
            # falls back to whoever is left: us.
            others = [one for one in listeners if one.address == own.address and one.inode not in mine]
            with socket.socket(fileno=os.dup(mine[own.inode])) as listener:
                attach(listener, len(others))


def attach(listener: socket.socket, index: int) -> None:
    """Have the kernel give every new connection to the listener number `index` of this one's group.

    Raises:
        OSError: the kernel refuses the program.
    """
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET_K, 0, 0, index))
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)


def connections(port: int) -> int:
    """Count this process's open connections from clients of `port`."""
    mine = _own_sockets()
    return sum(
        1 for entry in _tcp_sockets() if entry.port == port and entry.state == _ESTABLISHED and entry.inode in mine
    )


def _tcp_sockets() -> Iterator[_Socket]:
    """Read the kernel's tables; gRPC listens on an IPv6 socket even for an IPv4 address."""
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/self/net/{name}") as table:
                lines = table.readlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for line in lines:
            fields = line.split()
            address, _, port = fields[1].rpartition(":")
            yield _Socket(address=address, port=int(port, 16), state=fields[3], inode=fields[9])


def _own_sockets() -> dict[str, int]:
    """Return `{inode: file descriptor}` of this process's sockets."""
    found = {}
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:  # closed meanwhile, or the listing's own
            continue
        if target.startswith("socket:["):
            found[target.removeprefix("socket:[").removesuffix("]")] = int(descriptor)
    return found
