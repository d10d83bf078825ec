"""Rule: the only clock is the database's; no module of the upgrade server reads another, but for how long it waits."""

import re
from pathlib import Path

import segue.server

#: What reads the time, and in SQLite's case is the database's clock.
READS = re.compile(r"datetime\.now|SystemClock|time\.time\(|utcnow")


def test_no_server_reads_a_clock_of_its_own() -> None:
    (folder,) = segue.server.__path__
    found = {path.name for path in Path(folder).rglob("*.py") if READS.search(path.read_text())}
    # The memory store and SQLite are in the server's process: its clock is theirs. In `app` it says how long the answer
    # of a webhook holds.
    assert found == {"app.py", "memory.py", "sqlite.py"}
