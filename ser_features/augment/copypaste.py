"""CopyPaste: an utterance joined with a neutral one, or with one of the same emotion."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ser_features.augment.fields import flag, listed, text, whole, word
from ser_features.augment.kind import Context, Dice, Drawn, Kind, Parameter, Samples, Scene
from ser_features.augment.partners import NEUTRAL
from ser_features.augment.sources import COPYPASTE
from ser_features.augment.values import Value
from ser_features.errors import AudioError
from ser_features.labels import canonical_label
from ser_features.records import Json

SCHEMES = ("neutral", "same")


def drawer(
    schemes: tuple[str, ...],
) -> Callable[[Dice, Mapping[str, Value], Context], dict[str, Json]]:
    """The draw of one of the paper's three: N has one scheme, SE the other, N+SE either."""

    def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
        scheme = schemes[dice.index(len(schemes))]
        crop = round(dice.number(values["crop"]) * context.sample_rate)
        partner = _partner(scheme, dice, context)
        length = context.partners.length(partner, context.sample_rate)
        own = min(crop, context.num_samples)
        other = min(crop, length)
        return {
            "scheme": scheme,
            "partner": partner,
            "partner_input": length,
            "partner_first": bool(dice.index(2)),
            "own": [dice.index(context.num_samples - own + 1), own],
            "other": [dice.index(length - other + 1), other],
            "num_samples": own + other,
        }

    return draw


def _partner(scheme: str, dice: Dice, context: Context) -> str:
    """The id of another utterance; the label of the result stays that of the utterance."""
    utterance, partners = context.utterance, context.partners
    own = canonical_label(utterance.label) if utterance.label else None
    label = NEUTRAL if scheme == "neutral" else own
    count = partners.count(label, utterance.id) if label else 0
    if not (label and own and count):
        found = f"no other utterance is labelled {label!r}" if own else "it has no label"
        raise AudioError("no-partner", f"{utterance.path}: {found}; leave it out of CopyPaste")
    return partners.pick(label, utterance.id, dice.index(count))


def suits(steps: Sequence[Json], own: str | None, partner: str | None) -> bool:
    """Whether a partner has the label that recorded steps ask for; so too where one is not known.

    Both labels are canonical. The steps may be anything: whether they are sound is not asked here.
    """
    found = [one.get("scheme") for one in steps if isinstance(one, dict)]
    wanted = NEUTRAL if "neutral" in found else own
    return wanted is None or partner is None or wanted == partner


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """Both crops one after the other, at their own levels."""
    partner = scene.partner
    if partner is None or len(partner) != drawn["partner_input"]:
        text = f"its partner {drawn['partner']!r} changed or is damaged: run it again"
        raise AudioError("partner", text)
    for wave, crop in ((samples, drawn["own"]), (partner, drawn["other"])):
        if sum(crop) > len(wave):
            text = f"a crop of {crop[1]} samples from {crop[0]} on, of {len(wave)}"
            raise AudioError("augmentation", text)
    parts = [
        wave[start : start + count]
        for wave, (start, count) in ((samples, drawn["own"]), (partner, drawn["other"]))
    ]
    return np.concatenate(parts[::-1] if drawn["partner_first"] else parts)


def _kind(name: str, what: str, *schemes: str) -> Kind:
    return Kind(
        name=f"copypaste-{name}",
        what=f"joined with {what}, before or after; the label stays the utterance's",
        source=f"{COPYPASTE}, 2",
        parameters=(
            Parameter(
                "crop", "random part taken of each recording", "4", f"{COPYPASTE}, 3.2.2",
                "s", "s", 0.1, 60,
            ),
        ),
        fields=(
            word("scheme", *schemes), text("partner"), whole("partner_input"),
            flag("partner_first"), listed(whole("own"), 2, 2), listed(whole("other"), 2, 2),
            whole("num_samples"),
        ),
        draw=drawer(schemes),
        apply=apply,
        partner=True,
    )  # fmt: skip


NEUTRAL_COPYPASTE = _kind("n", "a neutral utterance (N-CP)", "neutral")
SAME_COPYPASTE = _kind("se", "one of the same label (SE-CP)", "same")
BOTH_COPYPASTE = _kind("n+se", "a neutral one or one of the same label, equally often", *SCHEMES)
