"""What `scripts/gpu_check` found, printed line by line and written as JSON after every line: a cut run still tells."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from spilegate.backend import to_host


class Report:
    """The findings so far; `path` is the JSON file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.began = perf_counter()
        self.findings: dict[str, Any] = {"checks": [], "speeds": [], "notes": {}}

    def note(self, **values: Any) -> None:
        """Remember and print facts about the machine or the run."""
        self.findings["notes"] |= values
        self._line("", " ".join(f"{name}={value}" for name, value in values.items()))

    def check(self, part: str, name: str, good: bool, text: str) -> None:
        """Remember and print whether something is right."""
        self.findings["checks"].append({"part": part, "name": name, "passed": bool(good), "text": text})
        self._line("ok  " if good else "FAIL", f"{part:8s} {name:58s} {text}")

    def speed(self, name: str, seconds: float, floor: float | None, **figures: float) -> None:
        """Remember and print a time [s], its floor, and rates."""
        entry: dict[str, Any] = {"name": name, "seconds": seconds, "floor_seconds": floor} | figures
        self.findings["speeds"].append(entry)
        ratio = "" if floor is None else f"  floor {1e3 * floor:9.3f} ms, ratio {seconds / floor:5.2f}"
        rates = "".join(f"  {label} {value:.3g}" for label, value in figures.items())
        self._line("time", f"{name:58s} {1e3 * seconds:10.3f} ms{ratio}{rates}")

    def attempt(self, part: str, name: str, work: Callable[[], None]) -> None:
        """Do something whose failure is a finding like any other."""
        try:
            work()
        except Exception as error:
            lines = traceback.format_exc().splitlines()
            places = [line.strip() for line in lines if line.strip().startswith("File")][-3:]
            self.check(part, name, False, f"{type(error).__name__}: {error} [{' <- '.join(reversed(places))}]")

    def compare(self, part: str, name: str, found: Any, right: Any, tolerance: float) -> None:
        """Compare an array with the right one: largest difference over the right one's largest value."""
        found, right = np.asarray(to_host(found)), np.asarray(to_host(right))
        if found.shape != right.shape:
            self.check(part, name, False, f"shape {found.shape}; expected {right.shape}")
            return
        wrong = float(np.abs(found.astype(complex) - right).max(initial=0.0))
        error = wrong / max(float(np.abs(right).max(initial=0.0)), 1e-300)
        same = found.dtype == right.dtype
        text = f"error {error:.1e} of {tolerance:.0e}" + ("" if same else f", dtype {found.dtype} not {right.dtype}")
        self.check(part, name, bool(np.isfinite(found.astype(complex)).all() and error <= tolerance and same), text)

    @property
    def failures(self) -> int:
        """How many checks failed."""
        return sum(not check["passed"] for check in self.findings["checks"])

    def _line(self, kind: str, text: str) -> None:
        print(f"[{perf_counter() - self.began:6.1f} s] {kind:4s} {text}", flush=True)
        if self.path is not None:
            self.path.write_text(json.dumps(self.findings, indent=1), encoding="utf-8")
