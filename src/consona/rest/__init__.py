"""REST: a client, a server, an HTTP cache, a recorder of exchanges, webhooks, and what they share."""
