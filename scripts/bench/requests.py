#!/usr/bin/env python3
"""requests.py of bench.sh: UDP requests of 64 bytes, one after the other, each as soon as the last was answered.

Not sockperf's ping-pong, which waits for ever for the first answer that a loaded device loses.

  requests.py serve ADDRESS PORT
  requests.py ask ADDRESS PORT SECONDS    prints p50 and p99 of the round trip in microseconds, requests, and lost ones
"""
import socket
import struct
import sys
import time

LENGTH = 64
# An answer that takes longer is lost. It counts as one that took so long.
PATIENCE_S = 0.05
# What comes before is not counted.
WARM_UP_S = 0.4


def serve(address):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(address)
    message = bytearray(LENGTH)
    while True:
        length, client = server.recvfrom_into(message)
        server.sendto(message[:length], client)


def ask(address, seconds):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(address)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(PATIENCE_S * 1e6)))
    clock, times, lost = time.perf_counter_ns, [], 0
    warm = clock() + int(WARM_UP_S * 1e9)
    end = warm + int(seconds * 1e9)
    number = sent = 0
    while sent < end:
        number += 1
        message = number.to_bytes(8, "big").ljust(LENGTH, b"\0")
        sent = clock()
        answered = send_and_wait(client, message)
        took = clock() - sent
        if sent >= warm:
            times.append(took)
            lost += not answered
    times.sort()
    p50, p99 = (times[len(times) * percent // 100] / 1000 for percent in (50, 99))
    print(p50, p99, len(times), lost)


def send_and_wait(client, message):
    client.send(message)
    try:
        # The answer to one that was given up may still come.
        while client.recv(LENGTH) != message:
            pass
    except BlockingIOError:
        return False
    return True


if sys.argv[1] == "serve":
    serve((sys.argv[2], int(sys.argv[3])))
else:
    ask((sys.argv[2], int(sys.argv[3])), float(sys.argv[4]))
