"""Consona: the framework with which an application works with everything around it."""
