"""Corpora: one reader a file, and one table of them."""
