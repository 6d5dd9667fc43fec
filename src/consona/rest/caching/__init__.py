"""An HTTP cache after RFC 9111, as a transport around another."""
