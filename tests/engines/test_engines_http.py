"""Retries against a real HTTP server on loopback that fails on purpose."""

import gzip
import threading
import tracemalloc
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from loopback import Scripted

from assay.engines import EngineError
from assay.engines.http import Endpoints, Refused


def failing(*answers):
    return Scripted({"/v1/thing": answers})


def endpoints(*urls, pauses=None, retries=4, **more):
    pauses = [] if pauses is None else pauses
    return Endpoints(
        urls, api_key_variable="ASSAY_TEST_KEY", timeout=5, retries=retries, concurrency=4, pause=pauses.append, **more
    )


class Endless(ThreadingHTTPServer):
    """Sends without end, or one given body under a Content-Encoding; remembers how much was taken from it."""

    daemon_threads = True

    def __init__(self, body=None, encoding=None):
        self.body, self.encoding, self.sent, self.asked = body, encoding, 0, []
        self.left = threading.Event()
        super().__init__(("127.0.0.1", 0), _Endless)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Endless(BaseHTTPRequestHandler):
    server: Endless

    def do_GET(self):
        self.server.asked.append(self.headers["Accept-Encoding"])
        self.send_response(200)
        if self.server.encoding:
            self.send_header("Content-Encoding", self.server.encoding)
        self.end_headers()
        if self.server.body is not None:
            self.wfile.write(self.server.body)
            return
        try:
            while True:
                self.server.sent += self.wfile.write(b"x" * 2**16)
        except OSError:  # the client has left
            self.server.left.set()

    def log_message(self, *arguments):
        pass


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


def test_an_answer_without_end_is_broken_off_and_the_next_server_asked():
    endless, good = Endless(), failing((200, {"ok": 1}))
    tracemalloc.start()
    both = endpoints(endless.url, good.url, largest=2**20)
    assert [both.ask("GET", "/thing") for _ in range(3)] == [{"ok": 1}] * 3
    with pytest.raises(EngineError, match=r"the answer is larger than 1,048,576 bytes; gave up after 2 tries"):
        endpoints(endless.url, retries=1, largest=2**20).ask("GET", "/thing")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20
    assert endless.left.wait(10) and endless.sent < 2**30


def test_an_answer_of_the_largest_size_is_taken_whole():
    body = '"' + "a" * 998 + '"'
    server = failing((200, body))
    assert endpoints(server.url, largest=1000).ask("GET", "/thing") == "a" * 998
    with pytest.raises(EngineError, match="larger than 999 bytes"):
        endpoints(server.url, retries=0, largest=999).ask("GET", "/thing")


def test_a_small_answer_that_unpacks_to_a_large_one_is_broken_off():
    bomb = gzip.compress(b"[" + b" " * 2**28 + b"]")
    assert len(bomb) < 2**19
    server = Endless(bomb, "gzip")
    client = endpoints(server.url, retries=0, largest=2**20)
    tracemalloc.start()
    with pytest.raises(EngineError, match="larger than 1,048,576 bytes"):
        client.ask("GET", "/thing")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20
    assert server.asked == ["identity"]


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_server_that_compresses_unasked_is_understood(encoding, pack):
    assert endpoints(Endless(pack(b'{"ok": 1}'), encoding).url).ask("GET", "/thing") == {"ok": 1}
    with pytest.raises(EngineError, match=f"the answer is no {encoding}"):
        endpoints(Endless(b"{}", encoding).url, retries=0).ask("GET", "/thing")
    with pytest.raises(EngineError, match="encoded as br, which was not asked for"):
        endpoints(Endless(b"{}", "br").url, retries=0).ask("GET", "/thing")


def test_json_nested_beyond_reason_is_an_error_of_the_engine():
    with pytest.raises(EngineError, match="the answer is not JSON"):
        endpoints(failing((200, "[" * 100_000)).url).ask("GET", "/thing")
