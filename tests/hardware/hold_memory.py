"""Holds GPU memory until it is killed: `hold_memory.py MIB [SECONDS]`. Uses only the driver library: it starts fast."""

from __future__ import annotations

import ctypes
import sys
import time


def main() -> None:
    mib = int(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 600.0
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context, address = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    for code in (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
        cuda.cuCtxSetCurrent(context),
        cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(mib << 20)),
    ):
        if code:
            sys.exit(f"CUDA error {code}")
    print("holding", mib, "MiB", flush=True)
    time.sleep(seconds)


if __name__ == "__main__":
    main()
