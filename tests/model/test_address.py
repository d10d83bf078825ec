"""An address is HOST:PORT, [IPV6]:PORT or unix:/PATH, and one error says so of all else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import OperatorError
from segue.model.address import TcpAddress, UnixAddress, read_address, read_addresses, split_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9001", TcpAddress("127.0.0.1", 9001)),
        ("0.0.0.0:1", TcpAddress("0.0.0.0", 1)),
        ("n1.example:65535", TcpAddress("n1.example", 65535)),
        ("[::1]:9001", TcpAddress("::1", 9001)),
        ("[::]:9001", TcpAddress("::", 9001)),
        ("[fe80::1%eth0]:9001", TcpAddress("fe80::1%eth0", 9001)),
        ("unix:/run/n1.sock", UnixAddress("/run/n1.sock")),
        ("unix:/with a space/é", UnixAddress("/with a space/é")),
    ],
)
def test_what_is_an_address_is_read_and_written_the_same(text: str, address: TcpAddress | UnixAddress) -> None:
    """So it can be handed on as text."""
    assert read_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *["", "9001", "127.0.0.1", "127.0.0.1:", ":9001", "127.0.0.1:0", "h:99999", "h:x", "h:-1", "h:१२"],
        *["::1:9001", "[::1]", "[::1]9001", "[127.0.0.1]:9001", "[h]:1", "[]:1", "h/x:1", "a b:1", "[[::1]]:1"],
        *["tcp://h", "http://h:1"],
    ],
)
def test_what_is_no_port_is_refused(text: str) -> None:
    """The message has the text, and shows how an address is written."""
    with pytest.raises(OperatorError, match="HOST:PORT") as raised:
        read_address(text)
    assert repr(text) in str(raised.value)
    with pytest.raises(OperatorError, match="HOST:PORT"):
        split_address(text)


@pytest.mark.parametrize(
    "text", ["unix:", "unix:x", "unix:run/x", "unix:///run/x", "unix:/run/", "unix:/.", "unix:/a\0"]
)
def test_what_is_no_path_of_a_socket_is_refused(text: str) -> None:
    """One form only, so that two texts are two sockets."""
    with pytest.raises(OperatorError, match="absolute path"):
        read_address(text)


@given(st.integers(1, 130), st.integers(1, 130))
def test_a_path_is_taken_only_if_the_kernel_takes_it_and_a_name_beside_it(folder: int, name: int) -> None:
    """107 bytes, of the path itself and of the name that a process has for the socket before it shows it."""
    text = f"unix:/{'f' * folder}/{'n' * name}"
    fits = len(text) - len("unix:") <= 107 and 1 + folder + len("/.01234567") <= 107
    if fits:
        assert str(read_address(text)) == text
    else:
        with pytest.raises(OperatorError, match="at most 107 bytes"):
            read_address(text)


def test_bytes_are_counted_not_letters() -> None:
    with pytest.raises(OperatorError, match="at most 107 bytes"):
        read_address(f"unix:/{'é' * 60}")


@pytest.mark.parametrize(
    "texts", [("127.0.0.1:1", "127.0.0.1:1"), ("0.0.0.0:1", "[::]:1"), ("unix:/x", "h:1", "unix:/x")]
)
def test_an_address_is_given_once(texts: tuple[str, ...]) -> None:
    """Also if it is written in two ways: a process would share a port with itself."""
    with pytest.raises(OperatorError, match="are the same"):
        read_addresses(texts)


def test_a_node_has_an_address() -> None:
    with pytest.raises(OperatorError, match="--listen"):
        read_addresses(())
    assert read_addresses(("0.0.0.0:1", "0.0.0.0:2", "[::1]:1")) == (
        TcpAddress("0.0.0.0", 1), TcpAddress("0.0.0.0", 2), TcpAddress("::1", 1)
    )  # fmt: skip
