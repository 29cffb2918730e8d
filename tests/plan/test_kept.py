"""What is kept outside of memory is what was given, in any order, however much it is."""

from io import FileIO
from tempfile import NamedTemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.plan import kept
from poise.plan.kept import Kept
from poise.types import Message, PoiseError, Request, Sample

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=5,
)
SAMPLES = st.lists(st.builds(Sample, st.text(), st.dictionaries(st.text(), ANYTHING), ANYTHING), max_size=80)


@pytest.fixture(params=["in memory", "in a file"])
def place(request, monkeypatch):
    if request.param == "in a file":
        monkeypatch.setattr(kept, "IN_MEMORY_BYTES", 100)


@given(SAMPLES, st.data())
def test_as_a_list(samples, data):
    there = Kept(iter(samples))
    assert list(there) == samples and len(there) == len(samples)
    start, stop = data.draw(st.integers(0, 90)), data.draw(st.integers(-90, 90))
    assert list(there[start:stop]) == samples[start:stop]
    places = data.draw(st.lists(st.integers(0, len(samples) - 1))) if samples else []
    picked = there.picked(places)
    assert list(picked) == [samples[k] for k in places] and list(picked[1:]) == [samples[k] for k in places[1:]]
    assert [there[k] for k in places] == list(picked)


@pytest.mark.usefixtures("place")
def test_few_and_many():
    requests = [
        Request(str(k), str(k), "generate", "sha", messages=(Message("user", "x" * k),), stop=("a", "b"), draw=k)
        for k in range(300)
    ]
    for there in (Kept(requests), Kept(requests, Request)):
        assert list(there) == requests == list(there)
        assert (
            list(there[10:200]) == requests[10:200]
            and list(there[::-3]) == requests[::-3]
            and there[250] == requests[250]
            and there[-1] == requests[-1]
        )
        assert list(there.picked([7, 3, 299])) == [requests[7], requests[3], requests[299]]
    assert not list(Kept([])) and not Kept([])


def test_no_room(monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "IN_MEMORY_BYTES", 10)
    monkeypatch.setattr(kept, "TemporaryFile", full)
    with pytest.raises(PoiseError, match="temporary file: No space left on device; set TMPDIR"):
        Kept(["a" * 100])


def test_nearly_no_room(monkeypatch):
    """What the disk takes only a part of is written on, or is no room."""

    class Nearly(FileIO):
        def write(self, data):
            return super().write(data[:7])

    def opened(**_):
        with NamedTemporaryFile() as file:  # goes on without its name
            return Nearly(file.name, "r+")

    monkeypatch.setattr(kept, "IN_MEMORY_BYTES", 10)
    monkeypatch.setattr(kept, "TemporaryFile", opened)
    texts = [f"{k} of many" for k in range(20)]
    assert list(Kept(texts)) == texts
