"""Fixtures that every test may use."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every run, and no clock: a loaded machine must not fail a test.
settings.register_profile("serfeat", deadline=None, derandomize=True)
settings.load_profile("serfeat")
# Other examples: --hypothesis-profile=others --hypothesis-seed=1
settings.register_profile("others", deadline=None)

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Run by s3prl in a process of its own; its package is not there for doctest to import.
collect_ignore = ["train/s3prl_reference.py", "upstreams/s3prl_wav2vec.py"]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real recordings, encoders and folds beside the project; skip where they are not."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real data in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def torture() -> bool:
    """Whether to try everything (``make torture``), not only a sample."""
    return "SERFEAT_TORTURE" in os.environ


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Print how many faults a test tried; ``make torture`` collects them from a file."""

    def count(**numbers: object) -> None:
        line = json.dumps({"test": request.node.nodeid, **numbers})
        print(line)  # noqa: T201
        if report := os.environ.get("SERFEAT_TORTURE_REPORT"):
            with Path(report).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    return count
