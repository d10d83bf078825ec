"""Certificates for tests: an authority of its own, and what it signs, made by the `openssl` command."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from segue.errors import OperatorError


class Signed(NamedTuple):
    """Where a certificate and its key are, each as PEM."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates that are good for a day.

    Args:
        folder: where its files go; it must be there.
        name: what the authority is called.

    Raises:
        OperatorError: there is no `openssl` command.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._own = self._make(name, ("-addext", "basicConstraints=critical,CA:TRUE"))

    @property
    def cert(self) -> Path:
        """The authority's own certificate."""
        return self._own.cert

    def sign(self, name: str, *names: str) -> Signed:
        """Make a key and a certificate, in place of those of the same name.

        Args:
            name: the certificate's common name, and that of its files.
            names: further names, such as `DNS:localhost` and `IP:127.0.0.1`; those of loopback if there are none.
        """
        known_as = ",".join(names or ("DNS:localhost", "IP:127.0.0.1", "IP:::1"))
        return self._make(
            name,
            ("-CA", str(self.cert), "-CAkey", str(self._own.key)),
            ("-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName={known_as}"),
        )

    def _make(self, name: str, *options: tuple[str, ...]) -> Signed:
        command = shutil.which("openssl")
        if command is None:
            raise OperatorError("there is no openssl command, which makes the certificates of tests: install it")
        made = Signed(cert=self._folder / f"{name}.pem", key=self._folder / f"{name}.key")
        # Beside their places, then renamed: a server that has them never sees half a file.
        partial = Signed(*(path.with_name(f"{path.name}.partial") for path in made))
        subprocess.run(
            [
                *(command, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-days", "1", "-subj", f"/CN={name}", "-out", str(partial.cert), "-keyout", str(partial.key)),
                *(word for words in options for word in words),
            ],
            check=True,
            capture_output=True,
        )
        for place, there in zip(made, partial, strict=True):
            there.replace(place)
        return made
