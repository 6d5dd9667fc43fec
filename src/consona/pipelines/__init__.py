"""Data pipelines: rows out of one place, changed and checked on the way, into another, each exactly once in effect."""
