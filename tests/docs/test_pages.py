"""Every program of the documentation and of the README runs, and prints what its page says."""

from __future__ import annotations

from pathlib import Path

import pytest

import pages
from database_servers import empty_mysql, empty_postgresql

ROOT = Path(__file__).parents[2]
SERVERS_PAGE = ROOT / "docs" / "how-to" / "sql-servers.md"
"""Its programs need a database server."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted({*(ROOT / "docs").rglob("*.md")} - {SERVERS_PAGE})]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_programs_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages.PageRun(page).run()


@pytest.mark.servers
@pytest.mark.parametrize("server", [empty_postgresql, empty_mysql], ids=["postgresql", "mariadb"])
def test_the_programs_for_database_servers_run_on_both(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with server() as url:
        monkeypatch.setenv("CONSONA_DATABASE", url)
        pages.PageRun(SERVERS_PAGE).run()


def test_the_readme_program_is_short():
    program = next(block for block in pages.blocks(ROOT / "README.md") if block.language == "python")
    assert program.text.count("\n") < 20


def test_the_readme_begins_with_two_commands():
    first = next(block for block in pages.blocks(ROOT / "README.md") if block.language == "console")
    assert [line.split("#")[0].strip() for line in pages.commands(first)] == ["make run", "make test"]


# The runner itself: a page that is wrong must be noticed.


def page(folder: Path, text: str) -> Path:
    path = folder / "wrong-page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_program_that_fails_is_told_with_its_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError) as caught:
        pages.PageRun(page(tmp_path, "# Page\n\n```python\nfine = 1\n1 / 0\n```\n")).run()
    assert caught.traceback[-1].lineno + 1 == 5


def test_a_wrong_output_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = '```python\nprint("one")\n```\n\n```text title="Output"\ntwo\n```\n'
    with pytest.raises(AssertionError, match="the page promises\ntwo"):
        pages.PageRun(page(tmp_path, text)).run()


def test_await_files_and_output_work_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = """
```python title="small.py"
async def answer() -> int:
    return 42
```

```python
import small

print(await small.answer())
```

```text title="Output"
4...
```
"""
    pages.PageRun(page(tmp_path, text)).run()


def test_a_command_that_fails_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="ended with 3"):
        pages.PageRun(page(tmp_path, "<!-- run -->\n```console\n$ exit 3\n```\n")).run()


def test_a_started_command_is_stopped_when_its_page_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ready.py").write_text("""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
try:
    print("ready", flush=True)
    time.sleep(60)
finally:
    open("gone", "w").close()
""")
    pages.PageRun(page(tmp_path, "<!-- run until: ready -->\n```console\n$ exec python ready.py\n```\n")).run()
    assert (tmp_path / "gone").exists()
