import subprocess
import sys

HEAVY = {"vl_convert", "altair", "numpy", "scipy", "polars", "pandas", "torch", "jinja2"}
FACES = "terminal, progress, show, html, markdown, tables, charts"


def test_faces_import_without_what_only_drawing_needs():
    code = f"import sys; from poise.report import {FACES}; print(*{HEAVY!r} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
