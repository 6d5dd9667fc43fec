"""Migrations: the steps in which the schema of a database grows, as files beside the program."""
