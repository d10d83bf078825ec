"""The timeline as a picture; the only module that knows matplotlib.

Run as a process of its own (`python -m segue.demo.picture TIMELINE.json OUT.png`), so that what
matplotlib keeps in its own folder can be told where to go before it is imported.
"""

import sys
from itertools import zip_longest
from pathlib import Path

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.legend_handler import HandlerBase
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import Transform

from segue.demo.palette import color_of
from segue.demo.timeline import Lane, Span, Timeline, from_json, smoothed
from segue.model.ids import Version

AWAY, FAILED, INK, FAINT = "#2b2b33", "#c8283c", "#26262e", "#8a8a96"

#: Inches and dots per inch: 1600 x 900 pixels, of which a README shows about half the width.
WIDTH, HEIGHT, DPI = 12.8, 7.2, 125

#: More lanes than this make the picture higher, each by so many inches, so that words fit into them.
_LANES_THAT_FIT, _LANE_INCHES = 8, 0.45

#: A pause of a tenth of a second would be thinner than a pixel.
_AWAY_SHOWN_SHARE = 0.0035
_LANE_HEIGHT, _STRIP_HEIGHT, _STRIPS_HEIGHT = 0.62, 0.15, 0.24
#: Above bars and their strips, below what is written on them.
_PUBLISHED_ZORDER = 2.5
#: What `pause 123 ms` needs of the width; where it does not fit, it is left out.
_WORDS_SHARE = 0.1


