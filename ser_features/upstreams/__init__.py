"""Frozen encoders: the catalogue (data only), loading, exact batched encoding."""
