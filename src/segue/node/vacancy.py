"""Whether a node's addresses are to be had, before its first process takes them."""

import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segue.errors import OperatorError
from segue.model.address import Address, TcpAddress, UnixAddress

#: Every address of the machine, which gRPC takes as those of both kinds, as far as there are both.
_WILDCARDS = ("0.0.0.0", "::")
_NO_SUCH_KIND = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def check_free(addresses: Sequence[Address]) -> None:
    """Make sure that nobody listens at any of `addresses`, not even somebody who would share the port.

    Raises:
        OperatorError: somebody does, an address is not this machine's, two are the same, or what is at the path of
            a Unix socket is not ours to remove.
    """
    seen: dict[Any, Address] = {}
    for address in addresses:
        if isinstance(address, UnixAddress):
            _check_path(address)
            continue
        for family, where in _places(address):
            if where in seen and seen[where] is not address:
                raise OperatorError(f"addresses {seen[where]} and {address} are the same: give one of them")
            seen[where] = address
            _check_port(address, family, where)


def _places(address: TcpAddress) -> list[tuple[int, Any]]:
    """Return what the address stands for: a name may stand for several."""
    hosts = _WILDCARDS if address.host in _WILDCARDS else (address.host,)
    found: list[tuple[int, Any]] = []
    for host in hosts:
        try:
            infos = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            raise OperatorError(f"cannot listen at {address}: {error}; choose another with --listen") from error
        found += [(family, where) for family, _, _, _, where in infos]
    return found


def _check_port(address: TcpAddress, family: int, where: Any) -> None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Without this, connections of an earlier process that linger in TIME_WAIT would count as somebody.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(where)
            probe.listen(1)
    except OSError as error:
        if address.host in _WILDCARDS and error.errno in _NO_SUCH_KIND:
            return
        raise OperatorError(
            f"cannot listen at {address}: {_words(error)}; "
            "end the process that has the port, or choose another with --listen"
        ) from error


def _check_path(address: UnixAddress) -> None:
    """Make sure that a socket may be put at the path: nothing is there, or one that a process left when it ended."""
    path = Path(address.path)
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)):
        raise OperatorError(f"cannot listen at {address}: {path.parent} is no folder in which this user can write")
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(there.st_mode):
        raise OperatorError(
            f"cannot listen at {address}: what is there is no socket; remove it, or choose another with --listen"
        )
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass  # somebody listens, and is behind
        except OSError as error:
            raise OperatorError(
                f"cannot listen at {address}: {_words(error)}; remove the socket, or choose another with --listen"
            ) from error
    raise OperatorError(f"cannot listen at {address}: somebody does; end that process, or choose another with --listen")


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0)
