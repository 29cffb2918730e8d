"""Progress of a run on stderr: a line per finished cell, and on a terminal a live line, at most 4 redraws a second."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

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
        self._cells = self._requests = 0
        self._cells_done = self._done = self._skipped = 0
        self._label, self._planned, self._in_cell = "", 0, 0
        self._began = self._drawn = 0.0

    def start(self, cells: int, requests: int) -> None:
        """The whole plan: cells and requests, those already done by an earlier run included."""
        self._cells, self._requests = cells, requests
        self._began = time.monotonic()
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()

    def cell_started(self, label: str, planned: int, already_done: int = 0) -> None:
        """A cell begins, of which `already_done` requests were recorded by an earlier run."""
        self._label, self._planned, self._in_cell = visible(label, newlines=False), planned, already_done
        self._done += already_done
        self._skipped += already_done
        self._draw()

    def tick(self, done_in_cell: int) -> None:
        """So many requests of the cell are done now, the earlier ones included."""
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
        self._done += self._planned - self._in_cell
        self._in_cell = self._planned
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
        """Time left at the mean pace since `start`; None before anything was done."""
        paced = self._done - self._skipped
        if paced <= 0:
            return None
        return (time.monotonic() - self._began) / paced * max(0, self._requests - self._done)

    def _draw(self) -> None:
        if self._live:
            self._drawn = time.monotonic()
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        left = self.seconds_left()
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(f"cells {self._cells_done}/{self._cells}"),
            ProgressBar(total=max(1, self._requests), completed=self._done, width=28),
            Text(f"{self._done}/{self._requests} requests" + (f" · {_clock(left)} left" if left is not None else "")),
        )
        return Group(
            bar, Text(f"{self._label}  {self._in_cell}/{self._planned}", style="dim", no_wrap=True, overflow="ellipsis")
        )


def _clock(seconds: float) -> str:
    """`42 s`, `3 min`, `1 h 20 min`: as exact as a forecast deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
