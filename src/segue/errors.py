"""What can go wrong, in families by who must act.

Every message says what went wrong, with which value, and what to do now. Our own bugs are
`AssertionError`, and belong to no family. `Disallowed` is not a fault but an answer.
"""

import errno

#: What a machine refuses for a while: no room, too many open files, a disk that fails.
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EAGAIN}


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

    The caller gets `FAILED_PRECONDITION` with the message, of which a KiB is sent, and `segue.refusal_of`
    tells its program that it was `DISALLOWED`.
    """


def is_passing(error: BaseException) -> bool:
    """Say whether `error` is the machine's or the moment's: no release is to blame, and to try again may help."""
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return error.errno in _PASSING
    return isinstance(error, (MemoryError, TimeoutError, PeerError))
