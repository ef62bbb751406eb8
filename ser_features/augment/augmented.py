"""One augmented version of a corpus: an augmentation with its seed, copy and recordings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from ser_features.augment.copypaste import suits
from ser_features.augment.extra import check
from ser_features.augment.fields import MOST_SAMPLES
from ser_features.augment.folder import Recording, folder_sha256, read_recordings
from ser_features.augment.kind import Context, Dice, Samples, Scene, as_samples
from ser_features.augment.parse import Augmentation, Step, parse_augmentation
from ser_features.augment.partners import Partners, load_partner, partner_error
from ser_features.augment.recorded import check_draw, lengths, read_draw, read_steps
from ser_features.augment.table import AUGMENTATIONS
from ser_features.augment.values import Value, show
from ser_features.errors import AudioError, UsageError
from ser_features.fingerprint import canonical_json
from ser_features.records import Json, Utterance

SCHEMA = 1
MOST_TEXT, MOST_STEPS, MOST_SEED = 2**13, 16, 2**53
"""Of a stored augmentation, which anybody may have written."""
MOST_GROWTH, MOST_SECONDS = 16, 120.0
"""A step may make a recording so many times as long, or of so many seconds."""


@dataclass(frozen=True, slots=True)
class Augmented:
    """What makes one feature set other than the clean one. Plain data: workers receive it.

    ``copy`` counts from 0; ``folders`` holds the recordings of every folder that a step reads.
    """

    augmentation: Augmentation
    seed: int
    copy: int
    folders: tuple[tuple[str, tuple[Recording, ...]], ...]

    @property
    def name(self) -> str:
        """The name of the feature set: ``noise-10db``, its third copy ``noise-10db+2``.

        A seed other than 0 is in it too: ``noise-10db-seed7+2``.
        """
        seed = f"-seed{self.seed}" if self.seed else ""
        return f"{self.augmentation.name}{seed}" + (f"+{self.copy}" if self.copy else "")

    @property
    def identity(self) -> Json:
        """What enters the key: parameters, seed, copy and the content of folders; no paths."""
        return {
            "schema": SCHEMA,
            "steps": [self._identity(step) for step in self.augmentation.steps],
            "seed": self.seed,
            "copy": self.copy,
        }

    @property
    def provenance(self) -> dict[str, Json]:
        """All that is needed to make it again, and the versions of what made it."""
        needs = {module for step in self.augmentation.steps for module in _needs(step)}
        return {
            "name": self.name,
            "text": self.augmentation.text,
            "seed": self.seed,
            "copy": self.copy,
            "identity": self.identity,
            "folders": {
                folder: {"files": len(recordings), "sha256": folder_sha256(recordings)}
                for folder, recordings in self.folders
            },
            "versions": {name: version(name) for name in sorted({*needs, "scipy", "soxr"})},
        }

    def draw(
        self, utterance: Utterance, num_samples: int, rate: int, partners: Partners
    ) -> tuple[str, int]:
        """Everything random about one utterance as canonical JSON, and its length afterwards.

        ``num_samples`` and the result are samples at ``rate`` Hz. Depends on the seed, the copy,
        the utterance's id and length, the contents of folders and, for CopyPaste, on the ids and
        labels of the corpus. Raises AudioError where a partner cannot be used.
        """
        context = Context(utterance, num_samples, rate, dict(self.folders), partners)
        drawn: dict[str, Json] = {"input": num_samples, "steps": []}
        for place, step in enumerate(self.augmentation.steps):
            dice = Dice(self.seed, self.copy, utterance.id, place)
            found = step.kind.draw(dice, step.values, context)
            if "partner" in found:
                drawn["partner"] = found["partner"]
            drawn["steps"].append({"kind": step.name, **found})
            context = replace(context, num_samples=found.get("num_samples", context.num_samples))
            if context.num_samples > _most_samples(num_samples, rate):
                text = f"{self.name} would make {context.num_samples} samples of {num_samples}"
                raise AudioError("augmentation", f"{utterance.path}: {text}")
        drawn["output"] = context.num_samples
        return canonical_json(drawn), context.num_samples

    def apply(
        self, samples: Samples, draw: str, rate: int, partner: Samples | None = None
    ) -> Samples:
        """The recording [n] at ``rate`` Hz as it was drawn, float32 [output].

        ``partner`` [m] is the recording of ``partner_in``, where there is one. A draw is data:
        AudioError where it is not one of this augmentation, with every value in its range.
        """
        drawn = check_draw(draw, self.augmentation.steps)
        if len(samples) != drawn["input"]:
            raise AudioError(
                "changed",
                f"{len(samples)} samples were decoded where the draw expects {drawn['input']}; "
                "the file changed or is damaged: run it again",
            )
        longest = max((*lengths(drawn), drawn["output"]))
        if longest > _most_samples(len(samples), rate):
            text = f"its recorded draw makes {longest} samples of {len(samples)}"
            raise AudioError("augmentation", f"{text}; extract the feature set anew")
        recordings = {one.sha256: one for _, found in self.folders for one in found}
        scene = Scene(rate, recordings, partner)
        for step in drawn["steps"]:
            wanted = step.get("num_samples", len(samples))
            samples = _checked(AUGMENTATIONS[step["kind"]].apply(samples, step, scene), wanted)
        return _checked(as_samples(samples), drawn["output"])

    def _identity(self, step: Step) -> Json:
        contents = {folder: folder_sha256(found) for folder, found in self.folders}
        found: dict[str, Json] = {
            "kind": step.name,
            "version": step.kind.version_of(step.values),
            "parameters": {
                name: contents[value] if isinstance(value, str) else show(value)
                for name, value in step.parameters
            },
        }
        inner = [AUGMENTATIONS[name] for name in step.kind.inner]
        if inner:
            found["inner"] = {
                one.name: {"version": one.version, "parameters": _shown(one.defaults)}
                for one in inner
            }
        return found


@dataclass(frozen=True, slots=True)
class Drawing:
    """An augmentation over one corpus: what draws for its utterances."""

    augmented: Augmented
    partners: Partners

    def draw(self, utterance: Utterance, num_samples: int, rate: int) -> tuple[str, int]:
        """See ``Augmented.draw``."""
        return self.augmented.draw(utterance, num_samples, rate, self.partners)

    def suits(self, utterance: Utterance, draw: str) -> bool:
        """Whether a recorded draw could be one of the corpus as it is labelled now.

        Nothing else of it is looked at, which takes long. AudioError where it is damaged.
        """
        name = partner_of(draw) if self.augmented.augmentation.joining else None
        if name is None:
            return True
        own, partner = self.partners.label(utterance.id), self.partners.label(name)
        return suits(read_steps(draw), own, partner)


def partner_of(draw: str) -> str | None:
    """The id of the utterance that a recorded draw joins to its own; None where there is none."""
    name = read_draw(draw).get("partner") if draw else None
    if not (name is None or isinstance(name, str)):
        raise AudioError("augmentation", f"its recorded draw is damaged: {draw[:40]!r}")
    return name


def partner_in(utterances: Mapping[str, Utterance], draw: str) -> Utterance | None:
    """The utterance that a recorded draw joins to its own; AudioError where it is not known."""
    name = partner_of(draw)
    if name is None or name in utterances:
        return None if name is None else utterances[name]
    raise partner_error(name, AudioError("missing", "it is not in the manifest"))


def partner_samples(utterances: Mapping[str, Utterance], draw: str, rate: int) -> Samples | None:
    """What ``Augmented.apply`` joins, float32 [m] at ``rate`` Hz; AudioError as ``partner_in``."""
    partner = partner_in(utterances, draw)
    return None if partner is None else load_partner(partner, rate).samples


def length_of(draw: str) -> int:
    """The number of samples after a recorded draw."""
    length = read_draw(draw).get("output")
    if type(length) is not int or not 0 <= length <= MOST_SAMPLES:
        raise AudioError("augmentation", "its recorded draw does not say a length")
    return length


def augmented_sets(
    texts: Sequence[str], copies: int = 1, seed: int = 0
) -> tuple[Augmented | None, ...]:
    """The feature sets of ``--augment``: each one ``copies`` times; None is the clean set.

    Reads and hashes the folders. Raises UsageError, also where two of them would share a name, and
    AudioError naming a recording that cannot be read.
    """
    if copies < 1 or not 0 <= seed <= MOST_SEED:
        expected = f"expected 1 or more, and 0 to {MOST_SEED}"
        raise UsageError(f"copies {copies} and seed {seed}: {expected}")
    parsed = list(dict.fromkeys(parse_augmentation(text) for text in texts))
    sets: list[Augmented | None] = []
    for augmentation in parsed:
        if not _fits(augmentation):
            expected = f"at most {MOST_STEPS} steps, and {MOST_TEXT} characters with every value"
            raise UsageError(f"{augmentation.name[:60]} …: expected {expected}")
        if not augmentation.steps:
            sets.append(None)
            continue
        first = _read(augmentation, seed)
        sets += [replace(first, copy=copy) for copy in range(copies)]
    _check_names(one.name for one in sets if one is not None)
    return tuple(sets)


def recall(provenance: Mapping[str, Any]) -> Augmented | None:
    """The augmentation of a stored feature set, its folders read anew; None for a clean one.

    Raises UsageError where a folder is gone or holds other recordings, or where what is stored is
    no augmentation.
    """
    stored = provenance.get("augmentation")
    if stored is None:
        return None
    augmentation, seed, copy = read_stored(stored)
    made = replace(_read(augmentation, seed), copy=copy)
    if made.identity != stored.get("identity"):
        places = ", ".join(folder for folder, _ in made.folders) or "this version of serfeat"
        raise UsageError(f"{made.name}: {places} is not what it was made with; put it back")
    return made


def read_stored(stored: object) -> tuple[Augmentation, int, int]:
    """The parts of a stored augmentation; UsageError where it is none that serfeat wrote."""
    found = stored if isinstance(stored, Mapping) else {}
    text, numbers = found.get("text"), (found.get("seed"), found.get("copy"))
    if isinstance(text, str) and len(text) <= MOST_TEXT:  # before it is parsed
        seed, copy = (one if type(one) is int and 0 <= one <= MOST_SEED else -1 for one in numbers)
        augmentation = parse_augmentation(text)
        if min(seed, copy) >= 0 and augmentation.steps and _fits(augmentation):
            return augmentation, seed, copy
    raise UsageError(
        f"its stored augmentation is not one (expected a text of at most {MOST_STEPS} steps, a "
        "seed and a copy); extract the feature set anew"
    )


def _fits(augmentation: Augmentation) -> bool:
    """Whether a store may hold it: what is made must be read back."""
    return len(augmentation.steps) <= MOST_STEPS and len(augmentation.text) <= MOST_TEXT


def _read(augmentation: Augmentation, seed: int) -> Augmented:
    for step in augmentation.steps:
        for module in _needs(step):
            check(module)
    folders = dict.fromkeys(folder for step in augmentation.steps for folder in step.folders)
    return Augmented(
        augmentation, seed, 0, tuple((folder, read_recordings(folder)) for folder in folders)
    )


def _shown(values: Mapping[str, Value]) -> dict[str, str]:
    return {name: show(value) for name, value in values.items()}


def _kinds(step: Step) -> tuple[str, ...]:
    return (step.name, *step.kind.inner)


def _needs(step: Step) -> Iterable[str]:
    return dict.fromkeys(need for name in _kinds(step) for need in AUGMENTATIONS[name].needs)


def _check_names(names: Iterable[str]) -> None:
    found = list(names)
    twice = [name for name in found if found.count(name) > 1]
    if twice:
        raise UsageError(
            f"two augmentations would be called {twice[0]!r} (they differ in their folder only); "
            "extract them into stores of their own"
        )


def _most_samples(num_samples: int, rate: int) -> float:
    return max(MOST_GROWTH * num_samples, MOST_SECONDS * rate)


def _checked(samples: Samples, num_samples: int) -> Samples:
    if len(samples) != num_samples:
        raise AudioError("augmentation", f"{len(samples)} samples where {num_samples} were drawn")
    if not np.isfinite(samples).all():
        raise AudioError("augmentation", "the augmented samples are not finite")
    return samples
