"""Stages: pure functions from a batch of samples to columns, and barriers over all shards."""
