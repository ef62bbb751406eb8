"""What a user may ask of training, and what is refused before anything is extracted."""

from dataclasses import replace

import pytest

from ser_features.errors import SerfeatError, UsageError
from ser_features.heads.table import HEADS
from ser_features.train.resnet_recipes import ResNetOptions
from ser_features.train.run import (
    Training,
    check_recipe,
    check_resnet,
    check_start,
    check_taken,
)
from ser_features.train.strategies import Strategy, parse_strategy

RESNET = "resnet34-transfer"


@pytest.mark.parametrize(
    ("asked", "heads", "lost"),
    [
        (Training(normalize=True), ["mlp", RESNET], "--normalize"),
        (Training(layers="all"), [RESNET], "--layers"),
        (Training(steps=3, lrs=(1e-3,)), ["linear", "layers"], "--steps, --lr"),
        (Training(weight_decays=(0.0,)), ["layers"], "--weight-decay"),
    ],
)
def test_an_option_that_no_head_takes_is_refused(
    asked: Training, heads: list[str], lost: str
) -> None:
    with pytest.raises(UsageError, match=f"^{lost}: none of the heads takes it: {heads[0]}"):
        check_taken(asked, heads)
    check_taken(asked, [*heads, "superb"])


def test_what_a_head_does_not_take_decides_nothing_for_it() -> None:
    asked = Training(
        "superb", 20, (1e-3,), (0.1,), "last", True, resnet=ResNetOptions(pooling="mean")
    )
    for head in HEADS:
        own = asked.for_head(head)
        assert own.describe(head) == asked.describe(head)
        assert own.for_head(head) == own
        check_recipe(own.recipe, [head])
        check_resnet(own.resnet, [head], ["logmel"])
        check_taken(own, [head])
    assert asked.for_head("superb") == replace(asked, resnet=ResNetOptions())
    assert asked.for_head(RESNET) == replace(asked, recipe=None, layers=None, normalize=False)


@pytest.mark.parametrize("head", ["superb", "mlp", RESNET, "linear"])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Training(layers="second"), "layers 'second': expected 'last', 'all' or a number"),
        (Training(layers="-1"), "layers '-1'"),
        (Training(rate=float("nan")), "rate must be between 0 and 1"),
    ],
)
def test_it_is_said_before_anything_is_extracted(head: str, asked: Training, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked.describe(head)


@pytest.mark.parametrize("head", ["superb", "mlp", RESNET])
@pytest.mark.parametrize(
    "asked",
    [
        Training(lrs=(1e-3, float("nan"))),
        Training(lrs=(float("inf"),)),
        Training(weight_decays=(float("nan"),)),
        Training(weight_decays=(float("inf"),)),
        Training(select="best"),
    ],
)
def test_numbers_that_are_none_are_refused(head: str, asked: Training) -> None:
    with pytest.raises(SerfeatError, match=r"lrs must|weight.decays? must|select must"):
        asked.config(head)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("curriculum:stages=nan", "stages must be a whole number from 2, found nan"),
        ("curriculum:stages=inf", "stages must be a whole number"),
        ("curriculum:stages=2.5", "stages must be a whole number from 2, found 2.5"),
        ("curriculum:stages=1", "found 1"),
        ("transfer:factor=nan", "factor must be above 0"),
        ("transfer:share=x", "'share=x' is not share=NUMBER"),
    ],
)
def test_a_strategy_that_makes_no_sense_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_strategy(text)


@pytest.mark.parametrize(
    ("strategy", "steps", "said"),
    [
        (Strategy("transfer"), 1, "share=0.5 has a stage without training in 1"),
        (Strategy("transfer", share=0.99), 10, "train longer, or move share"),
        (Strategy("curriculum"), 9, "stages=10 has a stage .* in 9 .* use at most 9 stages"),
    ],
)
@pytest.mark.parametrize(("head", "what"), [("superb", "updates"), ("mlp", "epochs")])
def test_no_stage_goes_without_training(
    strategy: Strategy, steps: int, said: str, head: str, what: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Training(strategy=strategy, steps=steps).config(head)
    assert what in str(caught.value)
    Training(strategy=strategy, steps=100).config(head)


def test_voice_activity_detection_needs_frames_that_tell_the_energy() -> None:
    training = Training(resnet=ResNetOptions(vad=True))
    with pytest.raises(SerfeatError, match=r"'fbank' does not keep; use logmel or mfcc, .*no-vad"):
        check_start(training, RESNET, "fbank")
    check_start(training, RESNET, "mfcc")
    check_start(training, "mlp", "fbank")
