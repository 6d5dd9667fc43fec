"""Redis, as one engine at each address: the store, the log and the queues in it share its connections."""
