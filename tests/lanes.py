"""Runs every test in two lanes and says what came of both: `python -m tests.lanes [further options of pytest]`.

First those that others may run beside, in a process for each processor; then those marked `alone`, in one. Each lane
says of itself what pytest says. The second runs even if the first fails, and a failure in either is one of the whole.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

#: More of them want more memory, and more of PostgreSQL, than they save time.
_PROCESSES_LIMIT = 4


def lanes() -> dict[str, Sequence[str]]:
    """Return the options of each lane: `{its name: options of pytest}`."""
    processes = str(min(os.cpu_count() or 1, _PROCESSES_LIMIT))
    return {
        "beside each other": ("-m", "not crash and not alone", "--numprocesses", processes, "--dist", "worksteal"),
        "alone": ("-m", "not crash and alone"),
    }


def run(options: Sequence[str]) -> tuple[int, Counter[str]]:
    """Run pytest, and return its exit status and how many tests ended how."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        status = subprocess.run(
            [sys.executable, "-m", "pytest", f"--junit-xml={report}", *options], check=False
        ).returncode
        return status, ended(report) if report.exists() else Counter()


def ended(report: Path) -> Counter[str]:
    """Count the tests of a report by how they ended."""
    found: Counter[str] = Counter()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
        found["failed"] += counts["failures"] + counts["errors"]
        found["skipped"] += counts["skipped"]
        found["passed"] += counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    return found


def main(further: Sequence[str]) -> int:
    """Run both lanes, and return 0 if all went well in both."""
    began = time.monotonic()
    total: Counter[str] = Counter()
    failed = []
    for name, options in lanes().items():
        print(f"tests that run {name}", flush=True)
        status, found = run([*options, *further])
        total += found
        if status:
            failed.append(f"{name} (pytest ended with status {status})")
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    sums = ", ".join(f"{total[how]} {how}" for how in ("failed", "passed", "skipped") if total[how] or how == "passed")
    print(f"==== both lanes together: {sums} in {minutes} min {seconds} s ====")
    if failed:
        print(f"not all went well in the tests that run {' and '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
