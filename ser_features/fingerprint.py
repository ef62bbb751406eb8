"""Content keys: canonical JSON and files to sha256."""

import hashlib
import json
from pathlib import Path

from ser_features.records import Json


def canonical_json(value: Json) -> str:
    """The one text of a JSON value: sorted keys, no spaces, no NaN.

    >>> canonical_json({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def fingerprint(value: Json) -> str:
    """Sha256 hex of the canonical JSON.

    >>> fingerprint({"a": 1}) == fingerprint(dict([("a", 1)]))
    True
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def depth(value: Json) -> int:
    """How deeply lists and mappings lie in each other.

    >>> depth(1), depth([]), depth({"a": [1]})
    (0, 1, 2)
    """
    found, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list | tuple)]:
        found += 1
        level = [x for one in level for x in (one.values() if isinstance(one, dict) else one)]
    return found


def file_sha256(path: Path) -> str:
    """Sha256 hex of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
