"""A local endpoint that answers as told: well, slowly, wrongly, with limits, or not at all."""

import contextlib
import http.server
import json
import threading
import time

TAGS = ("building=house", "natural=water")
CAPTION = "A small house stands beside a lake."


def answer(caption=CAPTION, objects=None):
    """What a good model says of an image of 64 x 64 pixels that is sent at 256."""
    if objects is None:
        objects = [thing("house", TAGS[0], (16, 32, 64, 96)), thing("a lake", TAGS[1])]
    return json.dumps({"caption": caption, "objects": objects})


def thing(phrase, tag, box=(0, 0, 128, 128)):
    sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return {"phrase": phrase, "tag": tag, "box": sides}


def completion(content, *, finish="stop", tokens=(500, 50), **message):
    """(status, headers, body) of a chat completion."""
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return 200, {}, json.dumps({"choices": [choice], "usage": usage})


def error(status, message, **headers):
    """(status, headers, body) of a refusal; retry_after=1 is the header Retry-After."""
    names = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return status, names, json.dumps({"error": {"message": message}})


class Chat:
    """What was asked, and how it is answered: `reply(number from 0, request)` -> (status, headers,
    body), or None for no answer ever."""

    def __init__(self, reply):
        self.reply, self.requests, self.headers, self.times = reply, [], [], []
        self.lock, self.now, self.most = threading.Lock(), 0, 0
        self.url, self.closing = "", threading.Event()

    def handle(self, request, headers):
        with self.lock:
            number = len(self.requests)
            self.requests.append(request)
            self.headers.append(dict(headers))
            self.times.append(time.monotonic())
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            return self.reply(number, request)
        finally:
            with self.lock:
                self.now -= 1


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        chat = self.server.chat
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = chat.handle(request | {"_path": self.path}, self.headers)
        if found is None:
            chat.closing.wait()
            self.close_connection = True
            return
        status, headers, body = found
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError):  # the client did not wait
            super().handle()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads, request_queue_size, block_on_close = True, 256, False


@contextlib.contextmanager
def serve(reply=lambda number, request: completion(answer())):
    """A `Chat` that listens at `url`."""
    chat = Chat(reply)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.chat = chat
    chat.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield chat
    finally:
        chat.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
