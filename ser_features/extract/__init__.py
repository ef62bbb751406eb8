"""From a manifest and an upstream to a feature set: plan, pipeline, repair."""
