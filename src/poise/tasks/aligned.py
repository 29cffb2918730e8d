"""Aligned lines of two languages: files of lines, WMT's SGML and XML, tables with a column for each language.

A line has one source and one reference or several. In WMT's SGML (to 2020: a file for the source, one for each
reference) a line is a `<seg>`; from 2021 one XML file has all, of which test suites and systems' outputs are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poise.tasks.data import read_lines, read_rows
from poise.types import UsageError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Line = tuple[str, tuple[str, ...]]
"""What a line says, and its references."""
_SEGMENT = re.compile(r"<seg\b[^>]*>(.*?)</seg>", re.DOTALL | re.IGNORECASE)
_ENTITIES = {"&quot;": '"', "&apos;": "'"}
_TABLE = re.compile(r"\.(tsv|csv|jsonl|ndjson|json)(\.gz)?$", re.IGNORECASE)
_SGML, _XML = re.compile(r"\.sgml?(\.gz)?$", re.IGNORECASE), re.compile(r"\.xml(\.gz)?$", re.IGNORECASE)


def aligned_lines(data: Any, source: str, target: str) -> Iterator[Line]:
    """Lines of `[source file, reference file, …]`, of one XML file, or of a table; UsageError where they do not fit."""
    if isinstance(data, list | tuple) and len(data) > 1:
        yield from _of_files([Path(str(p)).expanduser() for p in data])
        return
    if isinstance(data, list | tuple) and len(data) == 1:
        data = data[0]
    if not data or isinstance(data, list | tuple):
        raise UsageError("task translation needs two aligned files: --data source.txt,reference.txt")
    path = Path(str(data)).expanduser()
    if path.is_file() and not _TABLE.search(path.name) and not _XML.search(path.name):
        raise UsageError(
            f"{path} is one file, neither a table nor WMT's XML; "
            "give two that are aligned, as they lie unpacked: --data source,reference"
        )
    if _XML.search(str(data)):
        yield from _of_xml(_file(path), source, target)
        return
    for row in read_rows(str(data), () if str(data).startswith("hub:") else (source, target)):
        both = row.get("translation", row)  # the hub's WMT and OPUS sets keep both languages in one column
        if source not in both or target not in both:
            raise UsageError(f"{data} has no {source!r} and {target!r}; it has {', '.join(map(repr, both))}")
        yield str(both[source]), (str(both[target]),)


def _file(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"no file {path}")
    return path


def _of_files(paths: Sequence[Path]) -> Iterator[Line]:
    if xml := next((path for path in paths if _XML.search(path.name)), None):
        raise UsageError(f"{xml} holds source and references: give it alone")
    sides = [_segments(path) if _SGML.search(path.name) else read_lines(path) for path in map(_file, paths)]
    for number, (said, *wanted) in enumerate(zip_longest(*sides), 1):
        sides_there = (said, *wanted)
        if None in sides_there:
            short = paths[sides_there.index(None)]
            others = "the other file does" if len(paths) == 2 else "others do"
            raise UsageError(f"{short} ends at line {number - 1}, {others} not; they are not aligned")
        yield said, tuple(wanted)


def _segments(path: Path) -> Iterator[str]:
    """The segments of SGML, which is no XML: bare & and < occur in it, as entities do."""
    from xml.sax.saxutils import unescape  # it takes half of urllib along

    found = _SEGMENT.findall("\n".join(read_lines(path)))
    if not found:
        raise UsageError(f"{path} has no <seg>, as WMT's SGML has")
    for text in found:
        yield " ".join(unescape(text, _ENTITIES).split())


def _of_xml(path: Path, source: str, target: str) -> Iterator[Line]:
    from xml.etree.ElementTree import ParseError, fromstring

    text = "\n".join(read_lines(path))
    if "<!ENTITY" in text:  # declared entities can grow without bound; no test set has any
        raise UsageError(f"{path}: its entities are not read")
    try:
        root = fromstring(text.encode())
    except ParseError as error:
        raise UsageError(f"{path}: not XML ({error})") from None
    pairs = {(e.get("lang"), r.get("lang")) for d in root.iter("doc") for e in d.iter("src") for r in d.iter("ref")}
    if not pairs:
        raise UsageError(f"{path} has no documents with <src> and <ref>; without references nothing can be scored")
    if pairs != {(source, target)}:
        there = " and ".join(sorted(f"{a}-{b}" for a, b in pairs))
        raise UsageError(f"{path} is in {there}, not in {source}-{target}: give -T pair=…")
    for document in root.iter("doc"):
        if "testsuite" in document.attrib:
            continue
        references = [_by_id(element) for element in document.iter("ref")]
        for element in islice(document.iter("src"), 1):
            for name, said in _by_id(element).items():
                yield said, tuple(by_id.get(name, "") for by_id in references)


def _by_id(element: Element) -> dict[str | None, str]:
    return {segment.get("id"): " ".join("".join(segment.itertext()).split()) for segment in element.iter("seg")}
