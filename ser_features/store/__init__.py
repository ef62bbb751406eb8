"""The feature store: Zarr arrays, shards, commit records, checksums; no audio, no torch."""
