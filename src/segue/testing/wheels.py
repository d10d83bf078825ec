"""Small wheels, and an index of them on loopback, for tests that must not use a network."""

import base64
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A built wheel.

    Attributes:
        name: its file's name.
        content: its bytes, the same for the same arguments of `make_wheel`.
    """

    name: str
    content: bytes

    @property
    def hash(self) -> str:
        """Its hash, as a lock has it."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def line(self) -> str:
        """Return the line of a lock that names this wheel."""
        name, version = self.name.split("-")[:2]
        return f"{name}=={version} --hash={self.hash}\n"

    def write(self, folder: Path) -> Path:
        """Write it into `folder`, which is made if missing, and return its file."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.name).write_bytes(self.content)
        return folder / self.name


def make_wheel(name: str, version: str, files: Mapping[str, str], *, tag: str = "py3-none-any") -> Wheel:
    """Return a wheel of these files.

    Args:
        name: the distribution's name.
        version: its version.
        files: `{path: text}`.
        tag: which Pythons and machines it is for.
    """
    info = f"{name}-{version}.dist-info"
    texts = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: segue\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    texts[f"{info}/RECORD"] = "".join(map(_recorded, texts, texts.values())) + f"{info}/RECORD,,\n"
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as wheel:
        for path, text in texts.items():
            wheel.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return Wheel(name=f"{name}-{version}-{tag}.whl", content=held.getvalue())


def unzip(wheel: Wheel, folder: Path) -> None:
    """Put a wheel's files into `folder`, as an installer would."""
    with zipfile.ZipFile(io.BytesIO(wheel.content)) as files:
        files.extractall(folder)


@dataclass(slots=True, kw_only=True)
class Index:
    """A package index under test.

    Attributes:
        url: where it is.
        wheels: what it has: `{file name: content}`.
        lost: names of files that it lists and does not have.
        status: what it answers with instead, if not 200.
        is_silent: True to take requests and never answer.
        asked: the paths that were asked for.
    """

    url: str
    wheels: dict[str, bytes] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    status: int = 200
    is_silent: bool = False
    asked: list[str] = field(default_factory=list)

    def add(self, wheel: Wheel) -> None:
        """Have it offer a wheel."""
        self.wheels[wheel.name] = wheel.content


@contextmanager
def serving_index() -> Iterator[Index]:
    """Serve an index on loopback, in a thread of this process, until the context is left."""
    ended = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            if index.is_silent:
                ended.wait()
                return
            status, body = _answer(index, self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/zip" if self.path.endswith(".whl") else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index = Index(url=f"http://127.0.0.1:{server.server_port}/simple")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield index
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(index: Index, path: str) -> tuple[int, bytes]:
    kind, _, rest = path.strip("/").partition("/")
    if index.status != 200:
        return index.status, b""
    if kind == "wheels" and rest in index.wheels.keys() - index.lost:
        return 200, index.wheels[rest]
    found = sorted(name for name in index.wheels if kind == "simple" and name.partition("-")[0] == rest)
    links = "".join(f'<a href="/wheels/{name}">{name}</a>\n' for name in found)
    return (200, f"<!DOCTYPE html>\n{links}".encode()) if found else (404, b"")


def _recorded(path: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    return f"{path},sha256={digest},{len(text.encode())}\n"
