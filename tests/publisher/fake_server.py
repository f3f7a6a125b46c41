"""The HTTP side of the fake: reads a request, writes the answer, or closes the connection without one."""

from __future__ import annotations

import json
import socket
from http.server import BaseHTTPRequestHandler

PATIENCE = 10.0
LIMITS = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4987", "x-ratelimit-reset": "1767600000"}


class Handler(BaseHTTPRequestHandler):
    """Hands every request to the server's fake; connections stay open as GitHub's do."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        fake = self.server.fake
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer, hang = fake.answer(self.command, self.path, dict(self.headers), raw)
        if hang:
            fake.closing.wait(PATIENCE)
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        headers = {"content-type": "application/json; charset=utf-8"} | LIMITS | answer.headers
        for name, value in (headers | {"content-length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _handle

    def log_message(self, *_: object) -> None:
        pass
