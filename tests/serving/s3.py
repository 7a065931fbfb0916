"""A small S3-compatible store on loopback that reads the signature of each request as the real one does."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

ACCESS, SECRET, REGION = "site-reader", "a-secret-of-the-site", "us-east-1"


class Handler(BaseHTTPRequestHandler):
    root: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        file = self.root / unquote(self.path).lstrip("/")
        if self.headers.get("authorization", "") != self._wanted():
            self._answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
        elif not file.is_file():
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._answer(200, file.read_bytes())

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("etag", '"1"')
        self.send_header("last-modified", "Mon, 23 Nov 2026 05:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def _wanted(self) -> str:
        """Return the header that Signature Version 4 asks for."""
        given = self.headers.get("authorization", "")
        names = given.partition("SignedHeaders=")[2].partition(",")[0]
        day = self.headers.get("x-amz-date", "")[:8]
        headers = "".join(f"{name}:{' '.join(self.headers[name].split())}\n" for name in names.split(";") if name)
        path = quote(unquote(self.path))
        content = self.headers.get("x-amz-content-sha256", "")
        request = f"GET\n{path}\n\n{headers}\n{names}\n{content}"
        scope = f"{day}/{REGION}/s3/aws4_request"
        text = "\n".join(
            (
                "AWS4-HMAC-SHA256",
                self.headers.get("x-amz-date", ""),
                scope,
                hashlib.sha256(request.encode()).hexdigest(),
            )
        )
        key = f"AWS4{SECRET}".encode()
        for part in (day, REGION, "s3", "aws4_request", text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={key.hex()}"


@contextmanager
def store(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the folders of ``root`` as buckets; give the endpoint and the paths asked for."""
    asked: list[str] = []
    handler = type("Bound", (Handler,), {"root": root, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
