"""Real exchanges, recorded to a file and replayed in tests, as a transport."""
