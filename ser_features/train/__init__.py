"""Training heads on cached features: the stacked trainer."""
