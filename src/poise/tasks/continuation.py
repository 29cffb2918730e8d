"""Continuous writing: given the lines so far of a source or text file, write the next ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from poise.tasks.data import files_of, name_within, need, read_lines, whole
from poise.types import Sample, UsageError

SUFFIXES = (".py", ".js", ".ts", ".java", ".c", ".cpp", ".h", ".go", ".rs", ".rb", ".sh", ".txt", ".md")


class Continuation:
    """The next lines of code or text, compared with those of the file by edit similarity.

    Each file is cut into pieces of `context` lines (32) followed by `lines` (4) that are to be written; the first line
    to be written is never blank.
    """

    name, version = "continuation", 2
    instruction = "Continue this file. Write only the next lines."
    answer_prefix = ""
    extract = "code"
    metrics = ("edit_similarity", "exact_match")
    stop: tuple[str, ...] = ()
    chance, n_ref, max_tokens = 0.0, 48.0, 128
    options = ("context", "lines")
    suffixes = SUFFIXES

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "src/")
        context, wanted = whole(options, "context", 32, self.name), whole(options, "lines", 4, self.name)
        found = False
        for path in files_of(source, SUFFIXES):
            lines, name = list(read_lines(path)), name_within(path, source)
            start = 0
            while start + context + wanted <= len(lines):
                cut = start + context
                while cut + wanted <= len(lines) and not lines[cut].strip():
                    cut += 1
                target = "\n".join(lines[cut : cut + wanted]).rstrip()
                if cut + wanted <= len(lines) and target:
                    found = True
                    fields = {"text": "\n".join(lines[start:cut]) + "\n", "lines": wanted}
                    yield Sample(f"{name}:{cut + 1}", fields, target, cluster=name)
                start = cut + wanted
        if not found:
            raise UsageError(f"{source}: no file is longer than {context} + {wanted} lines")

    def question(self, sample: Sample) -> str:
        return str(sample.fields["text"])

    def answer(self, sample: Sample) -> str:
        return str(sample.target)
