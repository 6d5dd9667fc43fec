"""The durable log: streams of records that are appended, read from a position, waited for, and trimmed."""
