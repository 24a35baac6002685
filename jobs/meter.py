"""Measure one run: every figure says whether it was measured, and by what. What can't be measured is absent.

A CPU host measures `cpu_ms` and never says `gpu`. Only the time from Started to Completed is billed.
"""

import resource
import time
from types import TracebackType
from typing import Any

from jobs.claims import Measurement


def measured(value: int, source: str) -> Measurement:
    """A figure that was read from an instrument."""
    return {"value": value, "quality": "measured", "source": source}


def unavailable(source: str) -> Measurement:
    """A figure that this host has no instrument for."""
    return {"quality": "unavailable", "source": source}


class Meter:
    """Measure what happens inside a `with` block; `reading()` gives the figures afterwards."""

    def __enter__(self) -> "Meter":
        self._gpu = _Gpu.open()
        self._wall = time.monotonic_ns()
        self._cpu = time.process_time_ns()
        self._energy = self._gpu.energy_mj() if self._gpu else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wall_ms = (time.monotonic_ns() - self._wall) // 1_000_000
        self.cpu_ms = (time.process_time_ns() - self._cpu) // 1_000_000
        energy = self._gpu.energy_mj() if self._gpu else None
        self.energy_mj = energy - self._energy if energy is not None and self._energy is not None else None
        self.peak_rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def reading(self, facts: dict[str, Any]) -> dict[str, Measurement]:
        """Give the figures; a runner that timed the device itself says so in its facts (`gpu_ms`)."""
        found = {
            "wall_ms": measured(self.wall_ms, "monotonic-clock"),
            "cpu_ms": measured(self.cpu_ms, "process-clock"),
            "peak_rss_kib": measured(self.peak_rss_kib, "getrusage"),
            "gpu_ms": unavailable("no-cuda-device"),
            "energy_mj": unavailable("no-nvml-counter"),
        }
        if "gpu_ms" in facts:
            found["gpu_ms"] = measured(int(facts["gpu_ms"]), "cuda-events")
        if self.energy_mj is not None:
            found["energy_mj"] = measured(self.energy_mj, "nvml-energy-counter")
        return found


class _Gpu:
    """The first NVIDIA device's energy counter, where there is one."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    @classmethod
    def open(cls) -> "_Gpu | None":
        import pynvml

        try:
            pynvml.nvmlInit()
            return cls(pynvml.nvmlDeviceGetHandleByIndex(0))
        except pynvml.NVMLError:
            return None

    def energy_mj(self) -> int | None:
        """Energy since the driver was loaded, in millijoules; the counter moves every 20 to 100 ms."""
        import pynvml

        try:
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except pynvml.NVMLError:
            return None
