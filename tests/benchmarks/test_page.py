"""From samples to figures, tables and pictures: without a measurement."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import page, results
from benchmarks.chart import Axis, Line, Panel, number, svg
from benchmarks.goals import GOALS, Found, Goal, percentile
from benchmarks.results import Part, Sample

ROUNDS = {"kvnode": [10.0, 30.0, 20.0], "redis": [10.0, 10.0, 40.0], "etcd": [5.0]}


def part(work: str = "set/50", figure: str = "per_second") -> Part:
    samples = [
        Sample(work, system, at, {figure: value, "p99_ms": 1.5}, [0.5] * 103)
        for system, values in ROUNDS.items()
        for at, value in enumerate(values)
    ]
    return Part({"when": "2026-01-01", "fsync": "0.20 ms"}, samples, {"acknowledged": 7, "everywhere": 6})


def test_a_ratio_is_the_median_of_the_ratios_of_rounds() -> None:
    found = part()
    assert found.median("set/50", "kvnode", "per_second") == 20
    assert found.ratio("per_second", ("set/50", "kvnode"), ("set/50", "redis")) == 1  # of 1, 3 and 0.5
    assert found.ratio("per_second", ("set/50", "kvnode"), ("set/50", "etcd")) == 2  # the one round that both have
    assert found.ratio("per_second", ("set/50", "kvnode"), ("set/50", "pysyncobj")) is None
    assert found.median("set/1", "kvnode", "per_second") is None


def test_results_are_kept_part_by_part(tmp_path: Path) -> None:
    path = tmp_path / "out" / "results.json"
    assert results.load(path) == {}
    results.save(path, "throughput", part())
    results.save(path, "start", part("start/1000", "seconds"))
    results.save(path, "throughput", part("set/1"))
    assert results.load(path) == {"throughput": part("set/1"), "start": part("start/1000", "seconds")}
    assert results.load(path)["start"].sizes("start") == [1000]


@pytest.mark.parametrize(
    ("goal", "value", "is_met"),
    [
        (Goal("", 1.5, True, "×", lambda parts: None), 1.5, True),
        (Goal("", 1.5, True, "×", lambda parts: None), 1.49, False),
        (Goal("", 1.5, False, "×", lambda parts: None), 1.5, True),
        (Goal("", 0, False, "", lambda parts: None), 1, False),
    ],
)
def test_a_goal_is_met(goal: Goal, value: float, is_met: bool) -> None:
    assert goal.is_met(Found(value, "")) is is_met


def test_no_goal_fails_where_nothing_or_little_was_measured() -> None:
    empty = Part({})
    for parts in ({}, dict.fromkeys(("throughput", "start", "missed", "catch_up", "growth", "failover"), empty)):
        assert [goal.find(parts) for goal in GOALS] == [None] * len(GOALS)
        assert all(list(make(parts)) is not None for make in page.TABLES.values())


def test_percentiles_are_values_that_were_measured() -> None:
    assert [percentile([3, 1, 2], percent) for percent in (0, 50, 95, 100)] == [1, 2, 3, 3]


def test_the_page_keeps_its_prose(tmp_path: Path) -> None:
    template = (page.DOCS / page.PAGE).read_text(encoding="utf-8")
    written = page.write({"throughput": part()}, tmp_path).read_text(encoding="utf-8")
    assert prose(written) == prose(template)
    assert "| SET, 50 clients | ≥ 1.5 × Redis + WAIT 1 | 1 | 20/s : 10/s |" in written
    assert "| throughput | 7 | 7 | 6 |" in written


def prose(text: str) -> str:
    """What is not generated."""
    return page.PLACE.sub(lambda found: found["name"], text)


def test_every_place_of_the_page_has_a_table_and_every_table_a_place() -> None:
    names = [found["name"] for found in page.PLACE.finditer((page.DOCS / page.PAGE).read_text(encoding="utf-8"))]
    assert sorted(names) == sorted(page.TABLES)


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize(
    "points",
    [[(1, 5), (10, 50_000)], [(3, 3)], [(1, 0.001), (2, 0.0011)], [(100, 7), (1_000_000, 7)], []],
    ids=["far apart", "one", "small", "flat", "none"],
)
def test_a_chart_is_svg_and_its_points_are_on_it(points: list[tuple[float, float]], is_log: bool) -> None:
    lines = [Line("a < b", 0, points)] if points else []
    text = svg("clients & servers", [Panel("p", Axis("x", is_log), Axis("y", is_log), lines)] * 2)
    root = ElementTree.fromstring(text)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    dots = root.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(dots) == 2 * len(points)
    for dot in dots:
        assert 0 < float(dot.get("cx", math.nan)) < width
        assert 0 < float(dot.get("cy", math.nan)) < height


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.5, "0.5"), (20, "20"), (30_000, "30 k"), (1_000_000, "1 M"), (2e9, "2 G")]
)
def test_numbers_of_an_axis_are_short(value: float, text: str) -> None:
    assert number(value) == text
