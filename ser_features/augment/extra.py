"""Libraries of the extra ``augment``: imported where they are used, and not before."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ser_features.errors import UsageError

INSTALL = "pip install 'serfeat[augment]'"


def need(module: str) -> Any:
    """The imported module; UsageError that says how to install it."""
    check(module)
    return import_module(module)


def check(module: str) -> None:
    """UsageError where the module is not installed; it is not imported."""
    if find_spec(module) is None:
        raise UsageError(f"this augmentation needs {module}; install it with: {INSTALL}")
