"""When a run has converged, by its own measures: orientations that settle and distances that no longer fall."""

from __future__ import annotations

from spilegate.records import Float64
from spilegate.settings import ConvergenceOptions

# Columns of `State.history`.
Q_MATCH, DISTANCE, MOVED = range(3)
# Radii are the same but for rounding.
SAME_RADIUS = 1 - 1e-9
# Nothing is taken for less than this, to divide by.
LEAST = 1e-12
# Where patterns have no noise, what is left of the distance is the model's own error, a hundredth and less, which goes
# up and down by a tenth of itself from one generation to the next: changes count as parts of this at least.
LEAST_DISTANCE = 0.15


def full_generations(history: Float64, q_max: float) -> int:
    """Return how many generations have been matched at the full radius, one after the other, up to the last."""
    full = history[:, Q_MATCH] >= SAME_RADIUS * q_max
    return int(full[::-1].cumprod().sum())


def converged(history: Float64, q_max: float, options: ConvergenceOptions) -> bool:
    """Tell whether the last generation has changed nothing that counts.

    history : (n, 3) float64, of every generation after the start: radius matched [1/angstrom], mean distance of the
        patterns to their slices, part of the orientations that moved
    """
    if full_generations(history, q_max) < 2:
        return False
    before, now = history[-2:]
    _, change, counted = _changed(float(before[DISTANCE]), float(now[DISTANCE]))
    flat = abs(change) * counted <= options.distance
    # Patterns of few photons keep moving between orientations that are as likely: then it is their number that settles.
    return bool(flat and (now[MOVED] <= options.moved or abs(now[MOVED] - before[MOVED]) <= options.moved))


def finished(history: Float64, q_max: float, options: ConvergenceOptions) -> bool:
    """Tell whether the last generation was the run's last: it has converged, or there were enough."""
    return converged(history, q_max, options) or full_generations(history, q_max) >= options.most_generations


def reason(history: Float64, q_max: float, options: ConvergenceOptions) -> str:
    """Return in words what the last generation changed."""
    if full_generations(history, q_max) < 2:
        return "fewer than two generations at the full radius"
    before, now = history[-2:]
    what, change, counted = _changed(float(before[DISTANCE]), float(now[DISTANCE]))
    words = (
        f"in the last generation {now[MOVED]:.1%} of the orientations moved (before: {before[MOVED]:.1%}) and the "
        f"{what} changed by {change:+.2%}"
    )
    if converged(history, q_max, options):
        return words
    return (
        f"{words}; at most {options.moved:.1%}, or as many as before, and {options.distance / counted:.2%} are allowed"
    )


def _changed(before: float, now: float) -> tuple[str, float, float]:
    """Return in words what has to stay, by which part of itself it changed, and how much of that counts (1, or less).

    before, now : mean distances. Of few photons most of the distance is noise: then it is what the slices explain that
        has to stay.
    """
    explained = abs(1 - before)
    if explained < before:
        return "part of the patterns that slices explain", (before - now) / max(explained, LEAST), 1.0
    return "mean distance", (now - before) / max(before, LEAST), min(1.0, max(before, LEAST) / LEAST_DISTANCE)
