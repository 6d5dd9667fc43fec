"""The addresses that a contract suite runs over: engines that need nothing, and those that need a server."""

import pytest


def fixture_of(engines, servers):
    """A fixture that gives an empty place on each engine.

    Args:
        engines: Name -> what makes an address of a folder.
        servers: Name -> a context manager that gives the address of an empty database, and removes it.
    """

    @pytest.fixture(params=[*engines, *(pytest.param(name, marks=pytest.mark.servers) for name in servers)])
    def url(request, tmp_path):
        if request.param in servers:
            with servers[request.param]() as url:
                yield url
        else:
            yield engines[request.param](tmp_path)

    return url
