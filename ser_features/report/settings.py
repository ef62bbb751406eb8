"""What tells rows of one name apart: the settings of training and extraction that differ."""

from collections.abc import Mapping, Sequence
from itertools import chain

from ser_features.records import Json
from ser_features.rows import Row

_SHOWN_ELSEWHERE = ("head", "strategy", "resnet")
_FOLLOW = ("eval_every", "micro_batch", "window_bytes", "memory_bytes", "max_bytes", "readers")
"""They follow from others, or decide no score: shown only where nothing else differs."""
_WORDS = {"lrs": "lr", "weight_decays": "weight decay"}
_MISSING = object()


def settings(rows: Sequence[Row]) -> dict[int, str]:
    """By ``id(row)``, what differs between the rows of one name; rows alone have no entry.

    A name is upstream, augmentation, strategy, head and layer. Text such as ``lr 0.001, steps 50``.
    """
    named: dict[tuple[Json, ...], list[Row]] = {}
    for row in rows:
        name = (row.upstream, row.augmentation, row.strategy, row.head, row.layer)
        named.setdefault((*name, row.group), []).append(row)
    return dict(chain.from_iterable(_told(same) for same in named.values() if len(same) > 1))


def _told(rows: Sequence[Row]) -> list[tuple[int, str]]:
    facts = [_facts(row) for row in rows]
    names = dict.fromkeys(chain.from_iterable(facts))
    differ = [name for name in names if len({str(one.get(name, _MISSING)) for one in facts}) > 1]
    first = [name for name in differ if name not in _FOLLOW and name != "features"]
    shown = sorted(first or [name for name in differ if name != "features"] or differ)
    texts = (
        ", ".join(_part(name, one[name]) for name in shown if one.get(name, False) is not False)
        for one in facts
    )
    return [(id(row), text) for row, text in zip(rows, texts, strict=True)]


def _facts(row: Row) -> dict[str, Json]:
    """Every setting of a row by its name; a record of another program may hold anything."""
    training, inputs = _mapping(row.config, "training"), _mapping(row.provenance, "inputs")
    facts: dict[str, Json] = {k: v for k, v in training.items() if k not in _SHOWN_ELSEWHERE}
    facts |= {name: row.config[name] for name in ("fold_seed", "features") if name in row.config}
    precision = _mapping(inputs, "extraction").get("precision")
    return facts | ({} if precision is None else {"precision": precision})


def _mapping(value: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _part(name: str, value: Json) -> str:
    words = _WORDS.get(name, name).replace("_", " ")
    return words if value is True else f"{words} {_text(value)}"


def _text(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "/".join(map(_text, value))
    return str(value)[:12]
