import struct
from xml.etree import ElementTree

import pytest

from poise.report.image import Png, Svg
from poise.types import Summary, UsageError, Verdict


def test_svg_stands_alone_on_white(derived):
    root = ElementTree.fromstring(Svg().render(derived, []))
    ground = next(e for e in root if e.tag.endswith("rect"))
    assert ground.get("fill") == "#ffffff"
    assert float(ground.get("width")) == float(root.get("width")) > 900
    assert "s · onnx" in {e.text for e in root.iter() if e.tag.endswith("text")}


def test_png_has_twice_its_size(derived):
    data = Png().render(derived, [])
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    svg = ElementTree.fromstring(Svg().render(derived, []))
    assert (width, height) == (round(2 * float(svg.get("width"))), round(2 * float(svg.get("height"))))


def test_nothing_to_plot_is_said():
    with pytest.raises(UsageError, match="no system has both"):
        Svg().render(Summary(1, [], [], [], Verdict("")), [])
