"""The REST server: `api_server.py` is the front, `serving.py` the path of a request."""
