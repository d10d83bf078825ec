"""What a transform is given, with a memory of the progress that it told."""

from pathlib import Path
from typing import Any

import pytest

from segue.author import TransformContext
from segue.model.ids import Version


@pytest.fixture
def told() -> list[dict[str, Any]]:
    """What was told of progress, without what was left out."""
    return []


@pytest.fixture
def context(tmp_path: Path, told: list[dict[str, Any]]) -> TransformContext:
    def take(**progress: Any) -> None:
        told.append({name: value for name, value in progress.items() if value is not None})

    return TransformContext(
        from_version=Version(1), to_version=Version(2), simulation=None, past=tmp_path / "past", take_progress=take
    )
