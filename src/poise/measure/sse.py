"""Server-sent events out of stamped bytes: which event was complete at which moment.

Format: WHATWG HTML, "Server-sent events". An event has arrived when the blank line that ends it has.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import accumulate

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


def split_events(segments: list[tuple[int, bytes]]) -> tuple[list[int], list[bytes], bytes]:
    """The stamps and the data of all events that carry data, and what was left after the last blank line.

    `segments` are body bytes with the time of their arrival, in order; an event that ends within a segment has
    the segment's time. Comments and other fields are dropped; several `data` lines are joined by a line feed.
    """
    body = b"".join([data for _, data in segments])
    if b"\r" not in body and body.count(b"\n") == 2 * len(segments):
        alone = [data[6:-2] for _, data in segments if data.startswith(b"data: ") and data.endswith(b"\n\n")]
        if len(alone) == len(segments):  # as most servers send them: each event of one line, in a read of its own
            return [ns for ns, _ in segments], alone, b""
    texts, stops, rest = _cut(body)
    limits = list(accumulate([len(data) for _, data in segments]))
    stamps = [segments[bisect_left(limits, stop)][0] for stop in stops]
    if b"\r" not in body and body.count(b"\n") - rest.count(b"\n") == 2 * len(texts):  # events of one line each
        found = [text[6:] if text.startswith(b"data: ") else event_data(text) for text in texts]
    else:
        found = [event_data(text) for text in texts]
    datas = [data for data in found if data is not None]
    if len(datas) < len(found):
        stamps = [ns for ns, data in zip(stamps, found, strict=True) if data is not None]
    return stamps, datas, rest


def _cut(body: bytes) -> tuple[list[bytes], list[int], bytes]:
    """Each event's text, the offset behind the blank line after it, and what follows the last one."""
    if b"\r" not in body:
        *texts, rest = body.split(b"\n\n")
        return texts, list(accumulate([len(text) + 2 for text in texts])), rest
    texts, stops, start, line = [], [], 0, 0
    for match in _LINE_END.finditer(body):
        if match.start() == line:
            texts.append(body[start:line])
            stops.append(match.end())
            start = match.end()
        line = match.end()
    return texts, stops, body[start:]


def event_data(text: bytes) -> bytes | None:
    """The `data` of one event's lines; None where it has none."""
    lines = []
    for line in _LINE_END.split(text.removeprefix(_BOM)):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None
