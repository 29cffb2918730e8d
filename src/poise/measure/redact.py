"""Secrets out of whatever is written: values of key-like environment variables, and things that look like keys."""

from __future__ import annotations

import os
import re

_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)", re.IGNORECASE)
_SHAPES = re.compile(r"\b(sk-[A-Za-z0-9_-]{12,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|Bearer\s+[^\s\"']{8,})")
_URL = re.compile(r"(?<=://)[^/@\s]+@")


def redact(text: str) -> str:
    """`text` with secrets replaced by `[redacted]`."""
    values = (v for k, v in os.environ.items() if _NAMES.search(k) and len(v) >= 8)
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "[redacted]")
    return _URL.sub("[redacted]@", _SHAPES.sub("[redacted]", text))
