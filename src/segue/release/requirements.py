"""What a release requires besides its own code: `requirements.txt`, hash-locked, and the wheels shipped with it.

The lock is the release's, so it says what and with which bytes. Where a node gets it from is its operator's:
so no index, no URL and no path stands in it. It is read here, and not by the installer alone, so that `segue build`
refuses what a node would refuse, with file and line.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segue.errors import ReleaseError

#: The lock's name in a release's folder.
REQUIREMENTS_NAME = "requirements.txt"
#: The folder of wheels in a release's folder.
WHEELS = "wheels"

_COMMENT = re.compile(r"(?:^|\s)#.*$")
_WHEEL_NAME = re.compile(r"[^-]+-[^-]+(?:-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl")
_HASH = re.compile(r"\s--hash[=\s]\s*(\S+)")
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_PINNED = re.compile(
    rf"(?P<name>{_NAME})\s*(?P<extras>\[[A-Za-z0-9._,\s-]*\])?\s*==\s*(?P<version>[A-Za-z0-9.!+_-]+)"
    r"\s*(?:;\s*(?P<marker>\S.*?))?\s*"
)
#: `{how a line begins: what it is, and what to do about it}`
_OPTIONS = {
    ("-e", "--editable"): "an editable requirement has no hash: make a wheel of it, and put that into wheels/",
    ("-r", "--requirement", "-c", "--constraint"): "a bundle's lock is one file: put what the other says here",
    ("-i", "--index-url", "--extra-index-url", "--no-index", "-f", "--find-links", "--trusted-host"): (
        "where a node gets it from is its operator's to say (`segue node --index`): remove the line"
    ),
}
_MAKE = "make the file with `uv pip compile --generate-hashes`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One library in one version.

    Attributes:
        name: in the normal form, such as `zope-interface`.
        version: such as `1.2`.
        extras: with their brackets; empty if there are none.
        marker: on which nodes it is needed; empty if on all.
        hashes: of the files that it may be, such as `sha256:…`; at least one.
        line: where it stands.
    """

    name: str
    version: str
    extras: str
    marker: str
    hashes: tuple[str, ...]
    line: int

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    def as_line(self) -> str:
        """Return it as an installer reads it, on one line."""
        marker = f" ; {self.marker}" if self.marker else ""
        return f"{self.name}{self.extras}=={self.version}{marker} {' '.join(f'--hash={one}' for one in self.hashes)}"


def parse_requirements(content: bytes, shown: str) -> tuple[Requirement, ...]:
    """Return what a lock requires, in its order.

    Args:
        content: the file's bytes.
        shown: what to call the file in errors.

    Raises:
        ReleaseError: `FILE:LINE`: a requirement is not pinned with `==` or has no hash; or the line says where to
            get it, which is not the release's to say.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ReleaseError(f"{shown}: is not UTF-8 text: {error}; {_MAKE}") from error
    return tuple(_requirement(line, f"{shown}:{number}", number) for number, line in _logical_lines(text))


def check_requirements(files: Mapping[str, bytes], folder: Path) -> None:
    """Make sure that a release's lock can be installed from, and that its wheels are what it names.

    Args:
        files: the release's: `{path: content}`.
        folder: where they are, for errors.

    Raises:
        ReleaseError: as `parse_requirements`; or there are wheels that no requirement's hash names, or what is in
            `wheels/` is no wheel.
    """
    wheels = {file: content for file, content in files.items() if file.startswith(f"{WHEELS}/")}
    if REQUIREMENTS_NAME in files:
        requirements = parse_requirements(files[REQUIREMENTS_NAME], str(folder / REQUIREMENTS_NAME))
        for file, content in wheels.items():
            _check_wheel(file, content, requirements, folder)
    elif wheels:
        raise ReleaseError(
            f"{folder / min(wheels)}: {WHEELS}/ holds the wheels that {REQUIREMENTS_NAME} names, and there is no "
            f"{folder / REQUIREMENTS_NAME}: {_MAKE}, or rename the folder"
        )


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Return the lines without comments, those that a backslash continues joined: `(number of the first, line)`."""
    found: list[tuple[int, str]] = []
    parts: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        plain = _COMMENT.sub("", line).rstrip()
        parts.append(plain.removesuffix("\\").strip())
        if not plain.endswith("\\"):
            found.append((number - len(parts) + 1, " ".join(part for part in parts if part)))
            parts = []
    found.append((text.count("\n") + 1, " ".join(part for part in parts if part)))  # a backslash at the very end
    return [(number, line) for number, line in found if line]


