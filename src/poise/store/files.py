"""Bytes on disk that outlive a kill and a full disk: lines appended, files replaced as a whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
from msgspec import Struct

from poise.types import PoiseError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_PART = 2**18


class Appender:
    """Append structs as JSON lines, each `write` in one system call; drops a torn tail left by a kill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._encode = msgspec.json.Encoder().encode
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._end = _complete_length(self._fd)
        os.ftruncate(self._fd, self._end)
        os.lseek(self._fd, self._end, os.SEEK_SET)

    def write(self, items: Sequence[Struct]) -> None:
        """Append all items or none; a full disk is a PoiseError and leaves the file whole."""
        data = memoryview(b"".join(self._encode(item) + b"\n" for item in items))
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError as error:
            os.ftruncate(self._fd, self._end)
            os.lseek(self._fd, self._end, os.SEEK_SET)
            if error.errno in _FULL:
                raise PoiseError(
                    f"the disk is full: {self.path} could not grow; what was recorded is kept, "
                    "free some space and give the same command again"
                ) from None
            raise
        self._end += done

    def close(self) -> None:
        os.close(self._fd)


def checksum(paths: Iterable[Path]) -> tuple[int, int]:
    """Bytes of these files together and their CRC-32: the same wherever the files lie, another after any edit."""
    size = crc = 0
    for path in paths:
        with path.open("rb") as file:
            while part := file.read(_PART):
                size, crc = size + len(part), crc32(part, crc)
    return size, crc


def _complete_length(fd: int) -> int:
    """Bytes up to and including the last newline."""
    end = os.lseek(fd, 0, os.SEEK_END)
    position = end
    while position > 0:
        start = max(0, position - 65536)
        os.lseek(fd, start, os.SEEK_SET)
        chunk = os.read(fd, position - start)
        newline = chunk.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        position = start
    return 0


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a whole file so that readers see the old one or the new one, never half."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
        temporary.replace(path)
    except BaseException as error:  # what makes the data may fail too
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise PoiseError(
                f"the disk is full: {path} could not be written; free some space and give the same command again"
            ) from None
        raise


def encode_pretty(value: Any) -> bytes:
    """Stable, indented JSON bytes (keys in struct order), newline at the end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
