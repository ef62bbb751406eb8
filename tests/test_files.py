"""Files are whole or not there, and every byte of a sealed file is covered."""

import os

import pytest

from ser_features.errors import DamageError, StoreError
from ser_features.files import read_sealed, write_atomic, write_sealed

BODY = {"b": [1, 2.5, None, "ü\n"], "a": {"x": True}}


@pytest.mark.parametrize("compact", [False, True])
def test_a_sealed_file_gives_back_its_body(tmp_path, compact):
    write_sealed(tmp_path / "deep" / "x.json", BODY, compact=compact)
    assert read_sealed(tmp_path / "deep" / "x.json") == BODY


@pytest.mark.parametrize("compact", [False, True])
def test_every_flipped_bit_of_a_sealed_file_is_found(tmp_path, compact):
    path = tmp_path / "x.json"
    write_sealed(path, BODY, compact=compact)
    whole = path.read_bytes()
    for position in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(DamageError, match="checksum does not hold"):
            read_sealed(path)
    for bad in (*(whole[:n] for n in range(len(whole))), whole + b" ", b" " + whole):
        path.write_bytes(bad)
        with pytest.raises(DamageError):
            read_sealed(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"body": 1}', "[" * 100_000])
def test_what_is_not_sealed_is_damage(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DamageError):
        read_sealed(tmp_path / "x.json")


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_atomic(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*x\.json: No space left on device"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o002, 0o664)])
def test_the_umask_says_who_may_read(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "x.json", "secret")
    finally:
        os.umask(before)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == mode
