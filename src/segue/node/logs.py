"""Logs of a node's processes: on standard error, for people, or as one JSON object a line.

The agent says which in its environment, so that the application's process begins with it: what goes wrong before it has
its plan is in the same form.
"""

import io
import json
import logging
import os
import sys
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Self

#: Where the settings are for the processes that the agent starts.
_VARIABLE = "SEGUE_LOG"


class LogFormat(StrEnum):
    """Who reads the log."""

    HUMAN = "human"
    JSON = "json"


class LogLevel(StrEnum):
    """What is logged: this and what is graver."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How a node's processes log.

    Attributes:
        format: for people or for programs.
        level: from which level on.
        system, node: whose logs they are; empty where nobody said.
    """

    format: LogFormat = LogFormat.HUMAN
    level: LogLevel = LogLevel.INFO
    system: str = ""
    node: str = ""

    @classmethod
    def of_environment(cls) -> Self:
        """Return the settings that the agent which started this process passed on; plain ones if it did not."""
        said = json.loads(os.environ.get(_VARIABLE, "{}"))
        if not said:
            return cls()
        return cls(
            format=LogFormat(said["format"]), level=LogLevel(said["level"]), system=said["system"], node=said["node"]
        )

    def pass_on(self) -> None:
        """Have the processes that this one starts log the same way."""
        os.environ[_VARIABLE] = json.dumps(asdict(self))


class JsonLines(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, `system`, `node`, `process`, `pid`, `exc`.

    `exc` is the traceback, and is there only if there is one.

    Args:
        settings: whose logs they are.
        process: which of the node's processes this is.
    """

    def __init__(self, settings: LogSettings, process: str) -> None:
        super().__init__()
        self._whose = {"system": settings.system, "node": settings.node, "process": process}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._whose,
            "pid": record.process,
        }
        if record.exc_info:
            line["exc"] = self.formatException(record.exc_info)
        return json.dumps(line)


class LoggedText(io.TextIOBase):
    """A stream for what others print, each line of which goes into the log.

    Args:
        name: the logger's.
        level: as which the lines are logged.
    """

    def __init__(self, name: str, level: int) -> None:
        self._logger = logging.getLogger(name)
        self._level = level
        self._rest = ""
        #: A handler that fails complains on standard error, which would come back here.
        self._inside = threading.local()

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of standard error, for what is given this stream to write to by itself."""
        return (sys.__stderr__ or sys.stderr).fileno()

    def write(self, text: str) -> int:
        """Log the lines that are whole now."""
        *lines, self._rest = (self._rest + text).split("\n")
        if not getattr(self._inside, "is_so", False):
            self._inside.is_so = True
            try:
                for line in lines:
                    if line.strip():
                        self._logger.log(self._level, "%s", line)
            finally:
                self._inside.is_so = False
        return len(text)


def set_up(settings: LogSettings, process: str) -> None:
    """Have this process log to standard error.

    Args:
        settings: how.
        process: which of the node's processes this is, such as `agent`.
    """
    handler = logging.StreamHandler(sys.stderr)
    if settings.format is LogFormat.JSON:
        handler.setFormatter(JsonLines(settings, process))
        logging.captureWarnings(True)
        sys.excepthook = _log_end
        threading.excepthook = _log_thread
    else:
        node = f"{settings.node} ".lstrip().replace("%", "%%")
        handler.setFormatter(logging.Formatter(f"%(asctime)s {node}%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler])
    if settings.level is not LogLevel.DEBUG:
        logging.getLogger("httpx").setLevel(logging.WARNING)


def take_prints(settings: LogSettings) -> None:
    """Have what Python code prints in this process logged too, where every line is to be JSON.

    What libraries in C write to standard error by themselves is not seen.
    """
    if settings.format is LogFormat.JSON:
        sys.stdout = LoggedText("stdout", logging.INFO)
        sys.stderr = LoggedText("stderr", logging.WARNING)


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("segue").critical("ended by %s", kind.__name__, exc_info=(kind, error, trace))


def _log_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        where = ended.thread.name if ended.thread else "a thread"
        logging.getLogger("segue").error("%s ended by %s", where, ended.exc_type.__name__, exc_info=ended.exc_value)
