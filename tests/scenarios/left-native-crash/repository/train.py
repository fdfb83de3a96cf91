"""Sums a buffer through the C library, with a length that is off by a few gigabytes."""

import ctypes
import faulthandler

faulthandler.enable()
libc = ctypes.CDLL(None)
source = ctypes.create_string_buffer(b"\x01" * 64)
target = ctypes.create_string_buffer(64)
libc.memcpy(target, source, ctypes.c_size_t(len(source) + (8 << 30)))
print(sum(target.raw))
