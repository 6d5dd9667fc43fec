"""Every example in a docstring of the package runs, and gives what it says."""

from __future__ import annotations

import doctest
import importlib
import io
import pkgutil

import pytest

import consona

MODULES = ["consona", *sorted(found.name for found in pkgutil.walk_packages(consona.__path__, "consona."))]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    said = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(example, out=said.write)
    assert runner.summarize(verbose=False).failed == 0, said.getvalue()
