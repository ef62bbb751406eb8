"""ResNet-34 over a spectrogram, as papers 2 (CopyPaste) and 4 (transfer and augmentation) use it.

Convolution -> 3, 4, 6, 3 residual blocks (strides 1, 2, 2, 2 in time and in bands) -> pooling over
frames -> Linear (the embedding) -> Linear. Frames past an utterance's end are set to zero after
every layer, as if they were the convolutions' own padding, and are not pooled: in evaluation mode
an utterance's logits are the same alone and in a batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

BLOCKS = (3, 4, 6, 3)
EPSILON = 1e-5
"""Under a square root: keeps the gradient finite where nothing varies."""


@dataclass(frozen=True, slots=True)
class ResNetShape:
    """Sizes of the network for a spectrogram of ``bands``.

    ``channels`` are those of the first blocks, doubled at each stride; ``kernel`` is the first
    convolution's. ``average_bands`` takes the mean over the bands that are left before pooling
    (paper 2's average pool); otherwise they are features. ``heads`` are those of the attention.
    """

    bands: int
    num_classes: int
    channels: int = 16
    kernel: int = 7
    activation: str = "relu"
    average_bands: bool = True
    pooling: str = "attention"
    heads: int = 32
    embedding: int = 400

    @property
    def frame_dim(self) -> int:
        """Values of one frame that is pooled."""
        top = self.channels << len(BLOCKS) - 1
        return top if self.average_bands else top * shortened(self.bands, len(BLOCKS) - 1)

    @property
    def pooled_dim(self) -> int:
        """Values of one pooled utterance."""
        return self.frame_dim * {"attention": self.heads, "statistics": 2, "mean": 1}[self.pooling]


def shape_of(head: str, bands: int, num_classes: int, pooling: str) -> ResNetShape:
    """The network of a head on a spectrogram of ``bands``.

    ``resnet34-copypaste``: paper 2, Table 1. ``resnet34-transfer``: paper 4, section 4.2, says 32
    channels, PReLU and batch normalisation in all layers and prints no table: the 3 x 3 first
    convolution without stride, bands kept as features and the embedding of 256 are our choice.
    """
    if head == "resnet34-transfer":
        return ResNetShape(
            bands, num_classes, 32, 3, "prelu", average_bands=False, pooling=pooling, embedding=256
        )
    return ResNetShape(bands, num_classes, pooling=pooling)


def shortened(length: int, strides: int) -> int:
    """Frames (or bands) after so many strides of two, each rounding up.

    >>> shortened(23, 3), shortened(300, 1)
    (3, 150)
    """
    return -(-length // (1 << strides))


def _activation(name: str) -> nn.Module:
    """PReLU has one slope a layer, torch's default; paper 4 does not say."""
    return nn.PReLU() if name == "prelu" else nn.ReLU(inplace=True)


class Block(nn.Module):
    """Two 3 x 3 convolutions, each normalised, and what goes around them (He et al. 2016)."""

    def __init__(self, inside: int, outside: int, stride: int, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.act1 = _activation(activation)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.act2 = _activation(activation)
        around = [nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)]
        self.around = nn.Sequential(*around) if inside != outside else nn.Identity()
        self.stride = stride

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """[B, C, T, F] -> [B, C', T', F']; ``keep`` [B, 1, T', 1] is 0 past an utterance's end."""
        inner = masked(self.act1(self.norm1(self.conv1(x))), keep)
        whole = self.norm2(self.conv2(inner)) + self.around(x)
        return masked(self.act2(whole), keep)


class AttentionPooling(nn.Module):
    """Paper 2, equations 1 and 2: each head weighs frames by their distance to its centre.

    Centres start as normal noise and scales as one; the paper does not say.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(heads, dim))
        self.scales = nn.Parameter(torch.ones(heads))

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """[B, T, D] -> [B, heads * D]."""
        square = x.square().sum(-1, keepdim=True) + self.centres.square().sum(-1)
        distance = (square - 2 * x @ self.centres.T).clamp(min=EPSILON).sqrt()  # [B, T, H]
        scores = -self.scales * distance
        if keep is not None:
            scores = scores.masked_fill(keep == 0, -torch.inf)
        return (scores.softmax(dim=1).transpose(1, 2) @ x).flatten(1)


class StatisticsPooling(nn.Module):
    """Mean and, unless ``mean_only``, standard deviation (the population's) over frames."""

    def __init__(self, mean_only: bool = False) -> None:
        super().__init__()
        self.mean_only = mean_only

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """[B, T, D] -> [B, 2 D], or [B, D]."""
        weight = torch.ones_like(x[..., :1]) if keep is None else keep
        count = weight.sum(1)
        mean = (x * weight).sum(1) / count
        if self.mean_only:
            return mean
        centred = (x - mean.unsqueeze(1)) * weight
        return torch.cat([mean, (centred.square().sum(1) / count + EPSILON).sqrt()], dim=1)


class ResNet34(nn.Module):
    """The network: ``body`` (convolutions), ``pooling``, ``embedding`` and ``output``."""

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__()
        self.shape = shape
        self.body = Body(shape)
        self.pooling = (
            AttentionPooling(shape.frame_dim, shape.heads)
            if shape.pooling == "attention"
            else StatisticsPooling(mean_only=shape.pooling == "mean")
        )
        # what lies between the two linear layers is not printed; without it they would be one
        self.embedding = nn.Sequential(
            nn.Linear(shape.pooled_dim, shape.embedding),
            nn.BatchNorm1d(shape.embedding),
            _activation(shape.activation),
        )
        self.output = nn.Linear(shape.embedding, shape.num_classes)

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits [B, C] of padded spectrograms [B, T, bands], ``lengths`` [B] of them frames.

        Without ``lengths`` all T frames of every spectrogram count.
        """
        hidden = self.embed(frames, lengths)
        with torch.autocast(frames.device.type, enabled=False):
            logits: Tensor = self.output(hidden)
        return logits

    def embed(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The embedding that ``output`` reads, [B, E]."""
        maps, keep = self.body(frames, lengths)
        with torch.autocast(frames.device.type, enabled=False):
            x = maps.float() if maps.dtype == torch.bfloat16 else maps
            x = x.mean(3).transpose(1, 2) if self.shape.average_bands else _flat(x)
            hidden: Tensor = self.embedding(self.pooling(x, keep))
        return hidden


class Body(nn.Module):
    """The convolutional layers: everything that sees frames one after another."""

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__()
        width, kernel = shape.channels, shape.kernel
        self.conv = nn.Conv2d(1, width, kernel, 1, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = _activation(shape.activation)
        blocks, inside = [], width
        for stage, count in enumerate(BLOCKS):
            for number in range(count):
                outside, stride = width << stage, 2 if stage and not number else 1
                blocks.append(Block(inside, outside, stride, shape.activation))
                inside = outside
        self.blocks = nn.ModuleList(blocks)

    def forward(self, frames: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Maps [B, C, T / 8, F / 8] and which of their frames are there [B, T / 8, 1]."""
        x = frames.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        keep = _keep(lengths, x)
        x = masked(self.act(self.norm(self.conv(masked(x, keep)))), keep)
        for block in self.blocks:
            if keep is not None and block.stride == 2:
                keep = keep[:, :, ::2]  # output t is centred on input 2 t
            x = block(x, keep)
        return x, None if keep is None else keep[:, 0]


def _keep(lengths: Tensor | None, x: Tensor) -> Tensor | None:
    """1 where a frame is there, 0 past the end: [B, 1, T, 1]; None where nothing is padded."""
    if lengths is None or int(lengths.min()) == x.shape[2]:
        return None
    places = torch.arange(x.shape[2], device=x.device)
    return (places < lengths.to(x.device)[:, None]).to(x.dtype)[:, None, :, None]


def masked(x: Tensor, keep: Tensor | None) -> Tensor:
    """``x`` with zeros where ``keep`` is 0."""
    return x if keep is None else x * keep.to(x.dtype)


def _flat(x: Tensor) -> Tensor:
    """[B, C, T, F] -> [B, T, C * F]."""
    return x.transpose(1, 2).flatten(2)
