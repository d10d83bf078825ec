"""What a supervisor such as systemd hears of an agent: that it runs, what it is at, that it ends.

By the protocol of sd_notify(3): a datagram to the socket that the environment names. Without one nothing is said.
"""

import logging
import os
import socket
from typing import Self

logger = logging.getLogger(__name__)


class Supervisor:
    """Tells a supervisor, and minds nothing: an agent works on without one.

    Args:
        address: the socket's path, or its abstract name after an `@`; None if nobody listens.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    @classmethod
    def of_environment(cls) -> Self:
        """Return the one that started this process. What this process starts is not to speak to it."""
        return cls(os.environ.pop("NOTIFY_SOCKET", None))

    def ready(self) -> None:
        """Tell that the agent looks after its node from now on."""
        self._tell("READY=1")

    def status(self, words: str) -> None:
        """Tell what the node is at, in one line for people."""
        self._tell(f"STATUS={words}")

    def stopping(self) -> None:
        """Tell that the agent was told to end."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as messenger:
                messenger.sendto(message.encode(), address)
        except OSError as error:
            logger.debug("the supervisor at %s is not told %r: %s", self._address, message, error)

    def __repr__(self) -> str:
        return f"Supervisor({self._address!r})"
