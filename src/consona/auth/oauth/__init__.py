"""Signing in with another service: OAuth 2, OpenID Connect, and the services that have ways of their own."""
