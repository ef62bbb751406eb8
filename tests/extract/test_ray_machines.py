"""A Ray cluster of several nodes whose machines may vanish while a corpus is extracted."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fake_upstream import (
    Listener,
    contents_of,
    load_fake,
    make_corpus,
    run,
    tiny_shards,
    use_loader,
)
from ray_cluster import machines

LENGTHS = tuple(range(900, 900 + 30 * 37, 37))


def busy(alive: Path) -> int:
    """The first process that encodes, once two do."""
    end = time.monotonic() + 120
    while not alive.exists() or len(found := dict.fromkeys(alive.read_text().split())) < 2:
        assert time.monotonic() < end, "no two workers began"
        time.sleep(0.02)
    return int(next(iter(found)))


def machine_of(cluster: Any, process: int) -> Any:
    """The node whose scheduler started a process."""
    parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    for node in cluster.list_all_nodes():
        if parent in {one.process.pid for one in node.all_processes["raylet"]}:
            return node
    raise AssertionError(f"no node has process {process}")


@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'serfeat[ray]'")
def test_a_machine_vanishes_and_the_store_is_that_of_one_process(tmp_path, monkeypatch):
    """Its worker finds no other machine; what it held is done by those that are left."""
    manifest, alive = make_corpus(tmp_path / "corpus", LENGTHS), tmp_path / "alive"
    tiny_shards(monkeypatch)
    use_loader(monkeypatch, load_fake)
    run(manifest, tmp_path / "alone", frames=True)
    use_loader(monkeypatch, partial(load_fake, sleep=0.5, alive=str(alive)))
    listener = Listener()
    with machines(1, 1) as cluster, ThreadPoolExecutor(1) as beside:
        gone = beside.submit(lambda: cluster.remove_node(machine_of(cluster, busy(alive)), False))
        where = {"engine": "ray", "ray_address": cluster.address, "devices": "cpu,cpu"}
        report = run(manifest, tmp_path / "made", frames=True, progress=listener, **where)
        gone.result()
    assert report.num_new == len(LENGTHS)
    assert contents_of(tmp_path / "made") == contents_of(tmp_path / "alone")
    lost = [text for text in listener.said if "a new one takes its place" in text]
    assert len(lost) == 1, listener.said
