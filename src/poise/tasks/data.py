"""Rows of data files (TSV, CSV, JSON, JSONL, folders, `.gz`) and of hub data sets, as dicts.

A source is a path or `hub:REPO[/CONFIG][@REVISION][:SPLIT]` (REPO as `org/name`; split `test` unless given).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO, cast

from poise.counted import counted
from poise.registry import did_you_mean
from poise.types import UsageError

SUFFIXES = (".tsv", ".csv", ".jsonl", ".ndjson", ".json", ".txt")
_SPLIT = re.compile(r"(?<![a-z])(train|dev|val|valid|validation|test)(?![a-z])")
"""How published files and their folders say of which split they are."""
LINE_CAP = 64 * 2**20
"""Longest line in characters that is read; more is a damaged or hostile file."""
GZ_CAP = 8 * 2**30
"""Most characters that one compressed file may unpack to."""

LFS = "version https://git-lfs.github.com/spec/"

Row = dict[str, Any]


def need(data: Any, task: str, example: str) -> str:
    """The one data source of a task as text; UsageError where there is none or more than one."""
    if isinstance(data, list | tuple) and len(data) == 1:
        data = data[0]
    if not data or isinstance(data, list | tuple):
        what = "one data source" if data else "data"
        raise UsageError(f"task {task} needs {what}: give --data {example} (or `data:` in the study)")
    return str(data)


def whole(options: Row, name: str, default: int, task: str) -> int:
    """The option `name` as a whole number of at least 1."""
    value = options.get(name, default)
    if not str(value).isdigit() or int(value) < 1:
        raise UsageError(f"{task}: {name} must be a whole number of at least 1, not {value!r}")
    return int(value)


def text_of(row: Row, column: str, where: str) -> str:
    """A column's text without blanks around it; UsageError where the row holds nothing or something else there."""
    value = row[column]
    if value is None or isinstance(value, list | dict):
        raise UsageError(f"{where}: {column!r} is {kind_of(value)} where a text belongs")
    return str(value).strip()


