"""Fixtures of the tests of training."""

import pytest

from resnet_factory import thin_shape


@pytest.fixture
def thin_resnets(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet heads have four channels: the layers of the real ones, not their width."""
    from ser_features.train import resnet

    monkeypatch.setattr(resnet, "shape_of", thin_shape)
