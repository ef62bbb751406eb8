"""Downstream heads: one a file, and one table of them."""
