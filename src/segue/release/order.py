"""What the agent tells a transform's process, in two lines of JSON: what is known early, and where the state is."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.errors import OperatorError
from segue.model.ids import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What a transform's process needs to import all, before the old object goes quiet.

    Attributes:
        release: the folder of the release that the transform leads to.
        version: its version.
        previous: the folder of the release that wrote the old state; None to use what the release brought along.
        previous_version: its version.
        transform: `MODULE:NAME` in the release.
        work: a folder that exists, and is the only one that the process can write to; what is in it is removed.
        memory_mib: how much memory each process of the transform may have, in MiB; None for no limit.
        leash: True if stdin stays open as long as the work is wanted.
    """

    release: Path
    version: Version
    previous: Path | None
    previous_version: Version
    transform: str
    work: Path
    memory_mib: int | None = None
    leash: bool = False

    @property
    def new(self) -> Path:
        """Where the new object's state goes."""
        return self.work / "object"

    @property
    def past(self) -> Path:
        """Where the past simulation's state goes."""
        return self.work / "past"

    @property
    def scratch(self) -> Path:
        """For temporary files; nothing in it outlives the transform."""
        return self.work / "scratch"

    @classmethod
    def from_json(cls, text: str) -> "Preparation":
        """Return the preparation that `text` is.

        Raises:
            OperatorError: it is no such document.
        """
        data = _object(text)
        try:
            return cls(
                release=Path(data["release"]),
                version=Version(int(data["version"])),
                previous=_optional(data["previous"]),
                previous_version=Version(int(data["previous_version"])),
                transform=str(data["transform"]),
                work=Path(data["work"]),
                memory_mib=None if data.get("memory_mib") is None else int(data["memory_mib"]),
                leash=bool(data.get("leash", False)),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise _no_order(error) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Where the state is that is transformed; nobody writes to it any more.

    Attributes:
        old: the old object's state, to be read.
        simulation: the future simulation's state, to be read; None if none was installed.
    """

    old: Path
    simulation: Path | None

    @classmethod
    def from_json(cls, text: str) -> "Order":
        """Return the order that `text` is.

        Raises:
            OperatorError: it is no such document.
        """
        data = _object(text)
        try:
            return cls(old=Path(data["old"]), simulation=_optional(data["simulation"]))
        except (KeyError, TypeError) as error:
            raise _no_order(error) from error


def check_apart(work: Path, *read: Path | None) -> None:
    """Refuse a folder for the work that would take away what is read, or be within it.

    Raises:
        OperatorError: one is, or is within, another.
    """
    for other in read:
        if other is None:
            continue
        one, two = work.resolve(), other.resolve()
        if one == two or one in two.parents or two in one.parents:
            raise OperatorError(f"a transform cannot work in {work}, which is not apart from {other}")


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise _no_order(error) from error
    if not isinstance(data, dict):
        raise _no_order(TypeError(f"{text!r} is no object"))
    return data


def _no_order(error: Exception) -> OperatorError:
    return OperatorError(f"stdin holds no order for a transform: {type(error).__name__}: {error}")


def _optional(path: str | None) -> Path | None:
    return None if path is None else Path(path)
