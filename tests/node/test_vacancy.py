"""A node's addresses are taken only when nobody has them, and nothing that is not a socket's leftover is removed."""

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from segue.errors import OperatorError
from segue.model.address import read_address
from segue.node.vacancy import check_free


def listener(host: str, *, share: bool = True) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC's
    if share:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host, 0))
    made.listen(64)
    return made


def check(*texts: str) -> None:
    check_free([read_address(text) for text in texts])


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "[::]"),
        ("::1", "[::1]"),
        ("::1", "0.0.0.0"),
        ("::1", "[::]"),
    ],
)
def test_a_port_that_somebody_has_is_refused_even_if_they_would_share_it(share: bool, theirs: str, ours: str) -> None:
    """Two nodes on one port would answer each other's callers. A wildcard is all addresses, of both kinds."""
    with closing(listener(theirs, share=share)) as other:
        address = f"{ours}:{other.getsockname()[1]}"
        with pytest.raises(OperatorError, match="cannot listen at") as raised:
            check(address)
    assert address in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "0.0.0.0", "[::]"])
def test_a_port_that_nobody_has_is_free(host: str) -> None:
    """The probe leaves nothing behind: it can be asked again."""
    with closing(listener("127.0.0.1")) as other:
        port = other.getsockname()[1]
    check(f"{host}:{port}")
    check(f"{host}:{port}")


def test_connections_that_linger_do_not_count_as_somebody() -> None:
    """A node that starts again a moment after it ended."""
    with closing(listener("127.0.0.1")) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()
    check(f"127.0.0.1:{port}")
    client.close()


@pytest.mark.parametrize("address", ["a..b:9001", "192.0.2.1:9001"])
def test_an_address_that_is_not_this_machines_is_refused(address: str) -> None:
    with pytest.raises(OperatorError, match=f"cannot listen at {address}"):
        check(address)


def test_two_names_of_one_address_are_refused() -> None:
    with closing(listener("127.0.0.1")) as other:
        port = other.getsockname()[1]
    with pytest.raises(OperatorError, match="are the same"):
        check(f"127.0.0.1:{port}", f"localhost:{port}")


def test_a_path_where_nothing_is_or_a_leftover_is_free(tmp_path: Path) -> None:
    """A process that was killed leaves its socket; it stays until a new one is put in its place."""
    path = tmp_path / "n1 é.sock"
    check(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()
    check(f"unix:{path}")
    assert path.exists()


@pytest.mark.parametrize("backlog", [1, 0])
def test_a_socket_where_somebody_listens_is_refused(tmp_path: Path, backlog: int) -> None:
    """However many wait to be accepted."""
    path = tmp_path / "n1.sock"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waits:
        other.bind(str(path))
        other.listen(backlog)
        if backlog == 0:
            waits.connect(str(path))
        with pytest.raises(OperatorError, match="somebody does"):
            check(f"unix:{path}")


@pytest.mark.parametrize("what", ["a file", "a folder", "a link", "a datagram socket"])
def test_what_is_not_ours_is_left_alone(tmp_path: Path, what: str) -> None:
    path = tmp_path / "n1.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        match what:
            case "a file":
                path.write_text("precious")
            case "a folder":
                path.mkdir()
            case "a link":
                path.symlink_to(tmp_path / "elsewhere")
            case _:
                datagrams.bind(str(path))
        with pytest.raises(OperatorError, match="remove"):
            check(f"unix:{path}")
    assert os.path.lexists(path)


def test_the_folder_of_a_socket_must_be_there(tmp_path: Path) -> None:
    """It is the operator's, who says by its permissions who may call."""
    with pytest.raises(OperatorError, match="is no folder in which this user can write"):
        check(f"unix:{tmp_path}/missing/n1.sock")
    (tmp_path / "file").touch()
    with pytest.raises(OperatorError, match="is no folder in which this user can write"):
        check(f"unix:{tmp_path}/file/n1.sock")
