#!/usr/bin/python3
"""podhttpd.py NAME ADDRESS PORT: the web server of a lab's pod.

GET  /                 "pod=NAME client=ADDRESS": who answered, and which source address it saw (was there NAT on the way?)
GET  /blob             24 MiB that look random and are the same in every pod
GET  /blob?rate=N      the same at N bytes a second, so that something can be broken in the middle of a download
GET  /blob.sha256      the hash of the blob
POST /hash             the SHA-256 of the body that arrived
"""
import hashlib
import http.server
import random
import socket
import sys
import time
import urllib.parse

BLOB = random.Random(8472).randbytes(24 << 20)
BLOB_SHA256 = hashlib.sha256(BLOB).hexdigest()
SLICES_PER_SECOND = 50


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is two writes, and the second would wait for the first one to be confirmed

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/blob":
            rate = urllib.parse.parse_qs(url.query).get("rate")
            return self.blob(int(rate[0]) if rate else None)
        if url.path == "/blob.sha256":
            return self.answer(BLOB_SHA256 + "\n")
        if url.path == "/":
            return self.answer("pod=%s client=%s\n" % (sys.argv[1], self.client_address[0]))
        self.send_error(404)

    def do_POST(self):
        left = int(self.headers.get("Content-Length", 0))
        digest = hashlib.sha256()
        while left > 0:
            part = self.rfile.read(min(left, 1 << 16))
            if not part:
                break
            digest.update(part)
            left -= len(part)
        self.answer(digest.hexdigest() + "\n")

    def answer(self, text):
        body = text.encode()
        self.head(len(body))
        self.wfile.write(body)

    def blob(self, rate):
        self.head(len(BLOB))
        if rate is None:
            self.wfile.write(BLOB)
            return
        step = max(1, rate // SLICES_PER_SECOND)
        start = time.monotonic()
        for number, offset in enumerate(range(0, len(BLOB), step)):
            ahead = start + number / SLICES_PER_SECOND - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            self.wfile.write(BLOB[offset : offset + step])

    def head(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer.request_queue_size = 512
if ":" in sys.argv[2]:
    http.server.ThreadingHTTPServer.address_family = socket.AF_INET6
http.server.ThreadingHTTPServer((sys.argv[2], int(sys.argv[3])), Handler).serve_forever()
