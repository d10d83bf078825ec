"""A node's TLS files are looked at when its agent starts: what cannot be used is named in one line."""

import subprocess
from pathlib import Path

import pytest

from segue.errors import OperatorError
from segue.layer.tls import TlsFiles
from segue.testing.certificates import Authority, Signed


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def signed(authority: Authority) -> Signed:
    return authority.sign("n1")


def test_what_fits_together_passes(authority: Authority, signed: Signed) -> None:
    TlsFiles().check()
    TlsFiles(ca=str(authority.cert)).check()
    TlsFiles(cert=str(signed.cert), key=str(signed.key), client_ca=str(authority.cert), ca=str(authority.cert)).check()


@pytest.mark.parametrize("given", [{"cert": "c"}, {"key": "k"}, {"client_ca": "a"}, {"ca": "a", "client_ca": "a"}])
def test_what_is_of_no_use_alone_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(OperatorError, match="--tls-"):
        TlsFiles(**given)


@pytest.mark.parametrize(("field", "option"), [("cert", "--tls-cert"), ("key", "--tls-key"), ("client_ca", "--tls-cl")])
@pytest.mark.parametrize("content", [None, "", "no PEM\n", "a folder"])
def test_a_file_that_is_not_there_or_not_what_it_should_be_is_named(
    field: str, option: str, content: str | None, authority: Authority, signed: Signed, tmp_path: Path
) -> None:
    """With its option and its path."""
    bad = tmp_path / "bad"
    if content == "a folder":
        bad.mkdir()
    elif content is not None:
        bad.write_text(content)
    fields = {"cert": str(signed.cert), "key": str(signed.key), "client_ca": str(authority.cert), field: str(bad)}
    with pytest.raises(OperatorError, match=option) as raised:
        TlsFiles(**fields).check()
    assert str(bad) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_authorities_of_servers_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("nothing")
    with pytest.raises(OperatorError, match=r"--tls-ca .*: no certificate"):
        TlsFiles(ca=str(tmp_path / "ca")).check()


def test_another_certificates_key_is_refused(authority: Authority, signed: Signed) -> None:
    other = authority.sign("n2")
    with pytest.raises(OperatorError, match="key values mismatch"):
        TlsFiles(cert=str(signed.cert), key=str(other.key)).check()


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(signed: Signed, tmp_path: Path) -> None:
    """An agent has nobody to ask."""
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", str(signed.key), "-aes128", "-passout", "pass:secret", "-out", str(locked)],
        check=True,
    )
    with pytest.raises(OperatorError, match="without a passphrase"):
        TlsFiles(cert=str(signed.cert), key=str(locked)).check()
