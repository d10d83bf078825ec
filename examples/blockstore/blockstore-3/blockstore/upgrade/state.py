"""The transform: version 2's state, and the future simulation's, become version 3's."""

from collections.abc import Iterable
from pathlib import Path

import segue

from ..blocks import PRIVATE, PUBLIC, Files


def transform(old: Path, new: Path, context: segue.TransformContext) -> None:
    """Take over each public block as it is, and the private ones that the future simulation kept.

    Files are linked, not copied: nobody writes into a file of a block, so the old folder stays as it is.
    The past simulation needs no state.

    Args:
        old: version 2's state, which is left as it is.
        new: an empty folder, which becomes version 3's state.
        context: `simulation` has the private blocks, if there were any.
    """
    for folder in (PUBLIC, PRIVATE):
        Files(new, folder).open()
    _link(old / PUBLIC, new / PUBLIC, context)
    if context.simulation:
        _link(context.simulation / PRIVATE, new / PRIVATE, context)


def _link(before: Path, after: Path, context: segue.TransformContext) -> None:
    for file in _files(before):
        target = after / file.relative_to(before)
        target.parent.mkdir(exist_ok=True)
        context.link(file, target)


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.glob("*/*") if path.is_file())
