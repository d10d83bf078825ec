"""What `segue demo` does around the main job: prepare, judge, report, clean up."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from segue.demo import report
from segue.demo.broken import break_release
from segue.demo.facts import Facts
from segue.demo.main_job import MainJob, Setting
from segue.demo.options import DemoOptions, Example, Source, find_example, find_files, require_matplotlib
from segue.demo.summary import summary
from segue.demo.timeline import Timeline, to_json
from segue.demo.verdict import judge
from segue.demo.watch import watch_on
from segue.errors import OperatorError, SegueError
from segue.local import last_line

PICTURE_NAME = "timeline.png"
LOGS_NAME = "logs"
#: Logs of a run that failed; the name is none that somebody else's folder has, as the next run removes it.
KEPT_LOGS_NAME = "demo-logs"

_PICTURE_LIMIT_S = 60.0
_SIGNALLED = 128  # what a shell adds to the number of the signal that ended a process


def run(options: DemoOptions, console: Console | None = None) -> int:
    """Run the demo, and leave nothing behind but the report.

    Args:
        options: how.
        console: where it is shown; by default the standard output.

    Returns:
        0 if all was observed that must be, 1 if something was not, 128 and the signal's number if a
        signal (Ctrl-C, SIGTERM, a closed terminal) ended it early.

    Raises:
        OperatorError: something that it needs is not there; nothing was started.
        SegueError: a process did not start, or ended of itself; its log is in the report's folder.
    """
    console = console or Console()
    example, source = find_example(options.to), find_files(options.data)
    require_matplotlib()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    prepare(options.report)
    what = f"{options.nodes} nodes to version {options.to}, seed {seed}"
    console.print(f"Segue's demo: {what}. Ctrl-C ends it and cleans up.", highlight=False, soft_wrap=True)
    try:
        return asyncio.run(_until_told(_Demo(options, example, source, seed, console)))
    except Exception as error:
        raise _plain(error, options.report / KEPT_LOGS_NAME) from error


async def _until_told(demo: "_Demo") -> int:
    """Run the demo; the first signal ends it early, and what it leaves is still cleaned up."""
    task = asyncio.current_task()
    told: list[signal.Signals] = []
    assert task is not None

    def take(number: signal.Signals) -> None:
        if not told:  # later ones would cut the clean-up short, which is bounded
            task.cancel()
        told.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, take, number)
    try:
        return await demo.run()
    except asyncio.CancelledError:
        if not told:
            raise
        demo.console.print("Ended early: every process has been stopped, every folder removed.", highlight=False)
        return _SIGNALLED + told[0]


@dataclass(frozen=True, slots=True)
class _Demo:
    """One run, in a temporary folder that goes with it."""

    options: DemoOptions
    example: Example
    source: Source
    seed: int
    console: Console

    async def run(self) -> int:
        with tempfile.TemporaryDirectory(prefix="segue-demo-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            kept = self.options.report / KEPT_LOGS_NAME
            try:
                facts, timeline = await self._main_job(folder)
                held = await self._conclude(facts, timeline, folder)
            except Exception:
                _keep_logs(folder / "fleet" / LOGS_NAME, kept)
                raise
            if not held:
                _keep_logs(folder / "fleet" / LOGS_NAME, kept)
                self.console.print(f"  logs     {kept}\n", highlight=False, markup=False)
        return 0 if held else 1

    async def _main_job(self, folder: Path) -> tuple[Facts, Timeline | None]:
        example = break_release(self.example, folder / "broken") if self.options.broken else self.example
        setting = Setting(
            source=_copied(self.source, folder / "files"),
            example=example,
            nodes=self.options.nodes,
            seed=self.seed,
            folder=folder / "fleet",
            broken=self.options.broken,
        )
        with watch_on(self.console) as watch:
            return await MainJob(setting, watch).do()

    async def _conclude(self, facts: Facts, timeline: Timeline | None, folder: Path) -> bool:
        """Write the report, draw the picture, tell what held, and say whether all did."""
        checks = judge(facts)
        written = report.write(report.compose(facts, checks), self.options.report)
        picture = self.options.report / PICTURE_NAME
        if timeline is not None:
            await _draw(timeline, picture, folder)
        self.console.print(summary(facts, checks, written, picture))
        held = all(check.held for check in checks)
        if held and not self.options.no_open:
            open_picture(picture)
        return held


def prepare(folder: Path) -> None:
    """Make the report's folder, without what an earlier run left there.

    Raises:
        OperatorError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (report.REPORT_NAME, PICTURE_NAME):
            (folder / name).unlink(missing_ok=True)
        if (folder / KEPT_LOGS_NAME).is_dir():
            shutil.rmtree(folder / KEPT_LOGS_NAME)
    except OSError as error:
        raise OperatorError(f"--report {folder}: cannot be written: {error}; name another folder") from error


def _copied(source: Source, root: Path) -> Source:
    """Copy the files, so that what is compared at the end is what was stored at the start."""
    for file in source.files:
        target = root / file
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source.root / file, target)
        except OSError as error:
            raise OperatorError(
                f"{source.root / file}: cannot be read: {error.strerror}; give another --data"
            ) from error
    return Source(root=root, files=source.files, size_bytes=source.size_bytes)


def _keep_logs(logs: Path, target: Path) -> None:
    """Copy the logs of a demo that went wrong to where they can be read."""
    if logs.is_dir():
        shutil.copytree(logs, target, dirs_exist_ok=True)


def _plain(error: BaseException, logs: Path) -> BaseException:
    """Return the one error to tell of, where several tasks ended by the same cause; our own bugs as they are."""
    while isinstance(error, BaseExceptionGroup):
        known = error.subgroup(SegueError)
        error = (known or error).exceptions[0]
    if isinstance(error, OperatorError) or not isinstance(error, SegueError):
        return error
    return SegueError(f"{error} (logs: {logs})")


async def _draw(timeline: Timeline, picture: Path, folder: Path) -> None:
    """Draw the picture in a process of its own, whose caches go with the temporary folder."""
    source, log = folder / "timeline.json", folder / "picture.log"
    source.write_text(to_json(timeline), encoding="utf-8")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "segue.demo.picture", str(source), str(picture.resolve()),
            env={**os.environ, "MPLCONFIGDIR": str(folder / "matplotlib")},
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        async with asyncio.timeout(_PICTURE_LIMIT_S):
            status = await process.wait()
    except TimeoutError:
        raise SegueError(f"{picture} was not drawn within {_PICTURE_LIMIT_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
    if status:
        raise SegueError(f"{picture} could not be drawn: {last_line(log)}")


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
