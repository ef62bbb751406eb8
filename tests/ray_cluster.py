"""A small Ray cluster of its own, without dashboard, network or noise."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from ser_features.extract.ray_crew import QUIET

STORE_BYTES = 80 * 2**20


TESTS = Path(__file__).resolve().parent
PATHS = os.pathsep.join(map(str, (TESTS, TESTS.parent, TESTS.parent / "cli")))


@contextmanager
def cluster() -> Iterator[str]:
    """Start two CPUs' worth of Ray in this process, and end all of it; yields its address."""
    with mock.patch.dict(os.environ, {**QUIET, "PYTHONPATH": PATHS}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own making
        import ray

        found = ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=STORE_BYTES,
        )
    try:
        yield found.address_info["gcs_address"]
    finally:
        ray.shutdown()
