"""The query cache: answers that are kept, and given again only while they hold."""
