"""On which line of a TOML text a key stands: `tomllib` does not say."""

import re
import tomllib
from collections.abc import Sequence
from typing import Any


def line_of(text: str, path: Sequence[str | int]) -> int:
    """Return the line, from 1, on which what is at `path` begins; if it is not there, what should have had it.

    Args:
        text: TOML.
        path: keys and places in lists, from the top.
    """
    for length in range(len(path), 0, -1):
        line = _first_line(text, path[:length])
        if line is not None:
            return line
    return 1


def _first_line(text: str, path: Sequence[str | int]) -> int | None:
    """Return where the statement begins that first says what is at `path`, or the line of it that names the key."""
    lines = text.splitlines(keepends=True)
    whole = 0
    for end in range(1, len(lines) + 1):
        try:
            said = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # in the middle of a value of several lines
        if _has(said, path):
            return _named_in(lines, whole, end, path)
        whole = end
    return None


def _has(table: Any, path: Sequence[str | int]) -> bool:
    for step in path:
        try:
            table = table[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _named_in(lines: Sequence[str], begin: int, end: int, path: Sequence[str | int]) -> int:
    """Return the line, of a statement from line `begin` + 1 to `end`, that names the last key of `path`."""
    keys = [step for step in path if isinstance(step, str)]
    # Of tables in a list the last one that was said is meant, as lines are added one by one.
    named = re.compile(rf"""(^|[\s,{{.\['"]){re.escape(keys[-1])}["']?\s*([=.\]]|$)""")
    found = [number for number in range(begin, end) if named.search(lines[number])]
    place = next((step for step in reversed(path) if isinstance(step, int)), 0)
    if not found:
        return begin + 1
    return found[min(place, len(found) - 1)] + 1
