"""TLS as gRPC takes it: credentials of a node's files, and the files' successors without a restart."""

import logging
from typing import Any

import grpc

from segue.errors import OperatorError
from segue.layer.tls import ServerPems, Stamp, TlsFiles

logger = logging.getLogger(__name__)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return the credentials of a server; what replaces the files is used for the connections that come then.

    Args:
        files: with certificate and key.

    Raises:
        OperatorError: a file is not what it should be.
    """
    stamp = files.stamp()
    first = _configuration(files.read_server())
    # Any: it may return None, which the published types leave out.
    replaced: Any = _Replaced(files, stamp)
    return grpc.dynamic_ssl_server_credentials(
        first, replaced, require_client_authentication=files.client_ca is not None
    )


def client_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Return the credentials of a channel, by the files as they are now.

    Args:
        files: with the authorities of servers.

    Raises:
        OperatorError: a file is not what it should be.
    """
    pems = files.read_client()
    return grpc.ssl_channel_credentials(
        root_certificates=pems.ca, private_key=pems.key, certificate_chain=pems.certificates
    )


class _Replaced:
    """What gRPC asks at each handshake, in a thread of its own: the files' content if it is new, else None.

    What cannot be used is logged, and the one before stays: whoever replaces two files does so one after the other.
    """

    def __init__(self, files: TlsFiles, stamp: Stamp) -> None:
        self._files = files
        self._seen: Stamp | None = stamp

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        stamp = self._files.stamp()
        if stamp == self._seen:
            return None
        self._seen = stamp
        try:
            pems = self._files.read_server()
        except OperatorError as error:
            logger.warning("the TLS files were changed and cannot be used; those before stay in use: %s", error)
            return None
        if self._files.stamp() != stamp:  # they changed while they were read: the next handshake sees
            self._seen = None
            return None
        logger.info("the TLS files were changed: new connections use them")
        return _configuration(pems)


def _configuration(pems: ServerPems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificates)], pems.client_ca)
