"""`release.toml`: what a release says of itself, checked to the last key.

A typo must not pass silently, so an unknown key is refused here, unlike in messages between processes.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from segue.errors import ReleaseError
from segue.model.fleet import SYSTEM
from segue.model.ids import NAME_PATTERN, ClassName, SystemName, Version

MANIFEST_NAME = "release.toml"

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: Ten years: a time later than the year 9999 cannot be told.
_LONGEST_S = 3660 * 86400.0
_REFERENCE_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"


Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
Reference = Annotated[str, Field(pattern=f"^{_REFERENCE_PATTERN}$")]
#: The upgrade server keeps it in a database column, hence the upper end.
WholeNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
Duration = Annotated[str, Field(pattern=r"^[0-9]{1,9}(ms|s|m|h|d)$")]
Limits: TypeAlias = dict[Name, WholeNumber]

_NAME = "1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first"
_ATTRIBUTE = f"a node attribute's name: {_NAME}"
_CODE = "MODULE:NAME in this release, such as"
_LIMIT = "a whole number of at least 1, or a table of such numbers like { system = 2, zone = 1 }"


def _seconds(duration: str) -> float:
    number = duration.rstrip("smhd")
    return int(number) * _SECONDS[duration.removeprefix(number)]


class Section(BaseModel):
    """What all tables of a manifest share: frozen, no unknown keys, no silent conversions.

    `model_dump_json` and `model_validate_json` are each other's inverse.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class CanarySection(Section):
    """`canary`: how many nodes go first, and for how many seconds they must have served."""

    nodes: WholeNumber = Field(description="a whole number of at least 1")
    soak: Duration = Field(description='a duration such as "500ms", "30s", "5m", "2h" or "1d", at most "3660d"')

    @field_validator("soak")
    @classmethod
    def _fits_a_calendar(cls, soak: str) -> str:
        if _seconds(soak) > _LONGEST_S:
            raise ValueError(soak)
        return soak

    @property
    def soak_s(self) -> float:
        """Seconds for which each of them must have served."""
        return _seconds(self.soak)


class ScheduleSection(Section):
    """`[classes.NAME.upgrade.schedule]`: when nodes of the class may upgrade.

    What is left out is cautious: one node at a time in the whole system.
    """

    canary: CanarySection | None = Field(default=None, description='a table like { nodes = 1, soak = "30s" }')
    max_unavailable: int | Limits = Field(default=1, description=_LIMIT)
    per: Name | None = Field(default=None, description=_ATTRIBUTE)

    @model_validator(mode="before")
    @classmethod
    def _one_meaning(cls, given: Any) -> Any:
        if isinstance(given, dict):
            limit, per = given.get("max_unavailable", 1), given.get("per")
            groups = limit if isinstance(limit, dict) else {SYSTEM: limit}
            if not groups or any(type(number) is not int or not 1 <= number < 2**31 for number in groups.values()):
                raise _at("max_unavailable", _LIMIT, limit)
            if isinstance(limit, dict) and not all(re.fullmatch(NAME_PATTERN, group) for group in limit):
                raise _at("max_unavailable", f'keys that are "system" or {_ATTRIBUTE}', limit)
            if per == SYSTEM:
                raise _at("per", f"{_ATTRIBUTE}; leave per out to count the whole system", per)
            if isinstance(limit, dict) and per is not None:
                raise _at("per", "no such key beside a table max_unavailable, which names its groups itself", per)
        return given

    @property
    def limits(self) -> Mapping[str, int]:
        """How many nodes may be away at once: `{"system" or a node attribute: limit}`; all hold together."""
        if isinstance(self.max_unavailable, dict):
            return dict(self.max_unavailable)
        return {self.per or SYSTEM: self.max_unavailable}


class UpgradeSection(Section):
    """`[classes.NAME.upgrade]`: what leads from the class of the same name in the version before."""

    transform: Reference = Field(description=f'{_CODE} "blockstore.upgrade:transform"')
    past: Reference = Field(description=f'{_CODE} "blockstore.upgrade:Version1"')
    future: Reference = Field(description=f'{_CODE} "blockstore.upgrade:Version2"')
    schedule: ScheduleSection = Field(
        default=ScheduleSection(), description="a table with max_unavailable, per, canary"
    )
    disk: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="a number from 0: how much room the new state takes, as a share of the old one",
    )


class ClassSection(Section):
    """`[classes.NAME]`: a class of the system at this version.

    Without an upgrade it is as in the version before, which then carries the new number, or it is new.
    """

    object: Reference = Field(description=f'{_CODE} "blockstore.node:BlockNode"')
    upgrade: UpgradeSection | None = Field(
        default=None, description="a table with transform, past, future, schedule, disk"
    )


class ReleaseSection(Section):
    """`[release]`: which version of which system this is."""

    system: Name = Field(description=f"a system's name: {_NAME}")
    version: WholeNumber = Field(description="a whole number of at least 1, the place in the system's history")
    description: str = Field(default="", description="text")


