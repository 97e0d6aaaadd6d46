"""A real HTTP server on loopback that answers as it is told: for failures that a healthy vLLM does not show."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Scripted(ThreadingHTTPServer):
    """Answers by path: a list of (status, body), given one after the other, the last one for ever; or a function from the request's body
    to one."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, answers):
        self.answers = {path: given if callable(given) else list(given) for path, given in answers.items()}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: a second small one would wait 40 ms for the first to be acknowledged
    server: Scripted

    def do_GET(self):
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        self.server.headers.append(dict(self.headers))
        answers = self.server.answers.get(self.path, [(404, {"detail": "Not Found"})])
        if callable(answers):
            status, body = answers(json.loads(asked))
        else:
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass
