"""Content keys do not depend on order or on how a value was built, and refuse NaN."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_features.fingerprint import canonical_json, file_sha256, fingerprint

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.dictionaries(st.text(max_size=5), st.lists(scalars, max_size=3), max_size=5)


@given(values)
def test_the_order_of_keys_does_not_matter(value):
    turned = dict(reversed(value.items()))
    if "∞" not in canonical_safe(value):
        assert fingerprint(turned) == fingerprint(value)


def canonical_safe(value: object) -> str:
    try:
        return canonical_json(value)
    except ValueError:
        return "∞"


def test_nan_is_refused():
    with pytest.raises(ValueError, match="Out of range float"):
        fingerprint({"a": float("nan")})


def test_file_hash_is_sha256_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()
