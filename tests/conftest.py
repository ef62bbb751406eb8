"""Fixtures that every test may use."""

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every run, and no clock: a loaded machine must not fail a test.
settings.register_profile("serfeat", deadline=None, derandomize=True)
settings.load_profile("serfeat")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real recordings, encoders and folds beside the project; skip where they are not."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real data in {SHARED}")
    return SHARED
