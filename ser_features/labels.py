"""Emotion words: the canonical map, and the classes that a user asks for.

Corpora keep their own words ("anger", "happiness", "fearful"); a bench needs one word for one
class. ``CANONICAL`` is the whole map. It joins spellings of one emotion only: *calm* stays apart
from *neutral*, and *excited* from *happy*, until a request merges them with ``+``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ser_features.errors import UsageError

_ALIASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("angry", ("anger", "ang")),
    ("boredom", ("boredem", "bored")),  # "boredem" is how EmoBox spells it
    ("calm", ("calmness",)),
    ("disgust", ("disgusted", "dis")),
    ("excited", ("excitement", "exc")),
    ("fear", ("fearful", "afraid", "scared", "fea")),
    ("frustrated", ("frustration", "fru")),
    ("happy", ("happiness", "joy", "joyful", "hap")),
    ("neutral", ("neutrality", "neu")),
    ("other", ("oth",)),
    ("sad", ("sadness",)),
    ("surprise", ("surprised", "sur")),
)

CANONICAL: dict[str, str] = {alias: name for name, aliases in _ALIASES for alias in aliases}
"""Other words of an emotion → the one used for classes; words not in it stand for themselves."""


def canonical_label(label: str) -> str:
    """The one word for a label: case and outer space do not matter, unknown words stay.

    >>> canonical_label("Happiness"), canonical_label(" Boredem "), canonical_label("Whispered")
    ('happy', 'boredom', 'whispered')
    """
    word = " ".join(label.split()).casefold()
    return CANONICAL.get(word, word)


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class of a request: its name and the canonical labels that fall into it."""

    name: str
    members: tuple[str, ...]


def parse_classes(request: Sequence[str]) -> tuple[LabelClass, ...]:
    """The classes of ``--labels``, in the asked order; ``a+b`` is class ``a`` with ``b`` merged in.

    Raises UsageError where a class is empty or a label is asked for twice.

    >>> parse_classes(["anger", "happy+excited"])[1]
    LabelClass(name='happy', members=('happy', 'excited'))
    """
    classes = tuple(_parse_class(item) for item in request)
    if not classes:
        raise UsageError("no labels asked for; expected for example angry,happy,neutral,sad")
    seen: dict[str, str] = {}
    for item, each in zip(request, classes, strict=True):
        for member in each.members:
            if member in seen:
                raise UsageError(
                    f"label {member!r} is asked for twice, by {seen[member]!r} and {item!r}; "
                    "a label can be in one class only"
                )
            seen[member] = item
    return classes


def _parse_class(item: str) -> LabelClass:
    members = tuple(canonical_label(part) for part in item.split("+"))
    if not all(members):
        raise UsageError(f"{item!r} is not a label; expected a word, or words joined by '+'")
    return LabelClass(members[0], members)