def _requirement(line: str, at: str, number: int) -> Requirement:
    _refuse_sources(line, at)
    spec, hashes = _HASH.split(f"{line} ", maxsplit=1)[0].strip(), tuple(_HASH.findall(f" {line}"))
    option = re.search(r"\s(-\S*)", _HASH.sub("", f" {line}"))
    if option is not None:
        raise ReleaseError(f"{at}: {option[1]} does not belong in a release's lock: remove it")
    match = _PINNED.fullmatch(spec)
    if match is None:
        raise ReleaseError(f"{at}: {spec!r} is not pinned: write NAME==VERSION with its hashes; {_MAKE}")
    if not hashes:
        raise ReleaseError(f"{at}: {spec} has no hash, so it could be anybody's: {_MAKE}")
    for one in hashes:
        if not _DIGEST.fullmatch(one):
            raise ReleaseError(f"{at}: {one!r} is no hash such as sha256:… with 64 digits from 0 to f; {_MAKE}")
    name = normal_name(match["name"])
    if name == "segue":
        raise ReleaseError(f"{at}: segue is the node's own, and shared by all releases: remove it")
    return Requirement(
        name=name,
        version=match["version"],
        extras=match["extras"] or "",
        marker=match["marker"] or "",
        hashes=hashes,
        line=number,
    )


def normal_name(name: str) -> str:
    """Return a distribution's name as all spellings of it have it, such as `zope-interface` for `Zope.Interface`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _refuse_sources(line: str, at: str) -> None:
    """Refuse a line that says where to get something from."""
    option = re.match(r"--?[A-Za-z][\w-]*", line)
    if option is not None:
        for names, what_now in _OPTIONS.items():
            if option[0] in names or (option[0][:2] in names and option[0][1] != "-"):  # `-ifoo` is `-i foo`
                raise ReleaseError(f"{at}: {line.split()[0]}: {what_now}")
        raise ReleaseError(f"{at}: {line.split()[0]} does not belong in a release's lock: remove it")
    first = line.partition(";")[0]
    if "://" in first or re.match(r"[./~]", line) or re.match(rf"{_NAME}\s*(\[[^\]]*\])?\s*@", line):
        raise ReleaseError(
            f"{at}: {first.strip()!r} says where to get it from, which is the node's operator's to say: write "
            f"NAME==VERSION with its hashes, and put its wheel into {WHEELS}/ if no index has it"
        )


def _check_wheel(file: str, content: bytes, requirements: tuple[Requirement, ...], folder: Path) -> None:
    shown, name = folder / file, file.removeprefix(f"{WHEELS}/")
    if not _WHEEL_NAME.fullmatch(name) or not _is_wheel(content):
        raise ReleaseError(f"{shown}: is no wheel (NAME-VERSION-….whl): {WHEELS}/ holds only those; remove it")
    named = {one for requirement in requirements for one in requirement.hashes}
    digests = {one: f"{one}:{hashlib.new(one, content).hexdigest()}" for one in ("sha256", "sha384", "sha512")}
    if named.isdisjoint(digests.values()):
        same = [one for one in requirements if one.name == normal_name(name.partition("-")[0])]
        what_now = f"add it to {same[0]}, line {same[0].line}, if that is what you mean; else " if same else ""
        raise ReleaseError(
            f"{shown}: no hash in {REQUIREMENTS_NAME} names it, its own is {digests['sha256']}: {what_now}remove it"
        )


def _is_wheel(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as wheel:
            return any(name.count("/") == 1 and name.endswith(".dist-info/WHEEL") for name in wheel.namelist())
    except (zipfile.BadZipFile, ValueError, OSError):
        return False
