"""Rule: the server says when it is ready, or in one line why it cannot be, before anything has started."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.errors import OperatorError
from segue.model.ids import NodeId
from segue.release.bundle import content_hash
from segue.server.app import serve
from segue.testing.server import SYSTEM, bundle_of
from segue.wire.client import UpgradeServer
from segue.wire.messages import Heartbeat, PermitRequest

PROGRAM = """
import sys
from pathlib import Path
from segue.server.app import serve
def ready(url):
    print(url, flush=True)
try:
    serve(Path(sys.argv[1]), host="127.0.0.1", port=0, limit_bytes=100_000, on_ready=ready)
except KeyboardInterrupt:
    pass
"""


class Process:
    """A server process and its URL."""

    def __init__(self, data: Path) -> None:
        command = [sys.executable, "-c", PROGRAM, str(data)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def stop(self) -> tuple[int, str, str]:
        """End it as Ctrl-C would; return its exit code and all that it wrote."""
        self.process.send_signal(2)
        output, errors = self.process.communicate(timeout=10)
        return self.process.returncode, output, errors


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "data")
    yield process
    if process.process.poll() is None:
        process.process.kill()
        process.process.communicate()


async def upgrade(server: UpgradeServer, node: NodeId) -> None:
    said = Heartbeat(class_name="BlockNode", version=1, address="127.0.0.1:9001", phase="waiting")
    assert (await server.heartbeat(SYSTEM, node, said)).newest == 2
    request = PermitRequest(class_name="BlockNode", from_version=1, to_version=2)
    answer = await server.ask_permit(SYSTEM, node, request)
    assert answer.permit is not None
    await server.return_permit(SYSTEM, node, answer.permit)


@pytest.mark.end_to_end
async def test_a_real_server_is_quiet_and_forgets_nothing(process: Process, tmp_path: Path) -> None:
    bundles = [bundle_of(1), bundle_of(2)]
    async with UpgradeServer(process.url) as server:
        for bundle in bundles:
            await server.publish(bundle)
            assert await server.fetch(content_hash(bundle)) == bundle
        await upgrade(server, NodeId("n1"))
        with pytest.raises(OperatorError, match="larger than 100000 bytes"):
            await server.publish(b"x" * 5_000_000)
        before = await server.status(SYSTEM)
    assert process.stop() == (0, "", "")

    again = Process(tmp_path / "data")
    try:
        async with UpgradeServer(again.url) as server:
            after = await server.status(SYSTEM)
            assert await server.fetch(content_hash(bundles[1])) == bundles[1]
    finally:
        again.stop()
    assert (after.releases, after.nodes, after.permits) == (before.releases, before.nodes, before.permits)


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = f"cannot listen on 127.0.0.1:{port}: Address already in use: stop what listens there"
        with pytest.raises(OperatorError, match=message):
            serve(tmp_path / "data", host="127.0.0.1", port=port)
    assert not (tmp_path / "data").exists()


def test_a_host_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"^cannot listen on x+:0: [^:]+: choose another address$"):
        serve(tmp_path / "data", host="x" * 100, port=0)


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OperatorError, match=r"data/bundles cannot hold bundles: .*: choose another data folder"):
        serve(tmp_path / "data", host="127.0.0.1", port=0)
