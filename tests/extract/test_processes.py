"""One process for each device: the same store as one process makes, and workers that die."""

import multiprocessing
from functools import partial
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
from ser_features.errors import UpstreamError
from ser_features.manifest import Manifest
from ser_features.store.reader import open_feature_set
from worker_loaders import broken, no_room

LENGTHS = (900, 160, 2400, 2400, 5000, 333, 8000, 1234, 161, 640, 3000, 700, 1500)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_corpus(tmp_path / "corpus", LENGTHS)


def test_the_store_is_that_of_one_process_though_a_worker_was_killed(
    tmp_path, monkeypatch, manifest
):
    """The workers' device is too small for three utterances; partners and noise come in."""
    recording(tmp_path / "noise" / "n.wav", 9000, 99)
    text = f"copypaste-se:crop=0.2+noise:snr=10,folder={tmp_path / 'noise'}"
    noisy = {"frames": True, "augment": (text,)}
    tiny_shards(monkeypatch)
    use_loader(monkeypatch, load_fake)
    report = run(manifest, tmp_path / "alone", **noisy)
    dying = partial(load_fake, fit=2, dies=str(tmp_path / "deaths"), deaths=1)
    use_loader(monkeypatch, dying)
    listener = Listener()
    again = run(manifest, tmp_path / "made", progress=listener, devices="cpu,cpu", **noisy)
    assert contents_of(tmp_path / "made") == contents_of(tmp_path / "alone")
    assert (again.num_new, again.spec.key) == (len(LENGTHS), report.spec.key)
    (said,) = [text for text in listener.said if text.startswith("worker ")]
    assert " on cpu was ended by signal 9 (SIGKILL); a new one takes its place" in said
    total = pytest.approx(again.audio_seconds)
    assert listener.stages[1:] == [("extracting fake", total, "s of audio")]
    assert listener.done == total
    placement = open_feature_set(tmp_path / "made", again.spec).spec.provenance["placement"]
    assert placement == {"engine": "processes", "devices": ["cpu", "cpu"]}
    assert not multiprocessing.active_children()


def test_errors_come_from_the_worker_whole(tmp_path, monkeypatch, manifest):
    use_loader(monkeypatch, no_room)
    with pytest.raises(UpstreamError, match=r"^no room on cpu$"):
        run(manifest, tmp_path / "store", devices="cpu")
    use_loader(monkeypatch, broken)
    with pytest.raises(RuntimeError, match=r"^ZeroDivisionError: 1\n") as caught:
        run(manifest, tmp_path / "store", devices="cpu")
    assert "raise ZeroDivisionError" in caught.value.__notes__[0]
    assert not multiprocessing.active_children()
