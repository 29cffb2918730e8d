"""Server-sent events out of stamped bytes: which event was complete at which moment.

Format: WHATWG HTML, "Server-sent events". An event has arrived when the blank line that ends it has.
"""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


def split_events(segments: list[tuple[int, bytes]]) -> tuple[list[tuple[int, bytes]], bytes]:
    """(stamp, data) of every event that carries data, and what was left after the last blank line.

    `segments` are body bytes with the time of their arrival, in order; an event that ends within a segment has
    the segment's time. Comments and other fields are dropped; several `data` lines are joined by a line feed.
    """
    body = b"".join([data for _, data in segments])
    ends = _ends(body)
    events: list[tuple[int, bytes]] = []
    index, limit, start = -1, 0, 0
    for end, stop in ends:
        while limit < stop:
            index += 1
            limit += len(segments[index][1])
        data = event_data(body[start:end])
        if data is not None:
            events.append((segments[index][0], data))
        start = stop
    return events, body[start:]


def _ends(body: bytes) -> list[tuple[int, int]]:
    """(end of the event's text, end of the blank line after it), in order."""
    found = []
    if b"\r" not in body:
        at = body.find(b"\n\n")
        while at >= 0:
            found.append((at, at + 2))
            at = body.find(b"\n\n", at + 2)
        return found
    line = 0
    for match in _LINE_END.finditer(body):
        if match.start() == line:
            found.append((line, match.end()))
        line = match.end()
    return found


def event_data(text: bytes) -> bytes | None:
    """The `data` of one event's lines; None where it has none."""
    if text.startswith(b"data: ") and b"\n" not in text and b"\r" not in text:
        return text[6:]
    lines = []
    for line in _LINE_END.split(text.removeprefix(_BOM)):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None
