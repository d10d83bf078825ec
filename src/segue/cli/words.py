"""Numbers as people read them."""

#: (seconds, what they are called), longest first.
_TIMES = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
#: (bytes, what they are called), largest first; of disks, so by thousands.
_SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def duration(seconds: float) -> str:
    """Return how long that is, in the largest unit that it has one of."""
    for unit_s, name in _TIMES:
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)} {name}"
    return "0 s"


def size(amount_bytes: int) -> str:
    """Return how much that is, in the largest unit that it has one of, with two digits at least."""
    for unit, name in _SIZES:
        if amount_bytes >= unit:
            amount = amount_bytes / unit
            return f"{amount:.1f} {name}" if amount < 10 else f"{amount:.0f} {name}"
    return f"{amount_bytes} B"
