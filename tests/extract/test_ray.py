"""Ray: the same store as one process makes, though actors are killed; one cluster for all tests."""

import socket
import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from fake_upstream import (
    Listener,
    contents_of,
    load_fake,
    make_corpus,
    recording,
    run,
    tiny_shards,
    use_loader,
)
from ray_cluster import cluster
from ser_features.errors import UsageError, WorkerError
from ser_features.extract.pipeline import Options
from ser_features.manifest import Manifest
from ser_features.store.reader import open_feature_set

LENGTHS = (900, 160, 2400, 2400, 5000, 333, 8000, 1234, 161, 640, 3000, 700, 1500)
TWO = {"engine": "ray", "devices": "cpu,cpu"}


def needs_ray() -> None:
    if find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'serfeat[ray]'")


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    needs_ray()
    with cluster():
        yield


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_corpus(tmp_path / "corpus", LENGTHS)


@pytest.mark.usefixtures("ray")
def test_the_store_is_that_of_one_process_though_actors_were_killed(
    tmp_path, monkeypatch, manifest, capfd
):
    """The actors' device is too small for three utterances; partners and noise come in."""
    recording(tmp_path / "noise" / "n.wav", 9000, 99)
    text = f"copypaste-se:crop=0.2+noise:snr=10,folder={tmp_path / 'noise'}"
    noisy = {"frames": True, "augment": (text,)}
    tiny_shards(monkeypatch)
    use_loader(monkeypatch, load_fake)
    run(manifest, tmp_path / "alone", **noisy)
    use_loader(monkeypatch, partial(load_fake, fit=2, dies=str(tmp_path / "deaths"), deaths=2))
    listener = Listener()
    report = run(manifest, tmp_path / "made", progress=listener, **noisy, **TWO)
    assert contents_of(tmp_path / "made") == contents_of(tmp_path / "alone")
    assert report.num_new == len(LENGTHS)
    said = [text for text in listener.said if text.startswith("Ray worker ")]
    assert len(said) == 2
    assert " on cpu died (The actor died unexpectedly before finishing this task); a n" in said[0]
    assert listener.done == pytest.approx(report.audio_seconds)
    placement = open_feature_set(tmp_path / "made", report.spec).spec.provenance["placement"]
    assert placement == {"engine": "ray", "devices": ["cpu", "cpu"]}
    assert capfd.readouterr().out == ""  # Ray keeps quiet where results go


@pytest.mark.usefixtures("ray")
def test_more_workers_than_the_cluster_has(tmp_path, monkeypatch, manifest):
    use_loader(monkeypatch, load_fake)
    told = "asks Ray for 3 workers, 0 of them on a GPU; the cluster has 2 CPUs .* and 0 GPUs"
    with pytest.raises(UsageError, match=told):
        run(manifest, tmp_path / "store", engine="ray", devices="cpu,cpu,cpu")
    with pytest.raises(UsageError, match="--devices all: the Ray cluster has no GPU; leave it out"):
        run(manifest, tmp_path / "store", engine="ray", devices="all")
    report = run(manifest, tmp_path / "store", engine="ray")  # one actor a machine
    assert report.num_new == len(LENGTHS)


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch, manifest):
    use_loader(monkeypatch, load_fake)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"^--engine ray needs Ray: pip install 'serfeat\[ray\]'$"):
        run(manifest, tmp_path / "store", engine="ray")


def test_a_cluster_that_does_not_answer(tmp_path, monkeypatch, manifest):
    needs_ray()
    use_loader(monkeypatch, load_fake)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(WorkerError, match=f"cannot reach Ray at {address}: .*Connection refused"):
        run(manifest, tmp_path / "store", engine="ray", ray_address=address)


def test_what_does_not_fit_together():
    with pytest.raises(UsageError, match="--devices 'cuda:0': Ray chooses which GPU; name 'all', "):
        _ = Options(engine="ray", devices="cuda:0,cuda:1").placement
    with pytest.raises(UsageError, match="--ray-address goes with --engine ray"):
        _ = Options(ray_address="head:6379").placement
