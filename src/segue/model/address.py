"""Where something listens: `host:port`, and the one place where that text is taken apart."""

from segue.errors import OperatorError


def split_address(address: str) -> tuple[str, int]:
    """Take `host:port` apart; an IPv6 address stands in brackets.

    Raises:
        OperatorError: it is not of that form.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise OperatorError(f"address {address!r}: write HOST:PORT, such as 127.0.0.1:9001")
    return host.strip("[]"), int(port)
