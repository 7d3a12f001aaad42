#!/usr/bin/env python3
"""bare.py of bench.sh: joins devices by programs that do nothing but redirect: the least that any data path on these devices does.

usage: bare.py HOOK:FROM[:TO]...

HOOK is xdp, or tcx for a classifier. Each frame that comes in by FROM leaves by TO as it is; without TO it goes on as if there was
no program. Prints `ready`, and undoes it all by ending: the programs hang on descriptors.

Each program is the four instructions of `return bpf_redirect(TO, 0)`, or the two of `return XDP_PASS`, so there is no object to compile and no loader: libbpf of
Debian 12 has no tcx, and a clsact filter would cost a little more than what it is to be compared with.
"""
import ctypes
import os
import platform
import signal
import socket
import struct
import sys

SYS_BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
BPF_PROG_LOAD, BPF_LINK_CREATE = 5, 28
# The kind of program, where it is attached, the flags of that (XDP in the driver), and what lets a frame go on: XDP_PASS, TCX_NEXT.
HOOKS = {"xdp": (6, 37, 1 << 2, 2), "tcx": (3, 46, 0, -1)}
BPF_FUNC_REDIRECT = 23
MOVE, CALL, EXIT = 0xB7, 0x85, 0x95

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes, doing):
    attributes = ctypes.create_string_buffer(attributes, 128)
    descriptor = libc.syscall(SYS_BPF, command, attributes, len(attributes))
    if descriptor < 0:
        sys.exit(f"bare.py: cannot {doing}: {os.strerror(ctypes.get_errno())}")
    return descriptor


def instruction(code, registers=0, value=0):
    return struct.pack("=BBhi", code, registers, 0, value)


def redirect(to):
    return instruction(MOVE, 1, to) + instruction(MOVE, 2, 0) + instruction(CALL, 0, BPF_FUNC_REDIRECT) + instruction(EXIT)


def load(kind, attach_type, code):
    program = ctypes.create_string_buffer(code, len(code))
    words = ctypes.create_string_buffer(b"Dual BSD/GPL")
    count = len(code) // 8
    attributes = struct.pack(
        "=IIQQIIQII16sII", kind, count, ctypes.addressof(program), ctypes.addressof(words), 0, 0, 0, 0, 0, b"bare", 0, attach_type
    )
    return bpf(BPF_PROG_LOAD, attributes, "load a program")


def main():
    if SYS_BPF is None or len(sys.argv) < 2:
        sys.exit(__doc__ if SYS_BPF else f"bare.py: not written for {platform.machine()}")
    # Signals end it as they come, not as exceptions.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    links = []
    for joined in sys.argv[1:]:
        hook, here, *to = joined.split(":")
        kind, attach_type, flags, go_on = HOOKS[hook]
        code = redirect(socket.if_nametoindex(to[0])) if to else instruction(MOVE, 0, go_on) + instruction(EXIT)
        program = load(kind, attach_type, code)
        attributes = struct.pack("=IIII", program, socket.if_nametoindex(here), attach_type, flags)
        links.append(bpf(BPF_LINK_CREATE, attributes, f"attach to {here} by {hook}"))
    print("ready", flush=True)
    signal.pause()


main()
