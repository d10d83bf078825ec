"""What can go wrong, in families by who must act.

Every message says what went wrong, with which value, and what to do now. Our own bugs are
`AssertionError`, and belong to no family. `Disallowed` is not a fault but an answer.
"""


class SegueError(Exception):
    """Something that a person or a program is told in one line."""


class ReleaseError(SegueError):
    """The author of a release must change it: the message names the file, the key or the line."""


class TrustError(SegueError):
    """What was fetched is not what was published: an operator must look; it is never retried."""


class OperatorError(SegueError):
    """The person who started this command, or the machine's owner, must change something."""


class PeerError(SegueError):
    """Another process cannot answer now: we try again later, by ourselves.

    Args:
        message: what was asked of whom, and what came back.
        retry_after_s: seconds until it is worth asking again.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Disallowed(Exception):  # noqa: N818 - an answer to the caller, no fault
    """A call that a simulation must refuse, since no meaning of it fits both versions.

    The caller gets `FAILED_PRECONDITION` with the message.
    """
