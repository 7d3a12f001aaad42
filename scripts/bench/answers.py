#!/usr/bin/env python3
"""Sends one small frame of UDP of each of ever more flows: the other direction of those that `flows.sh` has the generator begin.

usage: answers.py DEVICE FROM_MAC TO_MAC FROM TO FROM_PORTS TO_PORTS RATE

FROM and TO are addresses, or FIRST+COUNT; ports likewise. Flow N takes the N-th of each, round and round. RATE flows a second,
until it is killed.
"""
import socket
import struct
import sys
import time


def word_sum(data):
    return sum(struct.unpack("!%dH" % (len(data) // 2), data))


def fold(total):
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def values(text, read):
    first, _, count = text.partition("+")
    return [read(first) + n for n in range(int(count or 1))]


def address(text):
    return struct.unpack("!I", socket.inet_aton(text))[0]


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def main():
    device, from_mac, to_mac, sources, destinations, from_ports, to_ports, rate = sys.argv[1:]
    sources, destinations = values(sources, address), values(destinations, address)
    from_ports, to_ports = values(from_ports, int), values(to_ports, int)
    payload = bytes(18)
    length = 8 + len(payload)
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind((device, 0))

    def start_of(source, destination):
        header = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + length, 0, 0, 64, 17, 0, source, destination)
        check = ~fold(word_sum(header)) & 0xFFFF
        header = header[:10] + struct.pack("!H", check) + header[12:]
        # The length is in the pseudo-header, and in the header.
        return mac(to_mac) + mac(from_mac) + b"\x08\x00" + header, word_sum(header[12:]) + 17 + 2 * length

    starts = {(s, d): start_of(s, d) for s in sources for d in destinations}
    rate, sent, begin = int(rate), 0, time.monotonic()
    while True:
        for n in range(sent, int((time.monotonic() - begin) * rate)):
            start, total = starts[sources[n % len(sources)], destinations[n % len(destinations)]]
            source, destination = from_ports[n % len(from_ports)], to_ports[n % len(to_ports)]
            check = ~fold(total + source + destination) & 0xFFFF or 0xFFFF
            try:
                out.send(start + struct.pack("!HHHH", source, destination, length, check) + payload)
            except BlockingIOError:
                pass
            except OSError as error:
                # A queue that is full: the next ones will find room.
                if error.errno != 105:
                    raise
            sent = n + 1
        time.sleep(0.002)


main()
