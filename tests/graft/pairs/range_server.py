"""Serves byte ranges of one file, as object stores do: prints its port, then each answer's size.

A process of its own: GDAL may wait for it while it holds Python's lock.
"""

import http.server
import sys


class Ranges(http.server.BaseHTTPRequestHandler):
    """Answers HEAD and GET with a Range."""

    content = b""

    def do_HEAD(self):
        self.answer(200, b"", len(self.content))

    def do_GET(self):
        if not self.path.endswith(".tif"):  # a listing of the folder is not to be had
            self.send_error(404)
            return
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        part = self.content[first : last + 1]
        where = f"bytes {first}-{first + len(part) - 1}/{len(self.content)}"
        self.answer(206, part, len(part), ("Content-Range", where))
        print(len(part), flush=True)

    def answer(self, status, body, length, *headers):
        self.send_response(status)
        for name, value in (("Accept-Ranges", "bytes"), ("Content-Length", length), *headers):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        Ranges.content = file.read()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    print(server.server_address[1], flush=True)
    server.serve_forever()
