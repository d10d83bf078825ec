"""The picture is a PNG of the size that a README expects, and shows what the timeline says."""

import struct
from dataclasses import replace
from pathlib import Path

import matplotlib.image as mpl_image
import pytest

from segue.demo.palette import color_of
from segue.demo.picture import AWAY, FAILED, draw, main
from segue.demo.timeline import Lane, Rate, Span, Timeline, to_json
from segue.model.ids import NodeId, Version

ONE, TWO, THREE = Version(1), Version(2), Version(3)


def timeline(nodes: int = 6) -> Timeline:
    lanes = tuple(
        Lane(
            node=NodeId(f"n{index}"),
            zone="abc"[index % 3],
            spans=(
                Span(runs=ONE, start_s=-5, end_s=1),
                Span(runs=ONE, simulates=(TWO,), start_s=1, end_s=2 + index),
                Span(runs=None, start_s=2 + index, end_s=2.25 + index, pause_ms=250.0),
                Span(runs=TWO, simulates=(ONE,), start_s=2.25 + index, end_s=15),
            ),
        )
        for index in range(nodes)
    )
    return Timeline(
        start_s=-5,
        end_s=15,
        bin_s=0.5,
        versions=(ONE, TWO),
        published=(0.0,),
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
    raw = (mpl_image.imread(path)[:, :, :3] * 255).round().astype("uint8").tobytes()
    return {f"#{color.hex()}" for color in {raw[at : at + 3] for at in range(0, len(raw), 3)}}


@pytest.mark.parametrize(("nodes", "height"), [(3, 900), (6, 900), (8, 900), (20, 1575)])
def test_size(tmp_path: Path, nodes: int, height: int) -> None:
    """Eight lanes fit; more make it higher, so that what is written in them can be read."""
    draw(timeline(nodes), tmp_path / "timeline.png")
    assert size_of(tmp_path / "timeline.png") == (1600, height)


def test_colors_say_version_and_phase(tmp_path: Path) -> None:
    draw(timeline(), tmp_path / "timeline.png")
    assert {color_of(ONE), color_of(TWO), AWAY} <= colors_of(tmp_path / "timeline.png")
    assert FAILED not in colors_of(tmp_path / "timeline.png")


def test_a_third_version_has_a_colour_of_its_own(tmp_path: Path) -> None:
    """On a node that is away twice within a moment, too."""
    first = timeline().lanes[0]
    again = (
        Span(runs=None, start_s=2.5, end_s=2.75, pause_ms=250.0),
        Span(runs=THREE, simulates=(ONE, TWO), start_s=2.75, end_s=15),
    )
    lane = replace(first, spans=(*first.spans[:-1], replace(first.spans[-1], end_s=2.5), *again))
    rates = (*timeline().rates, Rate(version=THREE, calls_per_s=(0.0,) * 14 + (80.0,) * 26))
    three = replace(
        timeline(), versions=(ONE, TWO, THREE), published=(0.0, 2.0), lanes=(lane, *timeline().lanes[1:]), rates=rates
    )
    draw(three, tmp_path / "timeline.png")
    assert {color_of(version) for version in (ONE, TWO, THREE)} <= colors_of(tmp_path / "timeline.png")
    draw(timeline(), tmp_path / "timeline.png")
    assert color_of(THREE) not in colors_of(tmp_path / "timeline.png")


def test_failures_are_seen(tmp_path: Path) -> None:
    draw(replace(timeline(), failed=(0,) * 20 + (3,) + (0,) * 19), tmp_path / "timeline.png")
    assert FAILED in colors_of(tmp_path / "timeline.png")


def test_draws_a_rollout_in_which_nothing_happened(tmp_path: Path) -> None:
    """No call, and nobody upgraded: still a picture, no error."""
    lanes = tuple(replace(lane, spans=(Span(runs=ONE, start_s=-5, end_s=15),)) for lane in timeline().lanes)
    idle = tuple(replace(rate, calls_per_s=(0.0,) * 40) for rate in timeline().rates)
    draw(replace(timeline(), lanes=lanes, rates=idle, calls=0), tmp_path / "timeline.png")
    assert size_of(tmp_path / "timeline.png") == (1600, 900)


def test_as_a_command(tmp_path: Path) -> None:
    (tmp_path / "timeline.json").write_text(to_json(timeline()), encoding="utf-8")
    main([str(tmp_path / "timeline.json"), str(tmp_path / "timeline.png")])
    assert size_of(tmp_path / "timeline.png") == (1600, 900)
