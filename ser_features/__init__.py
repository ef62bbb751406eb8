"""Run frozen speech encoders once, keep every layer, compare them honestly."""

__version__ = "0.1.0"
