"""How large messages may be, which gRPC asks of whoever receives them: sending is not limited."""

from typing import TypeAlias

#: gRPC's options of a server or a channel.
Options: TypeAlias = tuple[tuple[str, int], ...]

#: What gRPC receives where nothing else is said.
DEFAULT_MESSAGE_BYTES = 4 << 20


def receiving(max_message_bytes: int) -> Options:
    """Return the options of a server or a channel that is to receive messages of up to so many bytes."""
    return (("grpc.max_receive_message_length", max_message_bytes),)