def draw(timeline: Timeline, path: Path) -> None:
    """Draw `timeline` as a PNG at `path`: 1600 x 900 pixels, and higher for more than eight nodes."""
    style = mpl.rc_context(
        {
            "font.family": "DejaVu Sans",
            "font.size": 12.5,
            "text.color": INK,
            "axes.edgecolor": FAINT,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    )
    with style:
        figure = _figure(timeline)
        figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _figure(timeline: Timeline) -> Figure:
    height = HEIGHT + _LANE_INCHES * max(0, len(timeline.lanes) - _LANES_THAT_FIT)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    top, bottom = 1 - 1.37 / height, 0.61 / height
    grid = figure.add_gridspec(
        3, 1, height_ratios=(max(3.0, 0.62 * len(timeline.lanes)), 1.9, 0.6),
        left=0.088, right=0.975, top=top, bottom=bottom, hspace=1.15 / height,
    )  # fmt: skip
    lanes = figure.add_subplot(grid[0])
    rates = figure.add_subplot(grid[1], sharex=lanes)
    failed = figure.add_subplot(grid[2], sharex=lanes)
    _title(figure, timeline, height)
    _draw_lanes(lanes, timeline)
    _draw_rates(rates, timeline)
    _draw_failed(failed, timeline)
    for axes in (lanes, rates, failed):
        for moment_s in timeline.published:
            axes.axvline(moment_s, color=INK, linewidth=1.4, linestyle=(0, (4, 3)), zorder=_PUBLISHED_ZORDER)
    _name_publications(lanes, timeline)
    _legend(figure, timeline, height)
    figure.align_ylabels([rates, failed])
    return figure


def _title(figure: Figure, timeline: Timeline, height: float) -> None:
    failed = sum(timeline.failed)
    seen = "no call failed" if not failed else f"{failed:,} failed"
    if timeline.refused:
        seen += f"; private blocks were refused to others {timeline.refused:,} times, as they must be"
    nodes = len(timeline.lanes)
    figure.text(
        0.012, 1 - 0.27 / height, f"{nodes} nodes go from version {timeline.versions[0]} to version "
        f"{timeline.versions[-1]} while clients of each version call them", fontsize=18, fontweight="bold", va="center",
    )  # fmt: skip
    figure.text(
        0.012, 1 - 0.6 / height,
        f"{timeline.calls:,} calls of clients in {timeline.end_s - timeline.start_s:.0f} seconds, {seen}",
        fontsize=13, color=FAILED if failed else FAINT, va="center",
    )  # fmt: skip


def _draw_lanes(axes: Axes, timeline: Timeline) -> None:
    for index, lane in enumerate(timeline.lanes):
        for span in lane.spans:
            _draw_span(axes, index, span, timeline)
        _draw_pauses(axes, index, lane, timeline)
    axes.set_ylim(len(timeline.lanes) - 0.5, -0.5)
    axes.set_xlim(timeline.start_s, timeline.end_s)
    axes.set_yticks(range(len(timeline.lanes)), [_lane_name(lane) for lane in timeline.lanes])
    axes.tick_params(axis="y", length=0, pad=8)
    axes.tick_params(axis="x", length=0, labelbottom=False)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def _lane_name(lane: Lane) -> str:
    return f"{lane.node}  zone {lane.zone}" if lane.zone else lane.node


def _draw_span(axes: Axes, index: int, span: Span, timeline: Timeline) -> None:
    """Draw what the node runs as a bar, and what it simulates as strips along its foot, the newest lowest."""
    if span.runs is None:
        return
    width, top = span.end_s - span.start_s, index - _LANE_HEIGHT / 2
    axes.add_patch(Rectangle((span.start_s, top), width, _LANE_HEIGHT, facecolor=color_of(span.runs), linewidth=0))
    tall = _strip_height(timeline)
    for number, version in enumerate(reversed(span.simulates), start=1):
        strip, face = index + _LANE_HEIGHT / 2 - number * tall, color_of(version)
        axes.add_patch(Rectangle((span.start_s, strip), width, tall, facecolor=face, linewidth=0))
        axes.plot((span.start_s, span.end_s), (strip, strip), color="white", linewidth=1.2, solid_capstyle="butt")


def _draw_pauses(axes: Axes, index: int, lane: Lane, timeline: Timeline) -> None:
    least_s = (timeline.end_s - timeline.start_s) * _AWAY_SHOWN_SHARE
    needed_s = (timeline.end_s - timeline.start_s) * _WORDS_SHARE
    free_from_s, strips = timeline.start_s, (len(timeline.versions) - 1) * _strip_height(timeline)
    pauses = [span for span in lane.spans if span.runs is None]
    for span, after in zip_longest(pauses, pauses[1:]):
        width = max(span.end_s - span.start_s, least_s)
        bottom, height = index - _LANE_HEIGHT / 2 - 0.06, _LANE_HEIGHT + 0.12
        axes.add_patch(Rectangle((span.start_s, bottom), width, height, facecolor=AWAY, linewidth=0, zorder=3))
        left_s, right_s = span.start_s - 1.5 * least_s, span.start_s + width + 1.5 * least_s
        fits_right = right_s + needed_s <= (after.start_s if after else timeline.end_s)
        fits_left = free_from_s + needed_s <= left_s
        if span.pause_ms is not None and (fits_right or fits_left):
            axes.text(
                right_s if fits_right else left_s, index - strips / 2, f"pause {_milliseconds(span.pause_ms)}",
                ha="left" if fits_right else "right", color="white", fontsize=11.5, va="center", zorder=4,
            )  # fmt: skip
        free_from_s = right_s + (needed_s if fits_right else 0)


def _strip_height(timeline: Timeline) -> float:
    """Return the height of one strip: all that there can be leave room for words above them."""
    return min(_STRIP_HEIGHT, _STRIPS_HEIGHT / (len(timeline.versions) - 1))


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def _draw_rates(axes: Axes, timeline: Timeline) -> None:
    centres = [timeline.start_s + (index + 0.5) * timeline.bin_s for index in range(len(timeline.failed))]
    smooth_rates = [smoothed(rate, timeline) for rate in timeline.rates]
    for rate, smooth in zip(timeline.rates, smooth_rates, strict=True):
        color = color_of(rate.version)
        axes.fill_between(centres, smooth, color=color, alpha=0.16, linewidth=0)
        axes.plot(centres, smooth, color=color, linewidth=2.2)
    axes.set_ylim(0, 1.12 * max((max(smooth, default=0.0) for smooth in smooth_rates), default=1.0) or 1.0)
    axes.set_ylabel("calls / s", labelpad=8)
    axes.locator_params(axis="y", nbins=4)
    _quiet(axes, labels=False)


def _draw_failed(axes: Axes, timeline: Timeline) -> None:
    lefts = [timeline.start_s + index * timeline.bin_s for index in range(len(timeline.failed))]
    axes.bar(lefts, timeline.failed, width=timeline.bin_s, align="edge", color=FAILED)
    most = max(timeline.failed, default=0)
    axes.set_ylim(0, max(1.0, 1.15 * most))
    axes.set_yticks((0, most) if most else (0,))
    axes.set_ylabel("failed", labelpad=8)
    if not most:
        axes.text(
            0.5, 0.5, "no call failed", transform=axes.transAxes, ha="center", va="center", color=FAINT, fontsize=12,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 3},
        )  # fmt: skip
    _quiet(axes, labels=True)
    axes.set_xlabel(f"seconds since version {timeline.versions[1]} was published", labelpad=6)


