"""A small Ray cluster of its own, without dashboard, network or noise."""

import logging
import os
import secrets
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from ser_features.extract.ray_crew import QUIET

STORE_BYTES = 80 * 2**20


TESTS = Path(__file__).resolve().parent
PATHS = os.pathsep.join(map(str, (TESTS, TESTS.parent, TESTS.parent / "cli")))


# With a token of its own Ray writes none into the home folder.
OWN = {
    **QUIET,
    "PYTHONPATH": PATHS,
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(),
}


@contextmanager
def cluster() -> Iterator[str]:
    """Start two CPUs' worth of Ray in this process, and end all of it; yields its address."""
    with mock.patch.dict(os.environ, OWN):
        with warnings.catch_warnings():
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


@contextmanager
def machines(*cpus: int) -> Iterator[Any]:
    """A cluster of so many nodes, each with a scheduler and a store of its own as a machine has."""
    with mock.patch.dict(os.environ, OWN), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own making
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        found = Cluster(initialize_head=True, head_node_args=head)
        try:
            for count in cpus:
                found.add_node(num_cpus=count, object_store_memory=STORE_BYTES)
            yield found
        finally:
            found.shutdown()


@contextmanager
def cluster_of_its_own() -> Iterator[str]:
    """The same in another process, for those that fork; it ends with the block, or with us."""
    command = [sys.executable, __file__]
    with (
        mock.patch.dict(os.environ, OWN),
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


if __name__ == "__main__":
    OWN |= {name: os.environ[name] for name in OWN}
    with cluster() as address:
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
        sys.stdin.read()