class Manifest(Section):
    """A whole `release.toml`."""

    release: ReleaseSection = Field(description="a table [release] with system and version")
    classes: dict[Name, ClassSection] = Field(min_length=1, description="at least one table [classes.NAME] with object")

    @property
    def system(self) -> SystemName:
        """The system that the release is of."""
        return SystemName(self.release.system)

    @property
    def version(self) -> Version:
        """The release's place in its system's history."""
        return Version(self.release.version)

    @property
    def description(self) -> str:
        """What the author says of it, perhaps nothing."""
        return self.release.description

    def class_named(self, name: ClassName) -> ClassSection:
        """Return the class of this name.

        Raises:
            ReleaseError: the release has no such class.
        """
        try:
            return self.classes[name]
        except KeyError:
            known = ", ".join(sorted(self.classes))
            raise ReleaseError(
                f"release {self.version} of {self.system} has no class {name!r}; it has {known}"
            ) from None

    def references(self) -> Mapping[str, str]:
        """Return every name of code in it: `{dotted key: MODULE:NAME}`."""
        found = {}
        for name, described in self.classes.items():
            found[f"classes.{name}.object"] = described.object
            if described.upgrade is not None:
                for key in ("transform", "past", "future"):
                    found[f"classes.{name}.upgrade.{key}"] = getattr(described.upgrade, key)
        return found


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the release in `folder`.

    Raises:
        ReleaseError: there is none, or it is not as it must be.
    """
    path = folder / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise ReleaseError(f"{path}: there is no such file; a release's folder has a {MANIFEST_NAME}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReleaseError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    return parse_manifest(text, source=str(path))


def parse_manifest(text: str, *, source: str) -> Manifest:
    """Return the manifest that `text` is.

    Args:
        text: TOML.
        source: what to call it in errors, such as its path.

    Raises:
        ReleaseError: it is no TOML, or a key is missing, unknown or not as it must be: one line that
            names the source, the key, what was expected and what was found.
    """
    try:
        manifest = Manifest.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ReleaseError(_syntax(str(error), text, source)) from error
    except ValidationError as error:
        raise ReleaseError(_complaint(error.errors(), source)) from error
    for name, described in manifest.classes.items():
        if manifest.version == 1 and described.upgrade is not None:
            raise ReleaseError(
                f"{source}: classes.{name}.upgrade: expected no such table in version 1, which upgrades nothing; "
                "remove it"
            )
    return manifest


def _at(key: str, expected: str, found: object) -> PydanticCustomError:
    return PydanticCustomError("at_key", "{expected}", {"key": key, "expected": expected, "found": found})


def _syntax(message: str, text: str, source: str) -> str:
    match = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = match[1] if match else str(text.count("\n") + 1)
    what = message[: match.start()] if match else message.removesuffix(" (at end of document)")
    return f"{source}:{line}: expected TOML, found: {' '.join(what.split())}"


def _complaint(errors: list[ErrorDetails], source: str) -> str:
    # An unknown key first: it is often the reason why another is missing.
    first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    path, found, context = [str(part) for part in first["loc"]], first["input"], first.get("ctx", {})
    if first["type"] == "at_key":
        path, expected, found = [*path, context["key"]], context["expected"], context["found"]
    elif first["type"] == "extra_forbidden":
        expected = f"no such key; known here are {', '.join(_keys(path[:-1]))}"
    elif path[-1] == "[key]":  # a name that is a key of a table
        path, expected = path[:-1], _NAME
    else:
        expected = _expected(path)
    what = "nothing" if first["type"] == "missing" else _short(found)
    more = f" (and {len(errors) - 1} more to correct)" if len(errors) > 1 else ""
    return f"{source}: {_dotted(path)}: expected {expected}, found {what}{more}"


def _dotted(path: list[str]) -> str:
    return ".".join(part if re.fullmatch(NAME_PATTERN, part) and "." not in part else repr(part) for part in path)


def _short(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys(path: list[str]) -> list[str]:
    table = _table(path)
    return list(table.model_fields)


def _expected(path: list[str]) -> str:
    """Return what the field at `path` must be, as the tables above describe it."""
    if path[:1] == ["classes"] and len(path) == 2:
        return "a table with object"
    for name, field in _table(path[:-1]).model_fields.items():
        if path[-1] == name:
            return field.description or name
    raise AssertionError(f"no field at {path}")


def _table(path: list[str]) -> type[Section]:
    """Return the table that stands at `path`."""
    table: type[Section] = Manifest
    parts = iter(path)
    for part in parts:
        if table is Manifest and part == "classes":
            next(parts, None)
            table = ClassSection
            continue
        annotation = table.model_fields[part].annotation
        kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        table = next(kind for kind in kinds if issubclass(kind, Section))
    return table
