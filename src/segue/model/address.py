"""Where something listens: a port or a Unix socket, and the one place where such text is taken apart."""

import ipaddress
import re
from dataclasses import dataclass
from typing import TypeAlias

from segue.errors import OperatorError

_UNIX = "unix:"
_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
#: What the kernel takes as the path of a Unix socket (unix(7)), without the byte that ends it.
_PATH_LIMIT_BYTES = 107
#: A node's process first listens under a name of its own in the same folder: a slash, a dot and eight letters.
_OWN_NAME_BYTES = 10
#: All of a machine's addresses; gRPC takes both for the same, and listens on IPv4 and IPv6.
_WILDCARDS = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A port of a host: a name, an IPv4 address or an IPv6 address without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket with a place in the file system."""

    path: str

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


Address: TypeAlias = TcpAddress | UnixAddress


def read_address(text: str) -> Address:
    """Take `HOST:PORT`, `[IPV6]:PORT` or `unix:/PATH` apart.

    Raises:
        OperatorError: it is not of such a form, or a Unix socket's path is too long for the kernel.
    """
    if not text.startswith(_UNIX):
        return TcpAddress(*split_address(text))
    path = text.removeprefix(_UNIX)
    folder, _, name = path.rpartition("/")
    if not path.startswith("/") or path.startswith("//") or name in ("", ".", "..") or "\0" in path:
        raise OperatorError(
            f"address {text!r}: write unix: and the absolute path of a socket, such as unix:/run/n1.sock"
        )
    longest = max(_size(path), _size(folder) + _OWN_NAME_BYTES)
    if longest > _PATH_LIMIT_BYTES:
        raise OperatorError(
            f"address {text!r}: the path of a Unix socket has at most {_PATH_LIMIT_BYTES} bytes, and its folder "
            f"{_PATH_LIMIT_BYTES - _OWN_NAME_BYTES}: choose a shorter one"
        )
    return UnixAddress(path)


def read_addresses(texts: tuple[str, ...]) -> tuple[Address, ...]:
    """Take several addresses of one node apart.

    Raises:
        OperatorError: there is none, one is not of the form, or two are the same.
    """
    if not texts:
        raise OperatorError("a node without an address: give one with --listen, such as 127.0.0.1:9001")
    found: dict[object, str] = {}
    addresses = tuple(read_address(text) for text in texts)
    for text, address in zip(texts, addresses, strict=True):
        same = ("", address.port) if isinstance(address, TcpAddress) and address.host in _WILDCARDS else address
        if same in found:
            raise OperatorError(f"addresses {found[same]} and {text} are the same: give it once")
        found[same] = text
    return addresses


def split_address(address: str) -> tuple[str, int]:
    """Take `HOST:PORT` apart; an IPv6 address stands in brackets, which are taken off.

    Raises:
        OperatorError: it is not of that form.
    """
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_host = _is_ipv6(bare) if bare != host else _NAME.fullmatch(host)
    # Digits as `int` takes them, but no other alphabet's: the text goes on to gRPC.
    if not (is_host and colon and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise OperatorError(f"address {address!r}: write HOST:PORT, such as 127.0.0.1:9001, or [IPV6]:PORT")
    return bare, int(port)


def _size(path: str) -> int:
    return len(path.encode("utf-8", "surrogateescape"))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
