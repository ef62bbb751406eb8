"""Partial reads of sharded objects: every touched chunk is checked, as zarrs does not."""

import os

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ser_features.errors import DamageError
from ser_features.store.catalog import list_feature_sets
from ser_features.store.schema import cut_of, locate
from ser_features.store.shards import read_part
from store_factory import fill, make_spec

SPEC = make_spec("float16", rows=4, capacity=512, num_layers=3, dim=5)


@pytest.fixture(params=[1, 3], autouse=True)
def hands(monkeypatch, request):
    """Every test once without and once with helpers, which these small objects do not get."""
    monkeypatch.setattr("ser_features.store.hands.WORTH", 1)
    monkeypatch.setattr("ser_features.store.hands._num_hands", lambda: request.param)
    return request.param


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    fill(store, SPEC, lengths=(300, 180))
    return locate(store, list_feature_sets(store)[0].name).group


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    span=st.tuples(st.integers(0, 480), st.integers(0, 480)).map(sorted),
    layers=st.lists(st.integers(0, 2), max_size=4),
    by_layer=st.booleans(),
)
def test_every_part_equals_what_plain_zarr_reads(group, span, layers, by_layer):
    out = np.empty((span[1] - span[0], len(layers), 5), np.float16)
    if by_layer:  # then chunks are read into place
        out = np.empty((len(layers), span[1] - span[0], 5), np.float16).swapaxes(0, 1)
    read_part(group / "frames" / "c.0.0.0", cut_of(SPEC, "frames"), span[0], layers, out)
    whole = zarr.open_array(str(group / "frames"), mode="r")[:]
    np.testing.assert_array_equal(out, whole[span[0] : span[1]][:, layers])


@pytest.mark.parametrize("most", [1, 7, 2561])
def test_reads_that_stop_early_go_on(monkeypatch, group, most):
    def preadv(handle, buffers, start):
        raw = os.pread(handle, most, start)
        for each in buffers:
            taken = min(len(each), len(raw))
            each[:taken], raw = np.frombuffer(raw[:taken], np.uint8), raw[taken:]
        return min(most, sum(len(each) for each in buffers))

    monkeypatch.setattr("ser_features.store.fetch.os.preadv", preadv)
    out = np.empty((3, 300, 5), np.float16).swapaxes(0, 1)
    read_part(group / "frames" / "c.0.0.0", cut_of(SPEC, "frames"), 100, [0, 1, 2], out)
    assert np.array_equal(out, zarr.open_array(str(group / "frames"), mode="r")[100:400])


@pytest.mark.parametrize("array", ["frames", "pooled/mean"])
def test_every_flipped_bit_of_an_object_is_found_by_reading_it(tmp_path, group, array):
    cut = cut_of(SPEC, array)
    raw = (group / array / "c.0.0.0").read_bytes()
    rows = 480 if array == "frames" else 2
    path = tmp_path / "object"
    rng = np.random.default_rng(1)
    tail = range(len(raw) - 40, len(raw))  # the index and its checksum
    for number, position in enumerate((*rng.integers(0, len(raw), 200), *tail)):
        bad = bytearray(raw)
        bad[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        out = np.empty((rows, 3, 5), cut.dtype)
        if number % 2:
            out = np.empty((3, rows, 5), cut.dtype).swapaxes(0, 1)
        with pytest.raises(DamageError):
            read_part(path, cut, 0, [0, 1, 2], out)


@pytest.mark.parametrize("keep", [0, 3, 40, -1])
def test_cut_objects_are_damage(tmp_path, group, keep):
    (tmp_path / "object").write_bytes((group / "frames" / "c.0.0.0").read_bytes()[:keep])
    with pytest.raises(DamageError):
        read_part(
            tmp_path / "object",
            cut_of(SPEC, "frames"),
            0,
            [0],
            np.empty((1, 1, 5), np.float16),
        )


def test_a_chunk_that_is_not_there_is_damage_and_not_fill_values(group):
    path, cut = group / "pooled" / "mean" / "c.0.0.0", cut_of(SPEC, "pooled/mean")
    with pytest.raises(DamageError, match="a chunk is not there"):
        read_part(path, cut, 1, [0], np.empty((2, 1, 5), np.float32))


def test_zarrs_still_misses_bad_bits_in_partial_reads(tmp_path):
    """The reason for our own reading: when this fails, zarrs can read for us again."""
    pipeline = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
    with zarr.config.set(pipeline):
        array = zarr.create_array(
            str(tmp_path / "a"),
            shape=(16, 2, 100),
            dtype="float32",
            chunks=(8, 1, 100),
            shards=(16, 2, 100),
            compressors=[zarr.codecs.Crc32cCodec()],
        )
        array[:] = np.arange(3200, dtype=np.float32).reshape(16, 2, 100)
        path = tmp_path / "a" / "c" / "0" / "0" / "0"
        raw = bytearray(path.read_bytes())
        raw[40] ^= 4
        path.write_bytes(raw)
        with pytest.raises(RuntimeError, match="checksum is invalid"):
            array[:]
        assert array[0:8].shape == (8, 2, 100)  # the flipped bit is among them
