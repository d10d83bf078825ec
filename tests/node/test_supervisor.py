"""A supervisor hears what sd_notify(3) has it hear; without one, or with one that is gone, the agent works on."""

import socket
from pathlib import Path

import pytest

from segue.node.supervisor import Supervisor


@pytest.mark.parametrize("address", ["{folder}/notify", "@segue-test-{folder}"])
def test_each_message_is_a_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """To a socket in the file system or an abstract one; and nobody that the agent starts can speak there."""
    name = address.format(folder=tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        supervisor = Supervisor.of_environment()
        supervisor.ready()
        supervisor.status("runs version 1, serving")
        supervisor.stopping()
        assert [listener.recv(4096) for _ in range(3)] == [b"READY=1", b"STATUS=runs version 1, serving", b"STOPPING=1"]
    assert repr(Supervisor.of_environment()) == "Supervisor(None)"


def test_nobody_listens(tmp_path: Path) -> None:
    Supervisor().ready()
    Supervisor(str(tmp_path / "gone")).ready()
