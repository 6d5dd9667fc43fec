"""Queues: work that is put by one and done by another, at least once, also when either of them dies."""
