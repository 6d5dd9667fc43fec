"""The dashboard: an ASGI application that shows what the processes of a system reported to `ops.db`.

    consona.ops.dashboard:create      the factory that servers and `consona up` use; reads CONSONA_OPS
    Dashboard("sqlite:///ops.db")     the application, to serve or to mount
"""
