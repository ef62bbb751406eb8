"""Recorded draws: read as what a stranger may have written, and checked before they are applied."""

import json
from collections.abc import Iterator, Sequence

from ser_features.augment.fields import Field, text, whole, word
from ser_features.augment.parse import Step
from ser_features.augment.table import AUGMENTATIONS
from ser_features.augment.values import Value
from ser_features.errors import AudioError
from ser_features.records import Json

_LENGTHS = (whole("input"), whole("output"))


def read_draw(draw: str) -> dict[str, Json]:
    """The JSON object of a recorded draw; AudioError where it is none."""
    try:
        found = json.loads(draw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise AudioError("augmentation", f"its recorded draw is damaged: {draw[:40]!r}")
    return found


def read_steps(draw: str) -> list[Json]:
    """What a recorded draw says of its steps, unchecked; AudioError where it is no JSON object."""
    return _list(read_draw(draw).get("steps"))


def check_draw(draw: str, steps: Sequence[Step]) -> dict[str, Json]:
    """The recorded draw of an augmentation of these steps.

    Every field is there, of its type, in its range, and there is no other. Raises AudioError that
    names the step, what was found and what was expected.
    """
    found = read_draw(draw)
    drawn = found.pop("steps", None)
    kinds = [one.get("kind") if isinstance(one, dict) else None for one in _list(drawn)]
    if kinds != [step.name for step in steps]:
        expected = ", ".join(step.name for step in steps)
        raise _wrong(f"has the steps {_shown(kinds)}; expected {expected}")
    partners = [one["partner"] for one in drawn if "partner" in one]
    _check("the draw", found, (*_LENGTHS, *(text("partner") for _ in partners)), {})
    if partners != [found[name] for name in found if name == "partner"]:
        raise _wrong(f"joins {_shown(partners)}, and says {_shown(found['partner'])}")
    for place, (one, step) in enumerate(zip(drawn, steps, strict=True), 1):
        _check(f"step {place} ({step.name})", one, *_expected(one, step))
    return {**found, "steps": drawn}


def lengths(drawn: dict[str, Json]) -> Iterator[int]:
    """The samples after each step that changes their number, of a draw that was checked."""
    return (one["num_samples"] for one in drawn["steps"] if "num_samples" in one)


def _expected(found: dict[str, Json], step: Step) -> tuple[tuple[Field, ...], dict[str, Value]]:
    """The fields of one step, and the values that it was asked for."""
    kind, values = step.kind, dict(step.values)
    fields: tuple[Field, ...] = (word("kind", step.name), *kind.fields)
    if kind.inner and found.get("one") in kind.inner:
        inner = AUGMENTATIONS[found["one"]]
        fields, values = (*fields, *inner.fields), inner.defaults
    return fields, values


def _check(
    where: str, found: dict[str, Json], fields: tuple[Field, ...], values: dict[str, Value]
) -> None:
    for one in (field.asked(values) for field in fields):
        if one.name not in found:
            raise _wrong(f"lacks {one.name!r} in {where}; expected {one.what}")
        if one.holds is None or not one.holds(found[one.name]):
            value = _shown(found[one.name])
            raise _wrong(f"says that {one.name!r} is {value} in {where}; expected {one.what}")
    strange = found.keys() - {field.name for field in fields}
    if strange:
        names = ", ".join(field.name for field in fields)
        raise _wrong(f"has {_shown(min(strange))} in {where}; expected only {names}")


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _shown(value: Json) -> str:
    """A short text of anything, at any depth."""
    try:
        return repr(value)[:60]
    except (ValueError, RecursionError):  # a number of thousands of digits, a deep list
        return f"a {type(value).__name__}"


def _wrong(found: str) -> AudioError:
    return AudioError(
        "augmentation",
        f"its recorded draw {found}; serfeat did not write it, or it is damaged: extract the "
        "feature set anew",
    )
