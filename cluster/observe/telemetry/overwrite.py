"""Overwrites the free memory of one device through the CUDA driver, and checks that it took.

Run as a program of its own: ``python -m cluster.observe.telemetry.overwrite UUID``. It needs nothing but libcuda.so.1,
prints one line of JSON, and its context and memory are gone when it ends. Exit status 0 passed, 1 failed, 3 no CUDA.
"""

from __future__ import annotations

import ctypes
import json
import sys
import uuid
from dataclasses import dataclass

CHUNK_MIB = 1024
LEAST_CHUNK_MIB = 16
MAX_CHUNKS = 4_096
PATTERN = 0xA5C3_96E1
SAMPLES_PER_CHUNK = 64
"""Words read back of each chunk, spread over it, first and last among them."""
MEMORY_SHARE_PERCENT = 90
"""Of the free memory that must be reached; the context itself takes the rest, and fragments cannot be had."""
FAILED, NO_CUDA = 1, 3
UUID_BYTES = 16


class CudaFailed(Exception):
    """A call of the CUDA driver failed."""

    code = "cuda_failed"

    def __init__(self, call: str, status: int) -> None:
        super().__init__(call, status)
        self.call, self.status = call, status

    def __str__(self) -> str:
        return f"{self.call} returned {self.status}"


@dataclass(slots=True)
class Cuda:
    """The few calls of the CUDA driver that are needed."""

    library: ctypes.CDLL

    def call(self, name: str, *arguments: object) -> None:
        """Call it. Raises ``CudaFailed`` on any status but 0."""
        status = self.library[name](*arguments)
        if status:
            raise CudaFailed(name, status)

    def open(self, device: str) -> None:
        """Make a context on the device of this UUID."""
        self.call("cuInit", 0)
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        for ordinal in range(count.value):
            handle = ctypes.c_int()
            self.call("cuDeviceGet", ctypes.byref(handle), ordinal)
            name = (ctypes.c_ubyte * UUID_BYTES)()
            self.call("cuDeviceGetUuid_v2", ctypes.byref(name), handle)
            if str(uuid.UUID(bytes=bytes(name))) == device.partition("-")[2].lower():
                context = ctypes.c_void_p()
                self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
                self.call("cuCtxSetCurrent", context)
                return
        raise CudaFailed(f"no device {device} among {count.value}", FAILED)

    def free_bytes(self) -> int:
        """Return free memory of the device."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, size: int) -> int | None:
        """Return the address of so much memory, or None if there is none in one piece."""
        address = ctypes.c_uint64()
        status = self.library["cuMemAlloc_v2"](ctypes.byref(address), ctypes.c_size_t(size))
        return None if status else address.value

    def fill(self, address: int, size: int, word: int) -> None:
        """Write the word over the whole piece."""
        self.call("cuMemsetD32_v2", ctypes.c_uint64(address), ctypes.c_uint(word), ctypes.c_size_t(size // 4))

    def word_at(self, address: int) -> int:
        """Return the word at the address."""
        word = ctypes.c_uint32()
        self.call("cuMemcpyDtoH_v2", ctypes.byref(word), ctypes.c_uint64(address), ctypes.c_size_t(4))
        return word.value


def overwrite(cuda: Cuda) -> tuple[bool, str]:
    """Take all free memory, write the pattern, read samples back, write zeros, read them back again."""
    free = cuda.free_bytes()
    pieces = _take_all(cuda)
    taken = sum(size for _, size in pieces)
    for word in (PATTERN, 0):
        for address, size in pieces:
            cuda.fill(address, size, word)
        cuda.call("cuCtxSynchronize")
        wrong = _first_wrong(cuda, pieces, word)
        if wrong is not None:
            return False, f"a word reads {wrong:#x} after writing {word:#x}"
    detail = f"{taken >> 20} of {free >> 20} MiB free written with a pattern and zeros, both read back"
    return taken * 100 >= free * MEMORY_SHARE_PERCENT, detail


def _take_all(cuda: Cuda) -> list[tuple[int, int]]:
    pieces: list[tuple[int, int]] = []
    size = CHUNK_MIB << 20
    while size >= LEAST_CHUNK_MIB << 20 and len(pieces) < MAX_CHUNKS:
        address = cuda.allocate(size)
        if address is None:
            size //= 2
        else:
            pieces.append((address, size))
    return pieces


def _first_wrong(cuda: Cuda, pieces: list[tuple[int, int]], word: int) -> int | None:
    for address, size in pieces:
        step = (size - 4) // (SAMPLES_PER_CHUNK - 1) // 4 * 4
        places = {*range(0, size - 3, step), size - 4}
        for place in sorted(places):
            seen = cuda.word_at(address + place)
            if seen != word:
                return seen
    return None


def main(arguments: list[str]) -> int:
    """Overwrite the device named by its UUID and print what came of it."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return NO_CUDA
    try:
        cuda = Cuda(library)
        cuda.open(arguments[0])
        passed, detail = overwrite(cuda)
    except CudaFailed as failure:
        passed, detail = False, str(failure)
    sys.stdout.write(json.dumps({"passed": passed, "detail": detail}) + "\n")
    return 0 if passed else FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
