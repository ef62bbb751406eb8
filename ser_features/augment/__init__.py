"""Augmentations of the waveform: drawn first, recorded, then applied. One kind a file, one table.

``parse.parse_augmentation`` reads what a user types, ``augmented.augmented_sets`` makes the feature
sets of it, and extraction draws and applies them (``ser_features.extract``).
"""
