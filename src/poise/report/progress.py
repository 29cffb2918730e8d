"""Progress of a run on stderr: a line per finished cell, and on a terminal a live line, at most 4 redraws a second."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from poise.plan.schedule import Extent
from poise.report import numbers
from poise.report.text import shorten, visible

REDRAW_S = 0.25


class Progress:
    """What a run tells its user while it goes; call it from one thread, in the order of the methods.

    `tick` costs one clock reading between redraws, and there is no refresh thread, so that drawing does not
    disturb what is measured.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._live: Live | None = None
        self._ahead: list[Extent] = []
        self._cells = self._cells_done = 0
        self._requests: int | None = None
        self._done = self._in_cell = 0
        self._label, self._extent, self._spent_s = "", Extent(None, None), 0.0
        self._paced, self._paced_s = 0, 0.0
        """Requests done, and seconds they took, in cells whose load does not say how long it goes on."""
        self._began = self._cell_began = self._drawn = 0.0

    def waiting(self, why: str) -> None:
        """Nothing is measured yet, and why."""
        self.console.print(Text(visible(why, newlines=False), "dim"), soft_wrap=True)

    def start(self, cells: Sequence[Extent]) -> None:
        """The whole plan, what an earlier run did included."""
        self._ahead, self._cells = list(cells), len(cells)
        counts = [cell.requests for cell in cells]
        self._requests = None if None in counts else sum(filter(None, counts))
        self._began = time.monotonic()
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()

    def cell_started(self, label: str, extent: Extent, already_done: int = 0, spent_s: float = 0.0) -> None:
        """A cell begins, of which an earlier run recorded `already_done` requests in `spent_s` seconds of its load."""
        self._label, self._extent, self._spent_s = visible(label, newlines=False), extent, spent_s
        if extent in self._ahead:
            self._ahead.remove(extent)
        self._cell_began, self._in_cell = time.monotonic(), already_done
        self._done += already_done
        self._draw()

    def tick(self, done_in_cell: int) -> None:
        """So many requests of the cell are done now, the earlier ones included."""
        if self._extent.seconds is None:
            self._paced += done_in_cell - self._in_cell
        self._done += done_in_cell - self._in_cell
        self._in_cell = done_in_cell
        if time.monotonic() - self._drawn >= REDRAW_S:
            self._draw()

    def cell_done(
        self,
        label: str,
        n: int,
        seconds_per_request: float | None,
        quality: float | None = None,
        reason: str | None = None,
    ) -> None:
        """A cell has ended: requests done, mean seconds of one, mean quality if scored, or why it failed."""
        self.tick(max(self._in_cell, self._extent.requests or 0))
        if self._extent.seconds is None:
            self._paced_s += time.monotonic() - self._cell_began
        self._extent = Extent(self._in_cell, 0.0)
        self._cells_done += 1
        marks = f"quality {numbers.mark(quality)}" if quality is not None else ""
        width = max(24, min(48, self.console.width - 42)) if self.console.is_terminal else 48
        line = Text.assemble(
            (f"{self._cells_done:>{len(str(self._cells))}}/{self._cells}  ", "dim"),
            f"{shorten(visible(label, newlines=False), width):<{width}}  ",
        )
        if reason is None:
            line.append_text(
                Text.assemble(f"n {n:<6} ", (f"{numbers.seconds(seconds_per_request):>8}", "cyan"), f"  {marks}")
            )
        else:
            line.append(visible(reason, newlines=False), "red")
        line.rstrip()
        self.console.print(line, soft_wrap=True)
        self._draw()

    def close(self) -> None:
        """Leave the terminal as it was; safe to call twice and without `start`."""
        if self._live:
            self._live.stop()
            self._live = None

    def seconds_left(self) -> float | None:
        """Time left: what loads say of theirs, and requests at the mean pace so far; None where either is unknown."""
        in_cell_s = time.monotonic() - self._cell_began
        now, ahead = self._extent, self._ahead
        left_s = sum(cell.seconds or 0.0 for cell in ahead)
        paced = [cell.requests for cell in ahead if cell.seconds is None]
        if now.seconds is not None:
            left_s += max(0.0, now.seconds - self._spent_s - in_cell_s)
        else:
            paced.append(None if now.requests is None else now.requests - self._in_cell)
        if None in paced:
            return None
        if not (rest := sum(filter(None, paced))):
            return left_s
        if not self._paced:
            return None
        return left_s + (self._paced_s + (in_cell_s if now.seconds is None else 0.0)) / self._paced * rest

    def _draw(self) -> None:
        if self._live:
            self._drawn = time.monotonic()
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        left, spent = self.seconds_left(), time.monotonic() - self._began
        done, total = (spent, spent + left) if left is not None else (self._done, self._requests or 0)
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(f"cells {self._cells_done}/{self._cells}"),
            ProgressBar(total=max(1e-3, total), completed=done, width=28),
            Text(
                f"{_of(self._done, self._requests)} requests" + (f" · {_clock(left)} left" if left is not None else "")
            ),
        )
        line = f"{self._label}  {_of(self._in_cell, self._extent.requests)}"
        if self._extent.seconds:
            seconds = min(self._spent_s + time.monotonic() - self._cell_began, self._extent.seconds)
            line += f" requests · {seconds:.0f} of {_clock(self._extent.seconds)}"
        return Group(bar, Text(line, style="dim", no_wrap=True, overflow="ellipsis"))


def _of(done: int, planned: int | None) -> str:
    return f"{done}" if planned is None else f"{done}/{planned}"


def _clock(seconds: float) -> str:
    """`42 s`, `3 min`, `1 h 20 min`: as exact as a forecast deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
