"""A shop: its catalogue, its customers, and their orders."""
