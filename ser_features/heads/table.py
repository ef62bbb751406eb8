"""The heads there are: what each reads and where it comes from. Data only, no torch."""

from dataclasses import dataclass

from ser_features.registry import by_name

FRAMES = "frames"
"""What a head reads that has a non-linearity before pooling: needs ``--frames``."""


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """One head. ``reads`` is the stored array it trains on; ``module`` its file in this folder."""

    name: str
    module: str
    reads: str
    description: str
    source: str


HEADS = by_name(
    "head",
    (
        HeadSpec(
            name="superb",
            module="superb",
            reads="pooled/mean",
            description="weighted sum of layers, Linear(256), mean over frames, Linear",
            source="s3prl 0.4.18, downstream/emotion (SUPERB emotion recognition)",
        ),
        HeadSpec(
            name="mlp",
            module="mlp",
            reads=FRAMES,
            description="Linear(128), ReLU on every frame, mean over frames, Linear",
            source="data2vec with synthetic speech, section 2.2; EmoBox",
        ),
        HeadSpec(
            name="attentive",
            module="attentive",
            reads=FRAMES,
            description="Linear(128), ReLU on every frame, self-attentive pooling, Linear",
            source="the pooling is s3prl 0.4.18's SelfAttentionPooling (arXiv 2008.01077)",
        ),
        HeadSpec(
            name="statistics",
            module="statistics",
            reads=FRAMES,
            description="Linear(128), ReLU on every frame, mean and deviation over frames, Linear",
            source="the mlp head with statistics pooling",
        ),
        HeadSpec(
            name="resnet34-copypaste",
            module="resnet34",
            reads=FRAMES,
            description="ResNet-34 (16-128 channels) on a spectrogram, attention pooling, Linear "
            "(400), Linear",
            source="CopyPaste, section 3.1 and Table 1",
        ),
        HeadSpec(
            name="resnet34-transfer",
            module="resnet34",
            reads=FRAMES,
            description="ResNet-34 (32-256 channels, PReLU) on a spectrogram, statistics pooling, "
            "Linear(256), Linear",
            source="Improved SER using transfer learning and spectrogram augmentation, section 4.2",
        ),
        HeadSpec(
            name="linear",
            module="linear",
            reads="pooled/mean",
            description="logistic regression on the mean of one layer, or of all joined",
            source="scikit-learn",
        ),
        HeadSpec(
            name="layers",
            module="layers",
            reads="pooled/mean",
            description="logistic regression on every layer: the curve, and the one dev chooses",
            source="scikit-learn",
        ),
    ),
    lambda head: head.name,
)
"""Every head, by name. A new head is one new file here and one entry in this table."""
