"""The page docs/layer-alone.md does what it says: its code is taken from it, and run."""

import asyncio
import difflib
import importlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import segue
from segue.local import free_ports

PAGE = Path(__file__).parents[2] / "docs" / "layer-alone.md"

#: Lines of code that a team adds at most.
_LINES_LIMIT = 15


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def block(name: str) -> str:
    """Return the one block whose first line is the comment `name`."""
    [found] = [code for code in blocks("python") if code.startswith(f"# {name}\n")]
    return found.partition("\n")[2]


@pytest.fixture(scope="module", autouse=True)
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The generated code of the page's protocol, to be imported."""
    folder = tmp_path_factory.mktemp("shop")
    [proto] = blocks("proto")
    # There is another `shop` among the examples, and protobuf has one of a name in a process.
    (folder / "shop.proto").write_text(proto.replace("package shop;", "package shop.alone;"))
    [command] = blocks("sh")
    program, *arguments = command.split()
    assert program == "python"
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, timeout=15)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield
    sys.path.remove(str(folder))
    for name in ("shop_pb2", "shop_pb2_grpc"):
        sys.modules.pop(name, None)


def run(name: str) -> dict[str, Any]:
    """Return what a block defines."""
    names: dict[str, Any] = {}
    exec(compile(block(name), f"{PAGE.name}, {name}", "exec"), names)
    return names


def free_address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def test_all_code_of_the_page_is_tried() -> None:
    """A block that is added needs a test."""
    assert [code.partition("\n")[0].removeprefix("# ") for code in blocks("python")] == [
        "aio server, before",
        "aio server, after",
        "threaded server, before",
        "threaded server, after",
        "aio client",
        "threaded client",
        "aio, who still calls",
    ]


@pytest.mark.parametrize("kind", ["aio", "threaded"])
def test_fifteen_lines_at_most_are_added(kind: str) -> None:
    """Blank ones are not counted; changed ones are."""
    before, after = (block(f"{kind} server, {when}").splitlines() for when in ("before", "after"))
    added = [line for line in difflib.ndiff(before, after) if line.startswith("+ ") and line[2:].strip()]
    assert 0 < len(added) <= _LINES_LIMIT, added


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The `versions` of the page's servers, once they have made it."""
    made: list[Any] = []
    for name in ("Versions", "SyncVersions"):
        kind = getattr(segue, name)

        def make(*args: Any, kind: Any = kind, **options: Any) -> Any:
            made.append(kind(*args, **options))
            return made[-1]

        monkeypatch.setattr(segue, name, make)
    return made


@pytest.mark.parametrize("kind", ["aio", "threaded"])
async def test_before(kind: str, made: list[Any]) -> None:
    """Everybody is told the price of version 2, which is what the page is about."""
    assert await _prices(kind, "before", made) == [1200] * 3


@pytest.mark.parametrize("kind", ["aio", "threaded"])
async def test_after(kind: str, made: list[Any]) -> None:
    """Clients of both versions, of both kinds, and those without a label, which are of version 1."""
    assert await _prices(kind, "after", made) == [1000, 1200, 1000]


async def _prices(kind: str, when: str, made: list[Any]) -> list[int]:
    """Return what clients of version 1, of version 2, and without a label are told by the page's server."""
    serve = run(f"{kind} server, {when}")["serve"]
    address = free_address()
    found: list[int] = []
    if kind == "aio":
        ask = run("aio client")["price"]

        async def until() -> None:
            found.extend([await ask(address, 1), await ask(address, 2), await asyncio.to_thread(_unlabelled, address)])
            for versions in made:
                await _retire(address, versions)

        await serve(address, until)
    else:
        ask = run("threaded client")["price"]

        def look() -> None:
            found.extend([ask(address, 1), ask(address, 2), _unlabelled(address)])
            for versions in made:
                assert run("aio, who still calls")["callers_of"](versions, 2) == {"till": 1}
                versions.retire(2)
                assert versions.answered == [2]

        await asyncio.to_thread(serve, address, look)
        assert not [thread for thread in threading.enumerate() if thread.name == "segue-versions"]
    assert len(made) == (when == "after")
    return found


async def _retire(address: str, versions: Any) -> None:
    """Retire version 1 as the page does it: not while somebody calls with it."""
    page = run("aio, who still calls")
    assert page["callers_of"](versions, 1) == {"127.0.0.1": 2}
    await page["retire"](versions)
    assert versions.answered == [1, 2]
    await versions.retire(2)
    with pytest.raises(grpc.RpcError) as caught:
        await run("aio client")["price"](address, 1)
    refusal = segue.refusal_of(caught.value)
    assert refusal is not None
    assert refusal.reason == "RETIRED_VERSION"


def _unlabelled(address: str) -> int:
    messages, services = (importlib.import_module(name) for name in ("shop_pb2", "shop_pb2_grpc"))
    with grpc.insecure_channel(address) as channel:
        cents: int = services.ShopStub(channel).Price(messages.PriceRequest(item="spoon")).cents
        return cents
