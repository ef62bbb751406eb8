import numpy as np

from ser_features.heads.layers import fit_each_layer
from ser_features.heads.linear import fit_path


def test_every_layer_is_fitted_by_itself() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 3, 5)).astype(np.float32)
    labels = np.arange(60) % 3
    grid = (1e-2, 1.0)
    layers = list(fit_each_layer(features, labels, [features], grid, 500))
    assert len(layers) == 3
    for layer, fits in enumerate(layers):
        alone = features[:, layer]
        for ours, theirs in zip(fits, fit_path(alone, labels, [alone], grid, 500), strict=True):
            assert (ours.c, ours.converged) == (theirs.c, theirs.converged)
            np.testing.assert_array_equal(ours.predictions[0], theirs.predictions[0])
