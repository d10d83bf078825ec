"""What docs/transforms.md says to write does what the page says, on a node too."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from segue.errors import ReleaseError
from segue.model.ids import Version
from segue.node.transform_process import TransformLimits, TransformTask
from segue.node.transforming import run_transform

PAGE = "transforms.md"

Page = Any  #: conftest's


def test_the_example_prints_what_the_page_says(page: Page) -> None:
    """Following the page word by word leads where it says."""
    assert page.output == page.printed()
    assert "604 bytes" in page.output


@pytest.mark.timeout(60)
def test_the_example_runs_on_a_node_and_names_its_line(page: Page, tmp_path: Path) -> None:
    """There the kernel holds it; and a database that is missing is told with the page's file and line."""
    release, old = tmp_path / "release", tmp_path / "old"
    for folder in (release, old / "notes", tmp_path / "making"):
        folder.mkdir(parents=True)
    (release / "upgrade.py").write_text((page.folder / "upgrade.py").read_text())
    (old / "notes" / "long").write_text("x" * 100)
    (old / "owner").write_text("ann")
    task = TransformTask(
        function="upgrade:transform", release=release, version=Version(2), previous=release,
        previous_version=Version(1), old=old, simulation=None,
    )  # fmt: skip
    states = tmp_path / "states"
    limits = TransformLimits(timeout_s=40)
    with pytest.raises(ReleaseError, match=r"upgrade\.py:22: FileNotFoundError: .*index\.db"):
        asyncio.run(run_transform(task, making=tmp_path / "making", states=states, limits=limits))
    (old / "index.db").write_bytes(b"")  # to SQLite, a database without tables
    code = (release / "upgrade.py").read_text()
    (release / "upgrade.py").write_text(
        code.replace("ALTER TABLE note ADD COLUMN size INTEGER NOT NULL DEFAULT 0;", "")
    )
    with pytest.raises(ReleaseError, match=r"statement 1 of 2, `CREATE INDEX by_size .*no such table: main\.note"):
        asyncio.run(run_transform(task, making=tmp_path / "making", states=states, limits=limits))
    assert not states.exists()
