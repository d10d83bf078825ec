"""A node's journal: every event that happened to it, on disk before anything follows from it.

One line of JSON an event. A line that a crash cut short is the last, and as if it had never begun:
its command is issued again.
"""

import dataclasses
import errno
import json
import os
import typing
from datetime import datetime
from pathlib import Path
from typing import Any

from segue import journey
from segue.errors import OperatorError, PeerError
from segue.model.release import Announcement
from segue.release.durable import sync_path

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in typing.get_args(journey.Event)}


class Journal:
    """The journal in one file, which one process at a time holds open.

    Args:
        path: the file; it is made if missing.

    Raises:
        OperatorError: the file holds something that is not a journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.events: list[journey.Event] = []
        self._whole = self._read()
        self._file = path.open("ab", buffering=0)
        self._file.truncate(self._whole)
        sync_path(path.parent)

    def append(self, event: journey.Event) -> None:
        """Put `event` on disk: when this returns, no crash undoes it.

        Raises:
            PeerError: the disk is full. The journal is as it was; the event can be put there when there is room.
            OSError: the disk does not take it for another reason: what is on it is not certain.
        """
        line = json.dumps(encode(event)).encode() + b"\n"
        try:
            written = self._file.write(line)
            if written < len(line):  # there was room for so much
                self._file.write(line[written:])
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._file.truncate(self._whole)
            raise PeerError(f"{self._path}: the disk is full, and what happened to the node must go there") from error
        self._whole += len(line)
        self.events.append(event)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __repr__(self) -> str:
        return f"Journal({self._path}, {len(self.events)} events)"

    def _read(self) -> int:
        """Read the events that are there, and return how many bytes hold them."""
        whole = 0
        if not self._path.exists():
            return whole
        for number, line in enumerate(self._path.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                break
            try:
                self.events.append(decode(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise OperatorError(
                    f"{self._path}, line {number}: no event of a journal ({error}); "
                    "put back the file from before it was changed, or start the node on a new folder"
                ) from error
            whole += len(line)
        return whole


def encode(event: journey.Event) -> dict[str, Any]:
    """Return `event` as JSON takes it, its kind under `event`."""
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return {"event": type(event).__name__} | {name: _encode_value(value) for name, value in fields.items()}


def decode(data: dict[str, Any]) -> journey.Event:
    """Return the event that `encode` was asked for.

    Raises:
        KeyError, TypeError, ValueError: `data` is no such thing.
    """
    kind = _KINDS[data["event"]]
    hints = typing.get_type_hints(kind)
    fields = {name: _decode_value(value, hints[name]) for name, value in data.items() if name != "event"}
    event: journey.Event = kind(**fields)
    return event


def _encode_value(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case Announcement():
            return dataclasses.asdict(value)
        case tuple():
            return [_encode_value(one) for one in value]
        case _:
            return value


def _decode_value(value: Any, hint: Any) -> Any:
    if hint is datetime:
        return datetime.fromisoformat(value)
    if hint is Announcement:
        return Announcement(**value)
    if typing.get_origin(hint) is tuple:
        one_hint, _ = typing.get_args(hint)  # tuple[X, ...]
        return tuple(_decode_value(one, one_hint) for one in value)
    return value
