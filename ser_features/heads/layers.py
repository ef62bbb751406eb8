"""The ``linear`` head on every layer by itself: the layer-by-layer curve of an upstream."""

from collections.abc import Iterator, Sequence

from ser_features.heads.linear import Floats, Indices, LinearFit, fit_path


def fit_each_layer(
    train: Floats, labels: Indices, others: Sequence[Floats], grid: Sequence[float], max_iter: int
) -> Iterator[tuple[LinearFit, ...]]:
    """For every layer of ``train`` [N, L, D] in turn, its fits over the grid, as ``fit_path``."""
    for layer in range(train.shape[1]):
        sides = [side[:, layer] for side in others]
        yield tuple(fit_path(train[:, layer], labels, sides, grid, max_iter))
