"""Document databases: MongoDB's operators and results, on engines that need no server."""

__all__: list[str] = []