def _quiet(axes: Axes, *, labels: bool) -> None:
    axes.tick_params(axis="x", labelbottom=labels, length=4 if labels else 0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="#e6e6ec", linewidth=0.9)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _name_publications(axes: Axes, timeline: Timeline) -> None:
    for version, moment_s in zip(timeline.versions[1:], timeline.published, strict=False):
        axes.annotate(
            f"version {version} is published" if moment_s == timeline.published[-1] else f"version {version}",
            (moment_s, 1), xycoords=("data", "axes fraction"), xytext=(6, 3),
            textcoords="offset points", fontsize=11.5, va="bottom", ha="left",
        )  # fmt: skip


class _Simulating(Patch):
    """A lane's bar with its strip, for the legend."""


class _SimulatingHandler(HandlerBase):
    """Draws a small lane into the legend.

    Args:
        runs: the version whose colour the bar has.
        simulates: the version whose colour the strip has.
    """

    def __init__(self, runs: Version, simulates: Version) -> None:
        super().__init__()
        self._colors = color_of(runs), color_of(simulates)

    def create_artists(
        self,
        legend: Legend,  # noqa: ARG002 - matplotlib's signature, here and below
        orig_handle: Artist,  # noqa: ARG002
        xdescent: float,
        ydescent: float,
        width: float,
        height: float,
        fontsize: float,  # noqa: ARG002
        trans: Transform,
    ) -> list[Artist]:
        """Return the bar, the strip at its foot and the line between them."""
        left, foot, strip = -xdescent, -ydescent, height * 0.34
        bar, beside = self._colors
        parts = ((foot, height, bar), (foot, strip, beside), (foot + strip, height * 0.1, "white"))
        return [
            Rectangle((left, bottom), width, tall, facecolor=color, linewidth=0, transform=trans)
            for bottom, tall, color in parts
        ]


def _legend(figure: Figure, timeline: Timeline, height: float) -> None:
    first, *others = timeline.versions
    handles: list[Patch] = [Patch(facecolor=color_of(version)) for version in timeline.versions]
    handles += [_Simulating(), Patch(facecolor=AWAY)]
    labels = [
        f"version {first}: nodes that run it, its clients' calls",
        *(f"version {version}" for version in others),
        "strip: the version that a node simulates" if len(others) == 1 else "strips: what a node simulates",
        "pause: calls wait",
    ]
    figure.legend(
        handles, labels, loc="center left", bbox_to_anchor=(0.006, 1 - 0.95 / height), ncols=len(handles),
        frameon=False, fontsize=11.5, handlelength=1.5, handleheight=0.9, columnspacing=1.8, handletextpad=0.6,
        borderaxespad=0.3, handler_map={_Simulating: _SimulatingHandler(timeline.versions[1], first)},
    )  # fmt: skip


def main(arguments: list[str]) -> None:
    """Draw the timeline in the first file into the second."""
    source, target = arguments
    draw(from_json(Path(source).read_text(encoding="utf-8")), Path(target))


if __name__ == "__main__":
    main(sys.argv[1:])
