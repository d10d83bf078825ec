"""The unit and the manifest on the page of supervisors can be read, agree in themselves, and name options there are."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = "under-a-supervisor.md"

Page = Any  #: conftest's


def block(page: Page, name: str) -> str:
    (found,) = (block.code for block in page.blocks if block.name == name)
    return str(found)


@pytest.fixture(scope="module")
def options() -> frozenset[str]:
    """The options that `segue node` takes."""
    done = subprocess.run(
        [sys.executable, "-m", "segue", "node", "--help"], capture_output=True, text=True, timeout=15, check=True
    )
    return frozenset(re.findall(r"--[a-z][a-z-]*", done.stdout))


def test_options_of_the_unit(page: Page, options: frozenset[str]) -> None:
    used = set(re.findall(r"(?<= )--[a-z-]+", block(page, "blockstore@.service")))
    assert len(used) > 5
    assert used <= options


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_the_unit_is_one(page: Page, tmp_path: Path) -> None:
    """systemd reads it without a complaint; only its program is not there on this machine."""
    unit = block(page, "blockstore@.service").replace("/opt/segue/bin/segue", sys.executable)
    (tmp_path / "blockstore@.service").write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "blockstore@n1.service")],
        capture_output=True, text=True, timeout=15, check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:/usr/lib/systemd/system", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "blockstore@" in line] == []
    assert done.returncode == 0, done.stderr


def test_every_field_of_the_unit_is_explained(page: Page) -> None:
    """But for those that every unit has."""
    text = Path(__file__).parents[2].joinpath("docs", PAGE).read_text()
    keys = {
        line.split("=")[0] for line in block(page, "blockstore@.service").splitlines() if re.match(r"[A-Z]\w+=", line)
    }
    usual = {"Description", "Wants", "After", "ExecStart", "WantedBy", "Environment"}
    for key in keys - usual:
        assert re.search(rf"`{key}=", text.split("```ini")[1].split("```", 1)[1]), key


@pytest.fixture(scope="module")
def documents(page: Page) -> dict[str, Any]:
    """The manifest: {kind: document}."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not here")
    return {document["kind"]: document for document in yaml.safe_load_all(block(page, "statefulset.yaml"))}


def test_the_manifest_is_a_service_and_a_stateful_set(documents: dict[str, Any]) -> None:
    """That belong together."""
    service, stateful = documents["Service"], documents["StatefulSet"]
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == stateful["spec"]["selector"]["matchLabels"] == labels
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]


def test_options_of_the_container(documents: dict[str, Any], options: frozenset[str]) -> None:
    (container,) = documents["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    used = {argument.split("=")[0] for argument in container["args"]}
    assert used <= options
    known = {variable["name"] for variable in container["env"]}
    assert set(re.findall(r"\$\((\w+)\)", " ".join(container["args"]))) <= known


def test_probes_and_volumes_of_the_container(documents: dict[str, Any]) -> None:
    """A restart is decided by the empty name, readiness by segue.ready, and the state is on the claimed volume."""
    spec = documents["StatefulSet"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    (port,) = (port["containerPort"] for port in container["ports"])
    assert any(argument.endswith(f":{port}") for argument in container["args"])
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["grpc"] == {"port": port}
    assert container["readinessProbe"]["grpc"] == {"port": port, "service": "segue.ready"}
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > 3600
    claimed = {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    volumes = claimed | {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) <= volumes
    assert mounts["/state"] in claimed
