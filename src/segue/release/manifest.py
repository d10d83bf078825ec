"""`release.toml`: what a release says of itself, checked to the last key.

A typo must not pass silently, so an unknown key is refused here, unlike in messages between processes.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from segue.errors import ReleaseError
from segue.model.ids import NAME_PATTERN, ClassName, SystemName, Version
from segue.release.lines import line_of
from segue.release.schedule_section import ScheduleSection
from segue.release.section import CODE, NAME, Name, Reference, Section, WholeNumber

MANIFEST_NAME = "release.toml"


class UpgradeSection(Section):
    """`[classes.NAME.upgrade]`: what leads from the class of the same name in the version before."""

    transform: Reference = Field(description=f'{CODE} "blockstore.upgrade:transform"')
    past: Reference = Field(description=f'{CODE} "blockstore.upgrade:Version1"')
    future: Reference = Field(description=f'{CODE} "blockstore.upgrade:Version2"')
    schedule: ScheduleSection = Field(
        default=ScheduleSection(), description=f"a table with {', '.join(ScheduleSection.model_fields)}"
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

    object: Reference = Field(description=f'{CODE} "blockstore.node:BlockNode"')
    upgrade: UpgradeSection | None = Field(
        default=None, description="a table with transform, past, future, schedule, disk"
    )


class ReleaseSection(Section):
    """`[release]`: which version of which system this is."""

    system: Name = Field(description=f"a system's name: {NAME}")
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
                schedule = described.upgrade.schedule
                for key, reference in (("when", schedule.when), ("custom", schedule.custom)):
                    if reference is not None:
                        found[f"classes.{name}.upgrade.schedule.{key}"] = reference
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
        raise ReleaseError(_complaint(error.errors(), text, source)) from error
    for name, described in manifest.classes.items():
        if described.upgrade is None:
            continue
        path = ["classes", name, "upgrade"]
        if manifest.version == 1:
            expected = "expected no such table in version 1, which upgrades nothing; remove it"
            raise ReleaseError(f"{source}:{line_of(text, path)}: {_dotted(path)}: {expected}")
        wrong = _wrong_order(manifest, name)
        if wrong:
            path += ["schedule", "after"]
            raise ReleaseError(f"{source}:{line_of(text, path)}: {_dotted(path)}: {wrong}")
    return manifest


def _wrong_order(manifest: Manifest, name: str) -> str | None:
    """Say what is wrong with the classes that go before `name`: each is of the release, and none waits for `name`."""
    ahead, seen = [name], set[str]()
    while ahead:
        one = ahead.pop()
        upgrade = manifest.classes[one].upgrade if one in manifest.classes else None
        for before in upgrade.schedule.after if upgrade else ():
            if before not in manifest.classes:
                return f"expected classes of this release, which has {', '.join(manifest.classes)}, found {before!r}"
            if before == name:
                way = "itself" if one == name else f"{one!r}, which waits for {name!r}"
                return f"expected classes that do not wait for this one, found {way}"
            if before not in seen:
                seen.add(before)
                ahead.append(before)
    return None


def _syntax(message: str, text: str, source: str) -> str:
    match = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = match[1] if match else str(text.count("\n") + 1)
    what = message[: match.start()] if match else message.removesuffix(" (at end of document)")
    return f"{source}:{line}: expected TOML, found: {' '.join(what.split())}"


def _complaint(errors: list[ErrorDetails], text: str, source: str) -> str:
    # An unknown key first: it is often the reason why another is missing.
    first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    found, context = first["input"], first.get("ctx", {})
    path: list[str | int] = list(first["loc"])
    if first["type"] == "at_key":
        path, expected, found = [*path, context["key"]], context["expected"], context["found"]
    elif first["type"] == "extra_forbidden":
        expected = f"no such key; known here are {', '.join(_keys(path[:-1]))}"
    elif path[-1] == "[key]":  # a name that is a key of a table
        path, expected = path[:-1], NAME
    else:
        expected = _expected(path)
    what = "nothing" if first["type"] == "missing" else _short(found)
    more = f" (and {len(errors) - 1} more to correct)" if len(errors) > 1 else ""
    return f"{source}:{line_of(text, path)}: {_dotted(path)}: expected {expected}, found {what}{more}"


def _dotted(path: Sequence[str | int]) -> str:
    """Return the path as TOML writes it, with the place in a list in brackets, from 0."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." + (part if re.fullmatch(NAME_PATTERN, part) and "." not in part else repr(part))
    return text.removeprefix(".")


def _short(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys(path: Sequence[str | int]) -> list[str]:
    """Return the keys that the table at `path` may have."""
    return list(_table(path).model_fields)


def _expected(path: Sequence[str | int]) -> str:
    """Return what the field at `path` must be, as the tables above describe it."""
    if path[:1] == ["classes"] and len(path) == 2:
        return "a table with object"
    if isinstance(path[-1], int):  # one of a list, of which the list's description tells
        return _expected(path[:-1])
    for name, field in _table(path[:-1]).model_fields.items():
        if path[-1] == name:
            return field.description or name
    raise AssertionError(f"no field at {path}")


def _table(path: Sequence[str | int]) -> type[Section]:
    """Return the table that stands at `path`."""
    table: type[Section] = Manifest
    parts = iter(part for part in path if isinstance(part, str))
    for part in parts:
        if table is Manifest and part == "classes":
            next(parts, None)
            table = ClassSection
            continue
        table = next(_sections(table.model_fields[part].annotation))
    return table


def _sections(annotation: object) -> Iterator[type[Section]]:
    """Yield the tables that a field may be, or be a list of."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
