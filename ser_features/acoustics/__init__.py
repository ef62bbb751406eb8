"""Blind estimates of how recordings sound: noise, reverberation, level, bandwidth, clipping."""
