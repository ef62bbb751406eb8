"""What users type for an augmentation: ``NAME:PARAMETER=VALUE,…``, chained with ``+``.

::

    augmentation = "clean" | step {"+" step}
    step         = name [":" parameter "=" value {"," parameter "=" value}]
    value        = number | number "-" number | number {"/" number} | word {"/" word} | path

``0.9-1.2`` is a range, ``10/5/0`` a choice. A ``+`` begins a next step only where the name of an
augmentation follows. A value with ``,`` or such a ``+`` in it stands in double quotes, inside which
a backslash makes the next character plain.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ser_features.augment.kind import Kind, Parameter
from ser_features.augment.table import AUGMENTATIONS
from ser_features.augment.values import Value, show
from ser_features.errors import UsageError
from ser_features.registry import unknown

CLEAN = "clean"
_BARE = re.compile(r'[^,+"\\\s]+')


@dataclass(frozen=True, slots=True)
class Step:
    """One augmentation with a value for every parameter, in the table's order."""

    name: str
    parameters: tuple[tuple[str, Value], ...]

    @property
    def kind(self) -> Kind:
        """Its entry of the table."""
        return AUGMENTATIONS[self.name]

    @property
    def values(self) -> Mapping[str, Value]:
        """Its values by parameter."""
        return dict(self.parameters)

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that it reads."""
        return tuple(value for _, value in self.parameters if isinstance(value, str))


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to a recording, step by step; nothing for ``clean``."""

    steps: tuple[Step, ...]

    @property
    def text(self) -> str:
        """The canonical text, with every value; ``parse_augmentation`` reads it back."""
        return "+".join(_text(step) for step in self.steps) or CLEAN

    @property
    def name(self) -> str:
        """The name of its feature sets: values other than the defaults, no folders.

        >>> parse_augmentation("reverb:wet=0.3+noise:folder=/data/noise,snr=10").name
        'reverb-wet0.3+noise-10db'
        """
        return "+".join(_name(step) for step in self.steps) or CLEAN

    @property
    def joining(self) -> tuple[str, ...]:
        """The steps that join a recording with another one (CopyPaste)."""
        return tuple(step.name for step in self.steps if step.kind.partner)


def parse_augmentation(text: str) -> Augmentation:
    """Read what a user typed; paths become absolute.

    Raises UsageError that says what was found and what is expected. Files are not touched.

    >>> parse_augmentation("reverb").text
    'reverb:room=0-0.2,wet=0-0.5,dry=0.4'
    """
    if text.strip() == CLEAN:
        return Augmentation(())
    found = Augmentation(tuple(_step(part, text) for part in _split(text.strip(), "+")))
    if len(found.joining) > 1:
        names = " and ".join(found.joining)
        raise UsageError(f"{text!r}: one step only may need a partner, not {names}")
    return found


def _step(part: str, text: str) -> Step:
    name, colon, rest = part.partition(":")
    kind = AUGMENTATIONS[name]
    given: dict[str, str] = {}
    for item in _split(rest, ",") if colon else ():
        key, equals, value = item.partition("=")
        if not equals or key in given:
            found = "is given twice" if equals else "has no value"
            raise UsageError(f"{text!r}: {key!r} {found}; expected {_usage(kind)}")
        given[key] = _unquoted(value, text)
    strange = [key for key in given if key not in {one.name for one in kind.parameters}]
    if strange:
        names = [one.name for one in kind.parameters]
        raise UsageError(f"{text!r}: {unknown(f'parameter of {name}', strange[0], names)}")
    values = ((one.name, _value(one, given.get(one.name), kind)) for one in kind.parameters)
    return Step(name, tuple(values))


def _value(parameter: Parameter, given: str | None, kind: Kind) -> Value:
    text = parameter.default if given is None else given
    if not text:
        raise UsageError(f"{kind.name} needs {parameter.name}; expected {_usage(kind)}")
    try:
        return parameter.read(text)
    except ValueError as error:
        raise UsageError(f"{kind.name}: {parameter.name}={text}: expected {error}") from None


def _usage(kind: Kind) -> str:
    """How the step is written, as in ``noise:snr=10/5/0,folder=FOLDER``."""
    items = (f"{one.name}={one.default or one.name.upper()}" for one in kind.parameters)
    listed = ",".join(items)
    return f"{kind.name}:{listed}" if listed else kind.name


def _split(text: str, separator: str) -> Iterator[str]:
    """The parts between separators outside of quotes; UsageError where a quote stays open."""
    start, quoted, i = 0, False, 0
    while i < len(text):
        if text[i] == "\\" and quoted:
            i += 1
        elif text[i] == '"':
            quoted = not quoted
        elif text[i] == separator and not quoted and _separates(text, i):
            yield text[start:i]
            start = i + 1
        i += 1
    if quoted:
        raise UsageError(f"{text!r}: a double quote is not closed")
    yield text[start:]


def _separates(text: str, place: int) -> bool:
    """Whether a ``+`` stands before the name of an augmentation; a ``,`` always separates."""
    following = re.split(r"[:+]", text[place + 1 :], maxsplit=1)[0]
    whole = text[place + 1 :].partition(":")[0]
    return text[place] == "," or following in AUGMENTATIONS or whole in AUGMENTATIONS


def _unquoted(value: str, text: str) -> str:
    if '"' not in value:
        return value
    inside = value[1:-1]
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        raise UsageError(f'{text!r}: quotes go around the whole value, as in folder="/a,b"')
    return re.sub(r"\\(.)", r"\1", inside, flags=re.DOTALL)


def _quoted(value: str) -> str:
    if _BARE.fullmatch(value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _text(step: Step) -> str:
    items = (f"{name}={_quoted(show(value))}" for name, value in step.parameters)
    listed = ",".join(items)
    return f"{step.name}:{listed}" if listed else step.name


def _name(step: Step) -> str:
    parts, defaults = [step.name], step.kind.defaults
    for place, one in enumerate(step.kind.parameters):
        value = step.values[one.name]
        if one.folder or (value == defaults.get(one.name) and not one.shown):
            continue
        parts.append(f"{one.name if place else ''}{show(value, 'or', 'to')}{one.suffix}")
    return "-".join(parts)
