from __future__ import annotations

import pytest

from consona.rest.client.cookies import CookieJar

HERE = "https://a.example/v1/login"


def jar(now=0.0):
    times = [now]
    made = CookieJar(clock=lambda: times[0])
    return made, times


def test_a_cookie_comes_back_to_its_path_only():
    cookies, _ = jar()
    cookies.take(HERE, "a=1")
    cookies.take(HERE, "b=2; Path=/")
    cookies.take(HERE, "c=3; Path=/v1/users")
    assert cookies.header("https://a.example/v1/users/7") == "c=3; a=1; b=2"
    assert cookies.header("https://a.example/v12") == "b=2"


def test_a_secure_cookie_does_not_travel_in_the_clear():
    cookies, _ = jar()
    cookies.take(HERE, "a=1; Secure; Path=/")
    assert cookies.header("http://a.example/") == ""
    assert cookies.header("https://a.example/") == "a=1"


def test_a_cookie_ends_by_its_age_or_its_date_and_the_age_wins():
    cookies, times = jar()
    cookies.take(HERE, "a=1; Path=/; Max-Age=10; Expires=Thu, 01-Jan-1970 00:00:01 GMT")
    cookies.take(HERE, "b=1; Path=/; Expires=Thu, 01 Jan 1970 00:01:00 GMT")
    times[0] = 9
    assert cookies.header(HERE) == "a=1; b=1"
    times[0] = 11
    assert cookies.header(HERE) == "b=1"
    times[0] = 61
    assert cookies.header(HERE) == ""
    assert len(cookies) == 0


@pytest.mark.parametrize("ending", ["Max-Age=0", "Max-Age=-1", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_cookie_can_be_taken_back(ending):
    cookies, _ = jar(now=1000.0)
    cookies.take(HERE, "a=1; Path=/")
    cookies.take(HERE, f"a=; Path=/; {ending}")
    assert cookies.header(HERE) == ""


@pytest.mark.parametrize("bad", ["", "noequals", "=1", "a=\x00", "a=" + "x" * 5000, ";;;", "a=b\r\nX: y"])
def test_what_cannot_be_a_cookie_is_dropped(bad):
    cookies, _ = jar()
    cookies.take(HERE, bad)
    assert cookies.header(HERE) == ""


def test_a_server_cannot_fill_the_memory_with_cookies():
    cookies, _ = jar()
    for number in range(500):
        cookies.take(HERE, f"c{number}=1; Path=/")
    assert len(cookies) == 50
    assert "c499=1" in cookies.header(HERE)
