"""The picture is a PNG of the size that a README expects, and shows what the timeline says."""

import struct
from dataclasses import replace
from pathlib import Path

import matplotlib.image as mpl_image
import pytest

from segue.demo.picture import AWAY, FAILED, NEW, OLD, draw, main
from segue.demo.timeline import Lane, Rate, Span, Timeline, to_json
from segue.model.ids import NodeId, Version


def timeline(nodes: int = 6) -> Timeline:
    lanes = tuple(
        Lane(
            node=NodeId(f"n{index}"),
            zone="abc"[index % 3],
            pause_ms=250.0,
            spans=(
                Span(kind="old", start_s=-5, end_s=1),
                Span(kind="simulating", start_s=1, end_s=2 + index),
                Span(kind="away", start_s=2 + index, end_s=2.25 + index),
                Span(kind="new", start_s=2.25 + index, end_s=15),
            ),
        )
        for index in range(nodes)
    )
    return Timeline(
        start_s=-5,
        end_s=15,
        bin_s=0.5,
        from_version=Version(1),
        to_version=Version(2),
        lanes=lanes,
        rates=(
            Rate(version=Version(1), calls_per_s=(100.0,) * 40),
            Rate(version=Version(2), calls_per_s=(0.0,) * 10 + (80.0,) * 30),
        ),
        failed=(0,) * 40,
        calls=5000,
    )


def size_of(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def colors_of(path: Path) -> set[str]:
    pixels = mpl_image.imread(path)
    flat = {tuple(pixel) for pixel in (pixels[:, :, :3].reshape(-1, 3) * 255).round().astype(int).tolist()}
    return {f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in flat}


@pytest.mark.parametrize(("nodes", "height"), [(3, 900), (6, 900), (8, 900), (20, 1575)])
def test_size(tmp_path: Path, nodes: int, height: int) -> None:
    """Eight lanes fit; more make it higher, so that what is written in them can be read."""
    draw(timeline(nodes), tmp_path / "timeline.png")
    assert size_of(tmp_path / "timeline.png") == (1600, height)


def test_colors_say_version_and_phase(tmp_path: Path) -> None:
    draw(timeline(), tmp_path / "timeline.png")
    assert {OLD, NEW, AWAY} <= colors_of(tmp_path / "timeline.png")
    assert FAILED not in colors_of(tmp_path / "timeline.png")


def test_failures_are_seen(tmp_path: Path) -> None:
    draw(replace(timeline(), failed=(0,) * 20 + (3,) + (0,) * 19), tmp_path / "timeline.png")
    assert FAILED in colors_of(tmp_path / "timeline.png")


def test_draws_a_rollout_in_which_nothing_happened(tmp_path: Path) -> None:
    """No call, and nobody upgraded: still a picture, no error."""
    lanes = tuple(
        replace(lane, spans=(Span(kind="old", start_s=-5, end_s=15),), pause_ms=None) for lane in timeline().lanes
    )
    idle = tuple(replace(rate, calls_per_s=(0.0,) * 40) for rate in timeline().rates)
    draw(replace(timeline(), lanes=lanes, rates=idle, calls=0), tmp_path / "timeline.png")
    assert size_of(tmp_path / "timeline.png") == (1600, 900)


def test_as_a_command(tmp_path: Path) -> None:
    (tmp_path / "timeline.json").write_text(to_json(timeline()), encoding="utf-8")
    main([str(tmp_path / "timeline.json"), str(tmp_path / "timeline.png")])
    assert size_of(tmp_path / "timeline.png") == (1600, 900)
