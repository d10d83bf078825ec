"""Who listens on a TCP port of this machine, of all processes: what the kernel says.

It is asked by netlink (sock_diag(7)), for sockets that listen and no others. The tables in /proc have the same, but
to read one the kernel walks all places for connections, of which a large machine has hundreds of thousands: 4 ms each
time, while calls wait. They are read where netlink is not to be had, as in some sandboxes.
"""

import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

_NETLINK_SOCK_DIAG = 4  # <linux/netlink.h>
_SOCK_DIAG_BY_FAMILY = 20  # <linux/sock_diag.h>
_REQUEST_DUMP = 0x301  # <linux/netlink.h>: NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3
_LISTEN = 10  # <net/tcp_states.h>
#: <linux/netlink.h>, struct nlmsghdr: length, type, flags, sequence, port.
_HEADER = struct.Struct("=IHHII")
#: <linux/inet_diag.h>, struct inet_diag_req_v2: family, protocol, extensions, padding, states, and whose: anybody's.
_ASKED = struct.Struct("=BBBBI48x")
#: <linux/inet_diag.h>, struct inet_diag_msg: family, port, address, inode.
_FAMILY_AT, _PORT_AT, _ADDRESS_AT, _INODE_AT = 0, 4, 8, 68
_ADDRESS_BYTES = {socket.AF_INET: 4, socket.AF_INET6: 16}
_BUFFER_BYTES = 1 << 16
_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpListener:
    """A socket that listens.

    Attributes:
        address: in the order of the network, 4 or 16 bytes.
        port: its port.
        inode: its number, which `fstat` has of a process's own.
    """

    address: bytes
    port: int
    inode: int


def tcp_listeners(ports: Collection[int]) -> list[TcpListener]:
    """Return what listens on `ports` in this network namespace, in no particular order.

    Raises:
        OSError: the kernel says nothing, by netlink or in /proc (it is not Linux).
    """
    try:
        found = [listener for family in _ADDRESS_BYTES for listener in _dump(family)]
    except OSError:
        found = [listener for name in ("tcp", "tcp6") for listener in _table(name)]
    return [listener for listener in found if listener.port in ports]


def _dump(family: int) -> Iterator[TcpListener]:
    """Ask the kernel for all that listens of one family; one that it does not have has none."""
    asked = _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << _LISTEN)
    header = _HEADER.pack(_HEADER.size + len(asked), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_LIMIT_S)
        kernel.send(header + asked)
        while True:
            answer = kernel.recv(_BUFFER_BYTES)
            at = 0
            while at < len(answer):
                length, kind, _, _, _ = _HEADER.unpack_from(answer, at)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError("the kernel does not list its sockets by netlink")
                yield _read(answer[at + _HEADER.size : at + length])
                at += (length + 3) & ~3  # <linux/netlink.h>: NLMSG_ALIGN


def _read(message: bytes) -> TcpListener:
    (port,) = struct.unpack_from("!H", message, _PORT_AT)
    (inode,) = struct.unpack_from("=I", message, _INODE_AT)
    address = message[_ADDRESS_AT : _ADDRESS_AT + _ADDRESS_BYTES[socket.AddressFamily(message[_FAMILY_AT])]]
    return TcpListener(address=address, port=port, inode=inode)


def _table(name: str) -> Iterator[TcpListener]:
    """Read one of the tables in /proc, whose addresses are words in the order of the machine."""
    try:
        with open(f"/proc/self/net/{name}") as table:
            lines = table.readlines()[1:]
    except FileNotFoundError:
        if name == "tcp":
            raise
        return  # a kernel without IPv6
    for line in lines:
        fields = line.split()
        if int(fields[3], 16) == _LISTEN:
            words, _, port = fields[1].rpartition(":")
            numbers = (int(words[at : at + 8], 16) for at in range(0, len(words), 8))
            address = b"".join(struct.pack("=I", number) for number in numbers)
            yield TcpListener(address=address, port=int(port, 16), inode=int(fields[9]))
