"""Holds memory on one GPU and keeps its SMs at work until it is killed. Needs libcuda.so.1 alone.

``python burn.py UUID MIB``; prints READY once the first kernels are under way.
"""

from __future__ import annotations

import ctypes
import sys

from cluster.observe.telemetry.overwrite import Cuda

PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry burn(.param .u64 out, .param .u32 rounds)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<3>;
    .reg .f32 %f<2>;
    .reg .pred %p<2>;
    ld.param.u64 %rd1, [out];
    ld.param.u32 %r1, [rounds];
    mov.u32 %r2, 0;
    mov.f32 %f1, 0f3F800000;
AGAIN:
    fma.rn.f32 %f1, %f1, %f1, %f1;
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p1, %r2, %r1;
    @%p1 bra AGAIN;
    cvta.to.global.u64 %rd2, %rd1;
    st.global.f32 [%rd2], %f1;
    ret;
}
\0"""
BLOCKS, THREADS, ROUNDS = 1_024, 256, 2_000_000


def main(uuid: str, mib: int) -> None:
    cuda = Cuda(ctypes.CDLL("libcuda.so.1"))
    cuda.open(uuid)
    pieces = [cuda.allocate(256 << 20) for _ in range(mib // 256)]
    if not all(pieces):
        raise SystemExit("no memory")
    module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    cuda.call("cuModuleLoadData", ctypes.byref(module), PTX)
    cuda.call("cuModuleGetFunction", ctypes.byref(kernel), module, b"burn")
    out, rounds = ctypes.c_uint64(pieces[0] or 0), ctypes.c_uint32(ROUNDS)
    places = (ctypes.c_void_p * 2)(ctypes.addressof(out), ctypes.addressof(rounds))
    while True:
        cuda.call("cuLaunchKernel", kernel, BLOCKS, 1, 1, THREADS, 1, 1, 0, None, places, None)
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        cuda.call("cuCtxSynchronize")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