def kind_of(value: Any) -> str:
    """What a JSON value is, for a sentence."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def read_rows(
    source: str | Path, columns: Sequence[str] = (), null: bool = False, header: bool = True
) -> Iterator[Row]:
    """Yield the rows of a file, a folder of files or a hub data set; every name in `columns` must be a column.

    Without `header` the columns of TSV and CSV are named by their numbers, from 1.
    Raises UsageError for a missing file, no rows, a missing column, null there unless `null` allows it, or a malformed
    line (file and line number).
    """
    empty = True
    for path, rows in _open_all(source, header):
        for number, row in enumerate(rows):
            if number == 0:
                _check_columns(path, row, columns)
            missing = next((c for c in columns if c not in row or (row[c] is None and not null)), None)
            if missing is not None:
                why = f"{missing!r} is null" if missing in row else f"no {missing!r}"
                raise UsageError(f"{path}, row {number + 1}: {why}")
            empty = False
            yield row
    if empty:
        raise UsageError(f"{source} has no rows")


def _open_all(source: str | Path, header: bool) -> Iterator[tuple[str, Iterator[Row]]]:
    if str(source).startswith("hub:"):
        yield str(source), _hub_rows(str(source))
        return
    for path in tables_of(source):
        yield str(path), _file_rows(path, header)


def tables_of(source: str | Path) -> list[Path]:
    """The files of a path; of a folder with tables, plain text (a README, a licence) is no data.

    UsageError for a folder of several splits: together they are no data set that anybody reports on.
    """
    files = files_of(source)
    files = [p for p in files if _kind(p) != ".txt"] or files
    splits = {word for p in files for word in _SPLIT.findall(name_within(p, source).lower())} if len(files) > 1 else {}
    if len(splits) > 1:
        raise UsageError(f"{source} holds {', '.join(sorted(splits))}: give the files of one of them")
    return files


def labelled(rows: Iterable[Row], labels: str) -> Iterator[Row]:
    """Rows, each with the `label` that stands in its line of another file."""
    for number, (row, label) in enumerate(zip_longest(rows, read_lines(Path(labels).expanduser()))):
        if row is None or label is None:
            few, more = ("row", "labels") if row is None else ("label", "rows")
            raise UsageError(
                f"{labels}: a line for each row is needed, but to {counted(number, few)} there are more {more}"
            )
        yield {**row, "label": label.strip()}


def files_of(source: str | Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """The data files of a path: itself, or all below a folder (sorted); UsageError where there is none."""
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        near = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        hint = did_you_mean(path.name, near) if near and len(near) < 200 else ""
        raise UsageError(f"no file or folder {path}{hint if 'did you mean' in hint else ''}")
    found = sorted(p for p in path.rglob("*") if p.is_file() and _kind(p) in suffixes)
    if not found:
        raise UsageError(f"{path} has no data files ({', '.join(suffixes)})")
    return found


def name_within(path: Path, source: str | Path) -> str:
    """What to call a file of a source: its path below the folder, or its name; without `.gz`."""
    root = Path(source).expanduser()
    name = path.name if path == root else path.relative_to(root).as_posix()
    return name[:-3] if name.lower().endswith(".gz") else name


def _kind(path: Path) -> str:
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def _check_columns(path: str, row: Row, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in row:
            there = ", ".join(map(repr, row))
            hint = did_you_mean(column, [str(k) for k in row])
            raise UsageError(
                f"{path} has no column {column!r}; it has {there}" + (hint if "did you mean" in hint else "")
            )


def _file_rows(path: Path, named: bool) -> Iterator[Row]:
    kind = _kind(path)
    if kind == ".tsv":
        return _separated(path, "\t", csv.QUOTE_NONE, named)
    if kind == ".csv":
        return _separated(path, ",", csv.QUOTE_MINIMAL, named)
    if kind in (".jsonl", ".ndjson"):
        return _json_lines(path)
    if kind == ".json":
        return _json_documents(path)
    if kind == ".txt":
        if "\t" in next(read_lines(path), ""):  # SNLI and MultiNLI are published so
            return _separated(path, "\t", csv.QUOTE_NONE, named)
        return ({"text": line} for line in read_lines(path))
    raise UsageError(f"{path}: unknown kind of data file {kind!r}; there are: {', '.join(SUFFIXES)} (and .gz of each)")


def open_text(path: Path) -> TextIO:
    """The file as UTF-8 text (a byte-order mark dropped), unpacked where it ends in `.gz`."""
    try:
        opener: Any = gzip.open if path.suffix.lower() == ".gz" else Path.open
        binary = opener(path, "rb")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    return io.TextIOWrapper(binary, encoding="utf-8-sig", newline="\n")


def read_lines(path: Path) -> Iterator[str]:
    """Lines without their ends, in constant memory; UsageError for bytes that are no UTF-8 and for monstrous lines."""
    number, total, packed = 0, 0, path.suffix.lower() == ".gz"
    with open_text(path) as file:
        while True:
            number += 1
            try:
                line = file.readline(LINE_CAP + 1)
            except UnicodeDecodeError as error:
                raise UsageError(
                    f"{path}, line {number} or soon after: not UTF-8 ({error.reason}); convert it, e.g. with iconv"
                ) from None
            except (OSError, EOFError) as error:
                raise UsageError(f"{path}: {error}; the file is damaged") from None
            if not line:
                return
            total += len(line)
            if number == 1 and line.startswith(LFS):
                raise UsageError(
                    f"{path} is not the data but Git LFS's pointer to them: fetch them with `git lfs pull`"
                )
            if len(line) > LINE_CAP or (packed and total > GZ_CAP):
                raise UsageError(f"{path}, line {number}: too long to be a data file of this kind")
            yield line.rstrip("\r\n")


def _separated(path: Path, delimiter: str, quoting: int, named: bool) -> Iterator[Row]:
    lines = (line + "\n" for line in read_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, quoting=cast(Any, quoting), strict=quoting != csv.QUOTE_NONE)
    header: list[str] = []
    csv.field_size_limit(max(csv.field_size_limit(), LINE_CAP))  # articles are longer than its default of 128 KiB
    try:
        for cells in reader:
            if not cells:
                continue
            if not header:
                header = [name.strip() if named else str(k) for k, name in enumerate(cells, 1)]
                if named:
                    continue
            if len(cells) != len(header):
                raise UsageError(
                    f"{path}, line {reader.line_num}: {counted(len(cells), 'column')}, "
                    f"but the header names {len(header)}"
                )
            yield dict(zip(header, cells))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}") from None


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {number}: {kind_of(row)} where an object belongs")
        yield row


def read_json(path: Path) -> list[Any]:
    """All JSON documents of a file, one after the other (most files hold one)."""
    text = "\n".join(read_lines(path))
    decoder, documents, position = json.JSONDecoder(), [], 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        try:
            document, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, getattr(error, "pos", position)) + 1
            raise UsageError(f"{path}, line {line}: not JSON ({getattr(error, 'msg', 'nested too deeply')})") from None
        documents.append(document)
    return documents


def _json_documents(path: Path) -> Iterator[Row]:
    """Objects of a JSON file: a list of them, several documents, or one object with a single list inside."""
    documents = read_json(path)
    rows = documents[0] if len(documents) == 1 else documents
    if isinstance(rows, dict):
        lists = [v for v in rows.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        rows = lists[0] if len(lists) == 1 else [rows]
    if not isinstance(rows, list):
        raise UsageError(f"{path}: {kind_of(rows)} where a list of objects belongs")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UsageError(f"{path}, item {number}: {kind_of(row)} where an object belongs")
        yield row


def parse_hub(source: str) -> tuple[str, str | None, str | None, str]:
    """`hub:org/name[/config][@rev][:split]` → (repo, config, revision, split); `glue/X` means `nyu-mll/glue`."""
    name, _, split = source.removeprefix("hub:").partition(":")
    name, _, revision = name.partition("@")
    parts = [p for p in name.split("/") if p]
    if parts and parts[0] == "glue":
        parts = ["nyu-mll", *parts]
    if not 2 <= len(parts) <= 3:
        raise UsageError(f"{source!r}: write hub:org/name[/config][@revision][:split]")
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None, revision or None, split or "test"


def _hub_rows(source: str) -> Iterator[Row]:
    repo, config, revision, split = parse_hub(source)
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{source} needs the datasets package: pip install 'poise[hub]'") from None
    datasets.disable_progress_bars()
    try:  # kept on disk and mapped from there; the package runs no code of a data set since its version 4
        rows = datasets.load_dataset(repo, config, revision=revision, split=split)
    except Exception as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise UsageError(f"{source} could not be loaded: {reason}{_hint(reason)}") from None
    return (dict(row) for row in rows)


def _hint(reason: str) -> str:
    """What to do about the hub's or the package's refusal."""
    if "gated" in reason or "authenticated" in reason:
        return "; accept its terms on the hub and put a token into HF_TOKEN"
    if "doesn't exist on the Hub" in reason:
        return "; check the name, or put a token into HF_TOKEN if it is private"
    if "reach" in reason or "connect" in reason.lower() or "offline" in reason.lower():
        return "; without network, give a local path (or what is in the hub's cache)"
    return ""


def data_sha(source: Any, suffixes: Sequence[str] = SUFFIXES) -> str:
    """SHA-256 over the bytes of all files of a source (in order), or over the rows of a hub data set; "" for None.

    `suffixes` are those of the files that the task reads in a folder.
    """
    if source is None:
        return ""
    sha = hashlib.sha256()
    for one in source if isinstance(source, list | tuple) else [source]:
        if str(one).startswith("hub:"):
            for row in _hub_rows(str(one)):
                sha.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
            continue
        for path in files_of(one, suffixes):
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    sha.update(chunk)
    return sha.hexdigest()
