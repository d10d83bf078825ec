"""The files by which the ends of a connection show who they are: named, read, and looked at before they are used."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from segue.errors import OperatorError

#: What tells that a file is not the one that was read: its device, number, size and last change.
Stamp: TypeAlias = tuple[tuple[int, int, int, int], ...]


class ServerPems(NamedTuple):
    """What a server needs, each as PEM: its key, its certificates, and whose clients it takes (None: anybody's)."""

    key: bytes
    certificates: bytes
    client_ca: bytes | None


class ClientPems(NamedTuple):
    """What a client needs, each as PEM: whose servers it takes, and its own key and certificates, if it has any."""

    ca: bytes
    key: bytes | None
    certificates: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where a node's TLS files are; all are PEM.

    Attributes:
        cert, key: the node's certificate with its chain, and its key: its ports are then TLS.
        client_ca: the certificates of those whose clients may call; then every client must show that it is one.
        ca: the certificates of those whose servers the node's objects call; their channels are then TLS.

    Raises:
        OperatorError: one is given without another that it needs.
    """

    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    ca: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise OperatorError("--tls-cert and --tls-key go together: give both, or none")
        if self.client_ca is not None and self.cert is None:
            raise OperatorError("--tls-client-ca is of no use without --tls-cert and --tls-key: give these as well")

    @property
    def is_serving(self) -> bool:
        """Whether the node's ports are TLS."""
        return self.cert is not None

    def check(self) -> None:
        """Make sure that what is given can be used.

        Raises:
            OperatorError: a file cannot be read or is not what it should be, or the key is another certificate's.
        """
        if self.is_serving:
            self.read_server()
        if self.ca is not None:
            self.read_client()

    def read_server(self) -> ServerPems:
        """Return what a server needs.

        Raises:
            OperatorError: as `check`.
        """
        certificates, key = self._own()
        assert certificates is not None, self
        assert key is not None, self
        client_ca = None if self.client_ca is None else _authorities("--tls-client-ca", self.client_ca)
        return ServerPems(key=key, certificates=certificates, client_ca=client_ca)

    def read_client(self) -> ClientPems:
        """Return what a client needs.

        Raises:
            OperatorError: as `check`.
        """
        assert self.ca is not None, self
        certificates, key = self._own()
        return ClientPems(ca=_authorities("--tls-ca", self.ca), key=key, certificates=certificates)

    def stamp(self) -> Stamp:
        """Return what differs when one of a server's files is another; files that are not there differ, too."""
        found = []
        for path in (self.cert, self.key, self.client_ca):
            try:
                there = os.stat(path or "")
                found.append((there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns))
            except OSError:
                found.append((0, 0, 0, 0))
        return tuple(found)

    def _own(self) -> tuple[bytes | None, bytes | None]:
        """Return the node's own certificates and key."""
        if self.cert is None or self.key is None:
            return None, None
        certificates, key = _read("--tls-cert", self.cert), _read("--tls-key", self.key)
        try:
            # Without an answer to the question for a passphrase, the terminal would be asked.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key, password="")
        except (ssl.SSLError, ValueError) as error:
            raise OperatorError(
                f"--tls-cert {self.cert}, --tls-key {self.key}: {_words(error)}; give the certificate and its chain, "
                "and the key of that certificate without a passphrase, each as PEM"
            ) from error
        return certificates, key


def _authorities(option: str, path: str) -> bytes:
    pem = _read(option, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise OperatorError(f"{option} {path}: {_words(error)}; give certificates of authorities as PEM") from error
    return pem


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OperatorError(f"{option} {path}: {error.strerror}; give a file that this user can read") from error


def _words(error: Exception) -> str:
    """Return OpenSSL's reason, which it writes in capitals."""
    reason = getattr(error, "reason", None)
    return reason.replace("_", " ").lower() if isinstance(reason, str) else str(error)
