"""The example is a model: only the upgrade knows v0, the README shows the real code and lists each method of v0."""

from pathlib import Path

from permissions.stubs import acl_service_pb2, developer_pb2, namespace_service_pb2, watch_service_pb2


def test_only_the_upgrade_knows_the_version_before(example: Path) -> None:
    knowing = {path.name for path in example.glob("*/*.py") if "v0" in path.read_text()}
    assert knowing == {"__init__.py", "configs.py", "enable.py", "stubs.py", "upgrade.py"}
    for name in ("node.py", "schema.py", "snapshot.py", "store.py"):
        assert "segue" not in (example / "permissions" / name).read_text()


def test_the_readme_shows_the_code_that_runs(example: Path) -> None:
    """Each block of Python in the README is somewhere in the example, but for its indentation."""
    blocks = (example / "README.md").read_text().split("```python\n")[1:]
    shown = [[line.strip() for line in block.split("```")[0].splitlines() if line.strip()] for block in blocks]
    assert shown
    for lines in shown:
        assert any(set(lines) <= set(map(str.strip, path.read_text().splitlines())) for path in example.glob("*/*.py"))


def test_the_readme_lists_each_method(example: Path) -> None:
    rows = [line.split("|")[1].strip() for line in (example / "README.md").read_text().splitlines() if "| `" in line]
    files = (acl_service_pb2, namespace_service_pb2, watch_service_pb2, developer_pb2)
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    assert rows == [f"`{service.name}.{method.name}`" for service in services for method in service.methods]
