import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.report.charts import PALETTE, SERIES, Curve, Plane, Point, distribution, front, plane
from poise.report.labels import SLOTS, place


def look(**more) -> Plane:
    return Plane("title <&", "what is seen", "x", "y", 500, 300, **more)


def point(x, y, label="p", spread=None) -> Point:
    if spread is None:
        return Point(label, SERIES[0], "circle", x, y)
    return Point(label, SERIES[0], "circle", x, y, x - spread, x + spread, y - spread, y + spread)


@pytest.mark.parametrize("log_x", [False, True])
def test_svg_is_well_formed_named_and_inert(log_x):
    svg = plane([point(0.5, 0.5, "<script>a</script>", 0.1), point(0.7, 0.3, "b", 0.1)], look(log_x=log_x))
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == "title <&"
    assert [child.tag.rpartition("}")[2] for child in root][:2] == ["title", "desc"]
    tags = {e.tag.rpartition("}")[2] for e in root.iter()}
    assert tags <= {"svg", "g", "path", "line", "text", "rect", "title", "desc", "defs", "clipPath"}
    assert not re.search(r"\b(style|on\w+|href)=", svg)
    assert "<script>a" not in svg


def test_all_colours_are_the_palettes_so_that_pages_can_restyle_them():
    svg = plane([point(0.5, 0.5, "a", 0.1), point(0.7, 0.3, "b", 0.1)], look(iso=True))
    svg += distribution([Curve("a", SERIES[1], [1, 0], [0.1, 0.2], [0.5, 1.0], [0.3, 0.8], [0.7, 1.0])], look())
    colours = set(re.findall(r'(?:fill|stroke)="(#\w+|\w+)"', svg)) - {"none", "transparent"}
    assert colours <= {light for light, _ in PALETTE.values()}


def test_label_and_interval_are_drawn():
    svg = plane([point(0.5, 0.5, "system a", 0.1)], look(iso=True))
    assert ">system a</text>" in svg
    assert "mark-rule" in svg


def test_frontier_is_what_no_other_beats_on_both():
    a, b, c, d = point(1, 0.9), point(2, 0.8), point(3, 0.7), point(1.5, 0.6)
    assert front([c, d, a, b], smaller_x=False) == [a, b, c]
    assert front([c, d, a, b], smaller_x=True) == [a]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_frontier_properties(pairs):
    points = [point(x, y, str(i)) for i, (x, y) in enumerate(pairs)]
    best = front(points, smaller_x=False)
    assert best
    for p in points:
        beaten = any(q.x >= p.x and q.y >= p.y and (q.x > p.x or q.y > p.y) for q in points)
        assert (p in best) != beaten


def test_equal_and_zero_points_draw():
    same = [point(0.0, 0.0, "a", 0.0), point(0.0, 0.0, "b", 0.0)]
    assert "<svg" in plane(same, look(iso=True))
    assert "<svg" in plane([point(0.01, 1.0)], look(log_x=True))


def test_distribution_draws_infinite_times_as_missing_share():
    svg = distribution([Curve("a", SERIES[0], [1, 0], [0.1, 0.2, float("inf")], [0.3, 0.6, 1.0])], look())
    assert "Infinity" not in svg
    assert "<svg" in distribution([], look())


def test_labels_avoid_each_other_and_the_edge():
    places = [(100.0, 100.0), (104.0, 103.0), (495.0, 100.0)]
    slots = place(places, ["one label", "two label", "at the edge"], [], (500, 300), [0, 1, 2])
    assert slots[2].align == "right"
    assert slots[0] != slots[1]
    assert all(s in SLOTS for s in slots)


def test_a_label_that_could_not_be_read_is_left_out():
    crowd = [(100.0 + i, 100.0 + i) for i in range(40)]
    slots = place(crowd, ["a long label"] * 40, [], (500, 300), range(39, -1, -1))
    assert slots[39] is not None
    assert None in slots


def test_parser_sees_no_stray_tags():
    class Seen(HTMLParser):
        tags: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            self.tags.append(tag)

    Seen().feed(plane([point(0.5, 0.5, '"><img src=x>', 0.1)], look()))
    assert "img" not in Seen.tags


def test_an_interval_is_a_band_behind_the_curves():
    bare = Curve("a", SERIES[1], [1, 0], [0.1, 0.2], [0.5, 1.0])
    banded = Curve("a", SERIES[1], [1, 0], [0.1, 0.2], [0.5, 1.0], [0.3, 0.8], [0.7, 1.0])
    assert "mark-area" not in distribution([bare], look())
    svg = distribution([bare, banded], look())
    assert svg.count("mark-area") == 1 and svg.index("mark-area") < svg.index("mark-line")
