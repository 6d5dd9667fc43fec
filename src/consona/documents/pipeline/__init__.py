"""Aggregation pipelines. `parsing.py` understands them; a family of stages has a file of its own."""
