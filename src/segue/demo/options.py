"""What the person who starts the demo chooses, and what it needs of the machine."""

import importlib.util
import os
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segue.errors import OperatorError
from segue.model.ids import ClassName, Version
from segue.release.manifest import read_manifest
from segue.schedule.rules import Rules

#: More nodes than this do not fit on one machine beside each other.
NODES_MAX = 32
#: A block lies on three nodes, so fewer cannot hold it.
NODES_MIN = 3
#: With fewer there is nothing to upgrade.
_VERSIONS_MIN = 2
#: The first version of the block store that has private blocks.
_PRIVATE_SINCE = Version(3)

#: Where Segue's sources are, if it was installed from its repository.
_REPOSITORY = Path(__file__).resolve().parents[3]

_NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """How to run the demo.

    Attributes:
        to: the version that the nodes go to, one after the other from version 1.
        data: the folder whose files are stored; None for the source of Python's standard library.
        nodes: how many nodes, 3 to 32.
        report: the folder that `report.json` and `timeline.png` go into; it is made if it is not there.
        seed: what the load's choices are drawn from; None to draw one.
        no_open: True to leave the picture unopened even where there is a desktop.
        broken: True to publish a version 2 whose self-test fails.

    Raises:
        OperatorError: a value is out of its range, or `data` is no folder, or `broken` is of a later version.
    """

    to: int = 2
    data: Path | None = None
    nodes: int = 6
    report: Path = field(default_factory=lambda: Path("demo-report"))
    seed: int | None = None
    no_open: bool = False
    broken: bool = False

    def __post_init__(self) -> None:
        if not NODES_MIN <= self.nodes <= NODES_MAX:
            raise OperatorError(f"--nodes {self.nodes}: give {NODES_MIN} to {NODES_MAX}; a block lies on three nodes")
        if self.broken and self.to != _VERSIONS_MIN:
            raise OperatorError(f"--break with --to {self.to}: leave --to out; it is version 2 that is broken")
        if self.data is not None and not self.data.is_dir():
            raise OperatorError(f"--data {self.data}: this is not a folder; name one with files in it")
        if self.report.exists() and not self.report.is_dir():
            raise OperatorError(f"--report {self.report}: a file of that name is in the way; name a folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Files to store, below one folder.

    Attributes:
        root: the folder.
        files: paths relative to `root`, in order.
        size_bytes: of all files together.
    """

    root: Path
    files: tuple[str, ...]
    size_bytes: int


def find_files(data: Path | None) -> Source:
    """Find the files to store.

    Args:
        data: the folder, of which every file counts; None for each `*.py` of Python's standard library.

    Raises:
        OperatorError: there is no file.
    """
    root = data if data is not None else Path(sysconfig.get_paths()["stdlib"])
    files = sorted(_walk(root, only_python=data is None))
    if not files:
        raise OperatorError(f"{root}: there is no file to store; give --data a folder with files in it")
    return Source(root=root, files=tuple(files), size_bytes=sum((root / file).stat().st_size for file in files))


def _walk(root: Path, *, only_python: bool) -> Iterator[str]:
    for folder, below, names in os.walk(root):
        if only_python:
            below[:] = [name for name in below if name not in _NOT_THE_LIBRARY]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not (only_python and path.suffix != ".py"):
                yield path.relative_to(root).as_posix()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """The system that the demo upgrades: examples/blockstore beside the sources.

    Attributes:
        client: the module that opens clients of any version.
        releases: `{version: the folder of its release}`, in order, from version 1 on.
        private_since: the first version whose clients can put private blocks.
    """

    client: Path
    releases: Mapping[Version, Path]
    private_since: Version


def find_example(to: int) -> Example:
    """Find the block store's releases, from version 1 to version `to`.

    Raises:
        OperatorError: Segue was installed without its repository around it, or there is no such release.
    """
    folder = _REPOSITORY / "examples" / "blockstore"
    there: dict[Version, Path] = {}
    while (release := folder / f"blockstore-{len(there) + 1}").exists():
        there[Version(len(there) + 1)] = release
    client = folder / "client.py"
    if len(there) < _VERSIONS_MIN or not client.exists():
        raise OperatorError(
            f"{folder} is not here, or not whole: the demo upgrades the block store of Segue's repository; "
            "clone the repository and run `make demo` in it"
        )
    if not _VERSIONS_MIN <= to <= len(there):
        targets = " or ".join(str(version) for version in range(_VERSIONS_MIN, len(there) + 1))
        raise OperatorError(f"--to {to}: give {targets}, a version of the block store that has one before it")
    releases = {version: release for version, release in there.items() if version <= to}
    return Example(client=client, releases=releases, private_since=_PRIVATE_SINCE)


def rules_of(release: Path, name: ClassName) -> Rules:
    """Return the rules by which nodes of a class upgrade to `release`.

    Raises:
        ReleaseError: the manifest is not as it must be, or has no such class.
    """
    upgrade = read_manifest(release).class_named(name).upgrade
    return Rules.of(upgrade.schedule) if upgrade else Rules()


def require_matplotlib() -> None:
    """Make sure that the picture can be drawn, before anything is started.

    Call it when the example is there: then Segue's own folder is, too, whose extra it names.

    Raises:
        OperatorError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise OperatorError(
            f"the demo draws its timeline with matplotlib, which is not here: pip install '{_REPOSITORY}[demo]'"
        )
