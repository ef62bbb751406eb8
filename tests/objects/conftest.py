"""A store on a real S3-speaking server, with a bucket and planted credentials for every test."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto.server")

from s3_server import SECRET, TOKEN, Faults, Server
from ser_features.store.place import open_root
from ser_features.store.remote import ObjectPath


@dataclass
class S3:
    """One test's bucket: ``root`` is an empty store in it."""

    server: Server
    root: ObjectPath

    @property
    def faults(self) -> Faults:
        return self.server.faults

    def content(self) -> dict[str, bytes]:
        """Every object of the store by its path in it, leases apart."""
        found = {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.walk()}
        return {name: raw for name, raw in found.items() if not name.endswith("/lock")}


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def s3(server, monkeypatch, request) -> Iterator[S3]:
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "AKIAPLANTEDACCESSKEY",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_REGION": "us-east-1",
        # long enough for a busy machine; tests of a server that fails for good wait for less
        "SERFEAT_S3_PATIENCE": getattr(request.module, "PATIENCE", "20"),
    }.items():
        monkeypatch.setenv(name, value)
    bucket = server.new_bucket()
    yield S3(server, open_root(f"s3://{bucket}/team/features"))
    server.faults.clear()
