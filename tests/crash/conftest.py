"""The ways without a crash, once for all crashes; and options to look into one crash."""

from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from segue.testing.crashing.trials import Trials
from segue.testing.crashing.trials import trials as run_trials

#: Of all that is random, unless another is asked for.
SEED = "20260301"
_SUMMARY = pytest.StashKey[Sequence[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash-seed", default=SEED, help="what the values, and the times of crashes, are drawn from")
    parser.addoption("--crash-only", default="", help="crash only at points, and in random trials, whose name has this")


@pytest.fixture(scope="session")
def crash_only(request: pytest.FixtureRequest) -> str:
    """What the names of points and random trials must have."""
    return str(request.config.getoption("--crash-only", ""))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trials(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Trials]:
    """Runs trials."""
    config = request.config
    async with run_trials(tmp_path_factory.mktemp("crash"), str(config.getoption("--crash-seed", SEED))) as found:
        yield found
        config.stash[_SUMMARY] = tuple(found.summary())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_SUMMARY, ()):
        terminalreporter.write_line(line)
