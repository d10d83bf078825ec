"""The code that stands on a page of the documentation, put into files and run as a reader would."""

import importlib
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc.aio
import pytest

import segue

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(?P<language>\w+)(?: (?P<name>[^\n]+))?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language, what follows that on the fence (such as a file's name, or ""), and its text."""

    language: str
    name: str
    code: str


class Page:
    """A page of the documentation, tried in a folder of its own.

    A block whose fence names a file is that file, or its continuation. A block of `python in CLASS` has methods
    that the reader is told to add to that class. Blocks of `sh` are run; one of `text` is what they print.

    Args:
        name: the page's file in docs/.
        folder: empty.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.output = ""
        self.blocks = [
            Block(language=found["language"], name=found["name"] or "", code=found["code"])
            for found in _BLOCK.finditer((DOCS / name).read_text())
        ]
        for block in self.blocks:
            if "." in block.name:
                with (folder / block.name).open("a") as file:
                    file.write(block.code)

    def run(self) -> str:
        """Run the page's commands in their order, and return what they print."""
        commands = "".join(block.code for block in self.blocks if block.language == "sh")
        done = subprocess.run(
            ["bash", "-e", "-c", f'python() {{ "{sys.executable}" -W error "$@"; }}\n{commands}'],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def printed(self) -> str:
        """Return what the page says that its commands print."""
        return "".join(block.code for block in self.blocks if block.language == "text")

    def with_methods(self, module: ModuleType, name: str, *beginnings: str) -> Any:
        """Return a class of the page's code with the methods of its blocks that begin so."""
        blocks = [block.code for block in self.blocks if block.name == f"in {name}"]
        chosen = [next(code for code in blocks if code.startswith(beginning)) for beginning in beginnings]
        space = dict(vars(module))
        exec(f"class {name}({name}):\n" + textwrap.indent("\n".join(chosen), "    "), space)
        return space[name]


@asynccontextmanager
async def _serving(add: Callable[[Any], None], **versions: Any) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    answered = segue.Versions(server, **versions)
    add(answered)
    port = server.add_insecure_port("127.0.0.1:0")
    await answered.start()
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)
        await answered.stop()


@pytest.fixture
def serving() -> Callable[..., AbstractAsyncContextManager[grpc.aio.Channel]]:
    """A channel to a server: `serving(what adds its services, version=…, past=…)`."""
    return _serving


def _register_something(_: object, server: Any) -> None:
    async def nothing(request: bytes, _: Any) -> bytes:
        return request

    handlers: dict[str, Any] = {"Nothing": grpc.unary_unary_rpc_method_handler(nothing)}
    server.add_registered_method_handlers("beyond.Beyond", handlers)


@pytest.fixture
def register_something() -> Callable[[object, Any], None]:
    """A `register` for simulations of which no method is called."""
    return _register_something


@pytest.fixture(scope="module")
def page(request: pytest.FixtureRequest, folder: Path) -> Page:
    """The page that the test's module names as PAGE, whose commands have been run."""
    page = Page(request.module.PAGE, folder)
    page.output = page.run()
    return page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose Python modules can be imported, each page's under names of its own."""
    folder = tmp_path_factory.mktemp("page")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))
