"""The record of a selection: what every pattern shows, which are kept, and why others are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from spilegate.records import Bool, Float32, Float64, Int64, misshapen

# Why a pattern is kept or not, by its number in `Selection.reason`.
REASONS = (
    "single particle",
    "left out as asked",
    "without the particle",
    "unlike all others in how it falls off",
    "of another size or shape",
    "a spheroid, such as a droplet",
    "fits no orientation of the particle",
)
# The same of patterns whose class was kept or dropped by hand, by `Selection.by_hand`.
BY_HAND = {1: "kept by hand", -1: "left out by hand"}
SINGLE, ASKED, BLANK, STRANGE, OTHER, DROPLET, UNFIT = range(len(REASONS))


@dataclass(frozen=True)
class Selection:
    """What a selection found; N_IMG patterns, N_CLASS 2-D classes of P x P pixels.

    single : (N_IMG,) float64, probability of each pattern to show one single particle
    reason : (N_IMG,) int64, what was found, see REASONS; kept are those whose reason is 0, but for `by_hand`
    photons : (N_IMG,) float64, counts of each on the pixels used
    shown : (N_IMG,) bool, whether it shows anything; compared : (N_IMG,) bool, whether it was compared with a model
    diameter_angstrom, aspect, brightness, misfit, structure : (N_IMG,) float64, of the spheroid fitted to each, see
        `spheroids.Spheroids` and `structure.significance`; 0 where nothing is shown
    model_misfit : (N_IMG,) float64, the same as misfit, of the slice of the model that fits best; 0 if not compared
    group : (N_IMG,) int64, the group of patterns alike in size, shape and misfit, -1 for none
    label : (N_IMG,) int64, the 2-D class, -1 for none
    class_means : (N_CLASS, P, P) float32, mean patterns of the classes, turned alike, in logarithms from 0 to 1
    class_extent : q at the sides' middles [1/angstrom]
    window_angstrom : (2,) float64, between which 95 % of the single particles' spheroids are
    said : what the user should know, in lines
    by_hand : (N_IMG,) int64, 1 kept by hand, -1 left out by hand, 0 as found; empty if nothing was
    """

    single: Float64
    reason: Int64
    photons: Float64
    shown: Bool
    compared: Bool
    diameter_angstrom: Float64
    aspect: Float64
    brightness: Float64
    misfit: Float64
    structure: Float64
    model_misfit: Float64
    group: Int64
    label: Int64
    class_means: Float32
    class_extent: float
    window_angstrom: Float64
    said: str
    by_hand: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def hand(self) -> Int64:
        """Return `by_hand` of every pattern (N_IMG,)."""
        return self.by_hand if len(self.by_hand) else np.zeros(len(self.reason), np.int64)

    @property
    def kept(self) -> Bool:
        """Return which patterns (N_IMG,) are kept."""
        kept: Bool = np.where(self.hand == 0, self.reason == SINGLE, self.hand > 0)
        return kept

    @property
    def purity(self) -> float:
        """Return the expected part of single particles among those kept."""
        return float(self.single[self.kept].mean())

    @property
    def purity_error(self) -> float:
        """Return the standard deviation of the purity."""
        sure = self.single[self.kept]
        return float(np.sqrt((sure * (1 - sure)).sum()) / len(sure))

    @property
    def lost(self) -> float:
        """Return the expected part of the single particles that are not kept, of patterns not left out as asked."""
        free = self.reason != ASKED
        return float(self.single[~self.kept & free].sum() / max(float(self.single[free].sum()), 1e-9))

    def words(self) -> list[str]:
        """Return why every pattern is kept or not."""
        return [BY_HAND.get(hand, REASONS[reason]) for hand, reason in zip(self.hand, self.reason, strict=True)]

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Yield (field, what was found, what is expected) wherever this is no selection, shapes before values."""
        count = len(self.single)
        names = (
            "single", "reason", "photons", "shown", "compared", "diameter_angstrom", "aspect", "brightness", "misfit",
            "structure", "model_misfit", "group", "label",
        )  # fmt: skip
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(names, (count,))
        shapes["class_means"] = (*self.class_means.shape[:1], *2 * self.class_means.shape[-1:])
        shapes["window_angstrom"] = (2,)
        if len(self.by_hand):
            shapes["by_hand"] = (count,)
        yield from misshapen(self, shapes)
        if not ((self.reason >= 0) & (self.reason < len(REASONS))).all():
            yield "reason", "other numbers", f"0 to {len(REASONS) - 1}"
        if not ((self.single >= 0) & (self.single <= 1)).all():
            yield "single", "other numbers", "probabilities"
        if not (np.abs(self.by_hand) <= 1).all():
            yield "by_hand", "other numbers", "-1, 0 or 1"
        if (self.label >= len(self.class_means)).any():
            yield "label", f"class {int(self.label.max())}", f"numbers of {len(self.class_means)} classes"
        if not np.isfinite(self.window_angstrom).all():
            yield "window_angstrom", "no numbers", "diameters"
