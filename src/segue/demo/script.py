"""What `segue demo` does around the main job: prepare, judge, report, clean up."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from segue.demo import report
from segue.demo.facts import Facts
from segue.demo.fleet import keep_logs, last_line
from segue.demo.main_job import MainJob, Setting
from segue.demo.options import DemoOptions, Source, find_example, find_files, require_matplotlib
from segue.demo.timeline import Timeline, to_json
from segue.demo.verdict import Check, judge
from segue.demo.watch import summary, watch_on
from segue.errors import OperatorError, SegueError

PICTURE_NAME = "timeline.png"
LOGS_NAME = "logs"

_PICTURE_LIMIT_S = 60.0
_SIGNALLED = 128  # what a shell adds to the number of the signal that ended a process


def run(options: DemoOptions, console: Console | None = None) -> int:
    """Run the demo, and leave nothing behind but the report.

    Args:
        options: how.
        console: where it is shown; by default the standard output.

    Returns:
        0 if all was observed that must be, 1 if something was not, 128 and the signal's number if a
        signal (Ctrl-C, SIGTERM) ended it early.

    Raises:
        OperatorError: something that it needs is not there; nothing was started.
        SegueError: a process did not start, or ended of itself; its log is in the report's folder.
    """
    console = console or Console()
    require_matplotlib()
    example, source = find_example(), find_files(options.data)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    _prepare(options.report)
    console.print(f"Segue's demo: {options.nodes} nodes, seed {seed}. Ctrl-C ends it and cleans up.", highlight=False)
    with tempfile.TemporaryDirectory(prefix="segue-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        setting = Setting(source=source, example=example, nodes=options.nodes, seed=seed, folder=folder / "fleet")
        try:
            ended = asyncio.run(_until_told(setting, console))
        except Exception as error:
            keep_logs(setting.folder / LOGS_NAME, options.report / LOGS_NAME)
            raise _plain(error, options.report / LOGS_NAME) from error
        if isinstance(ended, int):
            console.print("Ended early. Every process has been stopped, every folder removed.", highlight=False)
            return _SIGNALLED + ended
        return _conclude(*ended, options=options, folder=folder, console=console)


def _prepare(folder: Path) -> None:
    """Make the report's folder, without what an earlier run said."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (report.REPORT_NAME, PICTURE_NAME):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise OperatorError(f"--report {folder}: cannot be written: {error}; name another folder") from error


async def _until_told(setting: Setting, console: Console) -> tuple[Facts, Timeline | None] | signal.Signals:
    """Do the main job; the first signal ends it, and what it leaves is still cleaned up."""
    task = asyncio.current_task()
    told: list[signal.Signals] = []
    assert task is not None

    def take(number: signal.Signals) -> None:
        if not told:  # later ones would cut the clean-up short, which is bounded
            task.cancel()
        told.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, take, number)
    try:
        with watch_on(console) as watch:
            return await MainJob(_with_copies(setting), watch).do()
    except asyncio.CancelledError:
        if not told:
            raise
        return told[0]


def _with_copies(setting: Setting) -> Setting:
    """Copy the files, so that what is compared at the end is what was stored at the start."""
    source, root = setting.source, setting.folder / "files"
    for file in source.files:
        target = root / file
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source.root / file, target)
        except OSError as error:
            raise OperatorError(
                f"{source.root / file}: cannot be read: {error.strerror}; give another --data"
            ) from error
    copied = Source(root=root, files=source.files, size_bytes=source.size_bytes)
    return Setting(
        source=copied, example=setting.example, nodes=setting.nodes, seed=setting.seed, folder=setting.folder
    )


def _plain(error: BaseException, logs: Path) -> BaseException:
    """Return the one error to tell of, where several tasks ended by the same cause; our own bugs as they are."""
    while isinstance(error, BaseExceptionGroup):
        known = error.subgroup(SegueError)
        error = (known or error).exceptions[0]
    if isinstance(error, OperatorError) or not isinstance(error, SegueError):
        return error
    return SegueError(f"{error} (logs: {logs})")


def _conclude(facts: Facts, timeline: Timeline | None, *, options: DemoOptions, folder: Path, console: Console) -> int:
    checks = judge(facts)
    written = report.write(report.compose(facts, checks), options.report)
    picture = options.report / PICTURE_NAME
    if timeline is not None:
        _draw(timeline, picture, folder)
    _tell(checks, written, picture, console)
    if not all(check.held for check in checks):
        keep_logs(folder / "fleet" / LOGS_NAME, options.report / LOGS_NAME)
        console.print(f"  logs     {options.report / LOGS_NAME}\n", highlight=False)
        return 1
    if timeline is not None and not options.no_open:
        open_picture(picture)
    return 0


def _tell(checks: tuple[Check, ...], written: Path, picture: Path, console: Console) -> None:
    console.print(summary(checks, written, picture))


def _draw(timeline: Timeline, picture: Path, folder: Path) -> None:
    """Draw the picture in a process of its own, whose caches go with the temporary folder."""
    source, log = folder / "timeline.json", folder / "picture.log"
    source.write_text(to_json(timeline), encoding="utf-8")
    environment = {**os.environ, "MPLCONFIGDIR": str(folder / "matplotlib")}
    with log.open("wb") as output:
        command = [sys.executable, "-m", "segue.demo.picture", str(source), str(picture)]
        try:
            subprocess.run(command, env=environment, stdout=output, stderr=output, check=True, timeout=_PICTURE_LIMIT_S)
        except subprocess.SubprocessError as error:
            raise SegueError(f"{picture} could not be drawn: {last_line(log)}") from error


def open_picture(picture: Path) -> bool:
    """Show the picture in the desktop's viewer, if there is a desktop and this is no CI; never an error."""
    if os.environ.get("CI"):
        return False
    if sys.platform == "darwin":
        opener = "open"
    elif os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        opener = "xdg-open"
    else:
        return False
    viewer = shutil.which(opener)
    if viewer is None:
        return False
    try:
        subprocess.Popen(
            [viewer, str(picture)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except OSError:
        return False
    return True
