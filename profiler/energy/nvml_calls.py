"""Calls into NVML whose arguments are made once, with the library, structures and errors of an open nvidia-ml-py.

Its own wrappers make new structures on every call and ask for sizes first: of a sampler's time more than the driver
takes. Each thread fills structures of its own, so that several may read one device. What values mean is nvml_device's.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

from profiler.energy.nvml_values import FOREVER

T = TypeVar("T")

FUNCTION_MISSING: Final = 13
TOO_SMALL: Final = 7
# More than the driver was ever seen to have: an H100's power buffer holds 119, about five a second for each process.
ROOM: Final = 256
# struct formats of NVML's value union by value type (double, uint, ulong, ulonglong, longlong, int, ushort).
_VALUES: Final = ("d", "I4x", "Q", "Q", "q", "i4x", "H6x")
# PID, time stamp, and SMs, memory of the four utilisations that follow.
PROCESS_SAMPLE: Final = "=I4xQII8x"
_MEMBERS: Final = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")

Stamped = tuple[int, float]
"""Microseconds of the driver's wall clock, and the value there."""


class Call(threading.local):
    """`name(*arguments, &filled)`: returns the structure that it fills, for this thread to use until the next call.

    `make` gives a new structure. Raises NVMLError, as nvidia-ml-py does."""

    def __init__(self, nvml: Any, name: str, arguments: Sequence[Any], make: Callable[[], Any]) -> None:
        filled = make()
        # Together, because asking for a thread's own attribute takes its time.
        self._call = getattr(nvml.nvmlLib, name, _missing), (*arguments, ctypes.byref(filled)), filled, nvml.NVMLError

    def __call__(self) -> Any:
        function, arguments, filled, error = self._call
        code = function(*arguments)
        if code:
            raise error(code)
        return filled


def _missing(*_: Any) -> int:
    return FUNCTION_MISSING


def plain(structure: type[Any]) -> Callable[..., Any]:
    """The same structure without nvidia-ml-py's own attribute access, which converts texts and takes its time."""
    return type(structure.__name__, (ctypes.Structure,), {"_fields_": structure._fields_})


class FirstSupported(Generic[T]):
    """Several ways to one value, best first. A way that the driver refuses for good is not asked again."""

    def __init__(self, error: type[Any], *ways: Callable[[], T]) -> None:
        self._error = error
        self._ways = ways
        self.way = ways[0]
        """The one that is asked now."""

    def __call__(self) -> T:
        while True:
            way = self.way
            try:
                return way()
            except self._error as error:
                if error.value not in FOREVER or way is self._ways[-1]:
                    raise
            if self.way is way:  # two threads may meet here; one of them moves on
                self.way = self._ways[self._ways.index(way) + 1]


def field_value(nvml: Any, handle: Any, field_id: int) -> Callable[[], float]:
    """Reads one field. It raises NVMLError with the field's own return code too."""

    asked = partial(plain(nvml.c_nvmlFieldValue_t), fieldId=field_id)
    call = Call(nvml, "nvmlDeviceGetFieldValues", (handle, 1), asked)

    def read() -> float:
        field = call()
        if field.nvmlReturn:
            raise nvml.NVMLError(field.nvmlReturn)
        value: float = getattr(field.value, _MEMBERS[field.valueType])
        return value

    return read


class Listing(threading.local):
    """A call that fills an array of `element` in one go, where nvidia-ml-py asks for the number of elements first."""

    def __init__(self, nvml: Any, name: str, element: type[Any]) -> None:
        self._error = nvml.NVMLError
        self._element = element
        self._function = getattr(nvml.nvmlLib, name, _missing)
        self._array = (element * ROOM)()
        self._count = ctypes.c_uint()

    def fill(self, arguments: Callable[[Any, Any], Sequence[Any]]) -> bytes:
        """The bytes of the elements. `arguments`: the call's, given the array and the reference of its length."""
        code = self._fetch(arguments)
        if code == TOO_SMALL:
            self._array = (self._element * (4 * len(self._array)))()
            code = self._fetch(arguments)
        if code:
            raise self._error(code)
        return ctypes.string_at(self._array, self._count.value * ctypes.sizeof(self._element))

    def _fetch(self, arguments: Callable[[Any, Any], Sequence[Any]]) -> int:
        self._count.value = len(self._array)
        return int(self._function(*arguments(self._array, ctypes.byref(self._count))))


def power_buffer(nvml: Any, handle: Any) -> Callable[[int], list[Stamped]]:
    """Reads the driver's buffer of power samples after a stamp: in mW, in the driver's order. It raises NVMLError."""
    listing, kind = Listing(nvml, "nvmlDeviceGetSamples", nvml.c_nvmlSample_t), ctypes.c_uint()

    def read(after_us: int) -> list[Stamped]:
        newer = ctypes.c_ulonglong(after_us)
        wanted = nvml.NVML_TOTAL_POWER_SAMPLES
        found = listing.fill(lambda array, count: (handle, wanted, newer, ctypes.byref(kind), count, array))
        return [(stamp_us, value) for stamp_us, value in struct.iter_unpack(f"=Q{_VALUES[kind.value]}", found)]

    return read


def process_utilization(nvml: Any, handle: Any) -> Callable[[int], list[tuple[int, int, int, int]]]:
    """Reads the driver's samples of what each process kept busy, after a stamp: (PID, us of the driver's wall clock,
    % of the SMs, % of the memory's bandwidth). It raises NVMLError."""
    listing = Listing(nvml, "nvmlDeviceGetProcessUtilization", nvml.c_nvmlProcessUtilizationSample_t)

    def read(after_us: int) -> list[tuple[int, int, int, int]]:
        newer = ctypes.c_ulonglong(after_us)
        found = listing.fill(lambda array, count: (handle, array, count, newer))
        return list(struct.iter_unpack(PROCESS_SAMPLE, found))

    return read
