"""`consona doctor`: what is in order, and what is not."""

from __future__ import annotations

import json

import pytest

from asgi_app import write_app
from consona.cli import main
from processes import Command, free_port


def doctor(capsys, *arguments: object) -> tuple[int, list[dict[str, str]]]:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", *map(str, arguments), "--json"])
    return int(caught.value.code or 0), json.loads(capsys.readouterr().out)["findings"]


def test_a_good_project_is_in_order(tmp_path, capsys):
    (tmp_path / "consona.toml").write_text('[system]\nname = "shop"\n[services.shop]\napp = "a:b"\n', "utf-8")
    code, findings = doctor(capsys, tmp_path)
    assert code == 0
    found = {finding["what"]: finding for finding in findings}
    assert found["python"]["state"] == "ok"
    assert found["aiohttp"]["state"] == "ok"
    assert "shop, 1 services" in found["project"]["text"]


def test_a_wrong_configuration_is_told_line_by_line(tmp_path, capsys):
    (tmp_path / "consona.toml").write_text('[services.shop]\napp = "a"\nport = "x"\n', "utf-8")
    code, findings = doctor(capsys, tmp_path)
    assert code == 1
    wrong = [finding["text"] for finding in findings if finding["state"] == "wrong"]
    assert len(wrong) == 2
    assert "line 3, services.shop.port" in wrong[1]


def test_a_folder_without_a_project_is_no_fault(tmp_path, capsys):
    code, findings = doctor(capsys, tmp_path)
    assert code == 0
    assert findings[-1]["state"] == "note"
    assert "consona new" in findings[-1]["text"]


def test_it_says_whether_a_service_answers(tmp_path, capsys):
    write_app(tmp_path)
    port = free_port()
    (tmp_path / "consona.toml").write_text(f'[services.shop]\napp = "hello:app"\nport = {port}\n', "utf-8")
    assert "does not answer" in doctor(capsys, tmp_path)[1][-1]["text"]
    with Command("up", folder=tmp_path) as command:
        command.line("shop API")
        assert doctor(capsys, tmp_path)[1][-1] == {
            "what": "service shop",
            "state": "ok",
            "text": f"answers at http://127.0.0.1:{port}",
        }


def test_people_get_one_line_for_each_finding(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["doctor", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok     python ")
    assert all(line.split()[0] in {"ok", "note", "wrong"} for line in lines)
