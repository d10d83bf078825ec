"""The example is a model: only the upgrade knows v1alpha, generated code is current, the README shows the real code."""

import importlib.util
from pathlib import Path


def test_only_the_upgrade_knows_the_version_before(example: Path) -> None:
    knowing = {path.name for path in example.glob("*/*.py") if "grpc_reflection" in path.read_text()}
    assert knowing == {"upgrade.py"}
    assert "segue" not in (example / "reflection" / "node.py").read_text()


def test_generated_code_is_what_make_protos_writes(example: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("protos", example.parent / "protos.py")
    assert spec is not None
    assert spec.loader is not None
    protos = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(protos)
    assert example in protos.WITHOUT_RELEASES
    protos.generate(example, tmp_path)
    generated = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.glob("*/*")}
    assert len(generated) == 9
    assert generated == {name: (example / name).read_text() for name in generated}


def test_the_readme_shows_the_code_that_runs(example: Path) -> None:
    """Each block of Python in the README is somewhere in the example, but for its indentation."""
    blocks = (example / "README.md").read_text().split("```python\n")[1:]
    shown = [[line.strip() for line in block.split("```")[0].splitlines() if line.strip()] for block in blocks]
    assert shown
    for lines in shown:
        assert any(set(lines) <= set(map(str.strip, path.read_text().splitlines())) for path in example.glob("*/*.py"))
