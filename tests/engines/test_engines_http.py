"""Retries against a real HTTP server on loopback that fails on purpose."""

import pytest
from loopback import Scripted

from assay.engines import EngineError
from assay.engines.http import Endpoints, Refused


def failing(*answers):
    return Scripted({"/v1/thing": answers})


def endpoints(*urls, pauses=None, retries=4):
    pauses = [] if pauses is None else pauses
    return Endpoints(
        urls, api_key_variable="ASSAY_TEST_KEY", timeout=5, retries=retries, concurrency=4, pause=pauses.append
    )


def test_infrastructure_failures_are_tried_again_after_doubling_pauses():
    pauses: list[float] = []
    server = failing((503, "busy"), (429, "slow down"), (500, "x"), (200, {"ok": 1}))
    assert endpoints(server.url, pauses=pauses).ask("GET", "/thing") == {"ok": 1}
    assert pauses == [0.5, 1.0, 2.0]
    assert len(server.headers) == 4


def test_tries_are_bounded_and_the_last_failure_is_named():
    server = failing((503, {"error": {"message": "out of memory"}}))
    with pytest.raises(EngineError, match=r"/v1/thing: HTTP 503: out of memory; gave up after 3 tries"):
        endpoints(server.url, retries=2).ask("GET", "/thing")
    assert len(server.headers) == 3


def test_a_refusal_is_not_tried_again():
    server = failing((404, {"detail": "Not Found"}))
    with pytest.raises(Refused, match="HTTP 404: Not Found") as caught:
        endpoints(server.url).ask("GET", "/thing")
    assert caught.value.status == 404
    assert len(server.headers) == 1


def test_a_dead_address_is_left_for_the_next_one():
    dead, alive = failing((200, {})), failing((200, {"ok": 1}))
    dead.shutdown()
    dead.server_close()
    both = endpoints(dead.url, alive.url)
    assert [both.ask("GET", "/thing") for _ in range(4)] == [{"ok": 1}] * 4
    with pytest.raises(EngineError, match=r"ConnectError.*check that the server runs"):
        endpoints(dead.url, retries=1).ask("GET", "/thing")


def test_requests_are_spread_over_the_addresses():
    servers = [failing((200, {})) for _ in range(3)]
    spread = endpoints(*(server.url for server in servers))
    for _ in range(9):
        spread.ask("GET", "/thing")
    assert [len(server.headers) for server in servers] == [3, 3, 3]


def test_what_is_not_json_is_said_so_and_nothing_is_none():
    server = failing((200, "<html>"), (200, ""))
    client = endpoints(server.url)
    with pytest.raises(EngineError, match="the answer is not JSON"):
        client.ask("GET", "/thing")
    assert client.ask("GET", "/thing") is None


def test_the_key_of_the_environment_is_sent(monkeypatch):
    monkeypatch.setenv("ASSAY_TEST_KEY", "secret")
    server = failing((200, {}))
    endpoints(server.url).ask("GET", "/thing")
    assert server.headers[0]["Authorization"] == "Bearer secret"
