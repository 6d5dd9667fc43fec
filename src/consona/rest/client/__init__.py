"""The REST client: `api_client.py` is the front, the transports carry what it sends."""
