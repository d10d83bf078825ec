"""What all tests share: where they must pass, they must run."""

import os
from collections.abc import Generator

import pytest

from segue.local import machine


def pytest_configure(config: pytest.Config) -> None:
    """Give each process that runs tests beside others ports of its own: what one was given, no other may be."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        count, number = worker["workercount"], int(worker["workerid"].removeprefix("gw"))
        share = len(machine._PORTS) // count
        machine._PORTS = machine._PORTS[number * share : (number + 1) * share]  # the seam


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have a test that was skipped, for want of a program or a right, count as failed where `CI` is set."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"this was skipped, and CI is set: {report.longrepr}"
    return report
