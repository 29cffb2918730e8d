"""Shared places of the tests."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public evaluation data kept beside the checkout; tests that need it skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip("no ../shared/data beside the checkout")
    return DATA
