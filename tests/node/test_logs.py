"""A log for programs is one JSON object a line, whatever is logged, printed or raised."""

import json
import logging
import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from typing import Any

import pytest

from segue.node.logs import JsonLines, LoggedText, LogSettings, set_up

SETTINGS = '{"format": "json", "level": "info", "system": "blockstore", "node": "n1"}'


def logged(code: str, settings: str = SETTINGS, *, status: int = 0) -> str:
    """Run `code` in a process that logs by `settings`, and return what came on standard error: out has nothing."""
    begin = """
        import logging, sys, threading
        from segue.node.logs import LogSettings, set_up, take_prints
        set_up(LogSettings.of_environment(), "application")
        take_prints(LogSettings.of_environment())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(begin) + textwrap.dedent(code)],
        env={**os.environ, "SEGUE_LOG": settings}, capture_output=True, text=True, timeout=15, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    return done.stderr


def objects(code: str, *, status: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(code, status=status).splitlines()]


def test_what_is_logged() -> None:
    """Each field is there, the traceback in one of its own, and the line is one however many the message has."""
    first, second = objects("""
        logging.getLogger("a.b").info("two\\nlines %s \\udc80", "é")
        try:
            1 / 0
        except ZeroDivisionError:
            logging.getLogger("a.b").exception("broken")
    """)
    at = datetime.fromisoformat(first.pop("time"))
    assert at.tzinfo == UTC
    assert first.pop("pid") > 0
    assert first == {
        "level": "info", "logger": "a.b", "message": "two\nlines é \udc80", "system": "blockstore", "node": "n1",
        "process": "application",
    }  # fmt: skip
    assert (second["level"], second["message"]) == ("error", "broken")
    assert second["exc"].startswith("Traceback")
    assert "ZeroDivisionError" in second["exc"]


def test_what_is_printed() -> None:
    """By the author's code, to either stream; a line once it is whole."""
    lines = objects("""
        print("half", end="", flush=True)
        print(" a line")
        print("one\\ntwo\\n", file=sys.stderr)
    """)
    assert [(line["logger"], line["level"], line["message"]) for line in lines] == [
        ("stdout", "info", "half a line"),
        ("stderr", "warning", "one"),
        ("stderr", "warning", "two"),
    ]


def test_what_is_raised() -> None:
    """In the process's own thread, and in another."""
    thread, end = objects(
        """
        def broken():
            raise KeyError("x")
        thread = threading.Thread(target=broken)
        thread.start()
        thread.join()
        raise ValueError("the end")
        """,
        status=1,
    )
    assert "KeyError" in thread["exc"]
    assert (end["level"], end["message"]) == ("critical", "ended by ValueError")
    assert "the end" in end["exc"]


def test_warnings() -> None:
    (line,) = objects("import warnings; warnings.warn('old')")
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")


def test_a_child_of_the_authors_code_may_write_to_standard_error() -> None:
    """It gets the descriptor: what it writes there itself is not JSON."""
    assert logged("import subprocess; subprocess.run(['echo', 'x'], stdout=sys.stderr, check=True)") == "x\n"


def test_the_level() -> None:
    code = "logging.info('i'); logging.error('e')"
    assert logged(code, SETTINGS.replace("info", "error")).count("\n") == 1


def test_people_read_lines_with_the_nodes_name() -> None:
    """And prints are left alone."""
    said = logged(
        "logging.getLogger('a.b').info('hello'); print('x', file=sys.stderr)", SETTINGS.replace("json", "human")
    )
    first, second = said.splitlines()
    assert first.endswith(" n1 INFO a.b: hello")
    assert second == "x"


def test_a_process_that_was_told_nothing_logs_for_people() -> None:
    assert logged("logging.info('hello')", "{}").endswith(" INFO root: hello\n")


def test_settings_reach_the_processes_that_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_LOG", SETTINGS)
    settings = LogSettings.of_environment()
    monkeypatch.setenv("SEGUE_LOG", "{}")
    settings.pass_on()
    assert LogSettings.of_environment() == settings


def test_a_log_that_cannot_be_written_ends_in_no_circle() -> None:
    """logging complains on standard error, which is the log."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text.write("the handler complains\n")
            seen.append(record.getMessage())

    seen: list[str] = []
    text = LoggedText("broken", logging.INFO)
    log = logging.getLogger("broken")
    log.addHandler(Broken())
    log.setLevel(logging.INFO)
    log.propagate = False
    text.write("one\n")
    assert seen == ["one"]


def test_the_form_and_the_set_up_are_for_any_process() -> None:
    assert callable(set_up)
    assert json.loads(JsonLines(LogSettings(), "agent").format(logging.makeLogRecord({"msg": "x"})))["message"] == "x"
