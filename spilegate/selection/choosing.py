"""Select: which of many patterns show single particles of one kind.

Blank frames are told by their photons. A spheroid is fitted to each of the others; patterns alike in size, shape and
misfit form groups. The group that one density explains to within photon noise is the particle: every pattern is then
judged by that density. Where patterns are too few for a density, the group most like itself in size and shape is it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spilegate.errors import InputError
from spilegate.geometry.detector import pixel_spacing
from spilegate.geometry.symmetry import group
from spilegate.patterns.checks import chosen
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import Bool, Dataset, Float64, Int64
from spilegate.selection import record, spheroids, structure, trial
from spilegate.selection.classes import Classes, classify
from spilegate.selection.groups import Mixture, mixture
from spilegate.selection.probabilities import by_group, by_misfit, compactness
from spilegate.selection.record import Selection
from spilegate.settings import Settings
from spilegate.streams import Purpose, stream

# Unit of misfits: below it they are about linear, above it their logarithms count.
MISFIT_UNIT = 0.1
# Groups are found in so many patterns; a group is tried if it has this part of them; fewer than the first number do not
# come to a density, and the second is enough of them, as long as it is that part of very many.
SAMPLE, PART, FEWEST, ENOUGH, LEAST = 2500, 0.1, 30, 100, 0.01
# No group whose misfit is larger is of one particle.
ONE_PARTICLE = 0.06
# Trials with what the best one explains of so many patterns, this likely: first of the part of them that fits best, for
# patterns of other things may have had a say in it; then of all.
PARTS, COMPARED, LIKELY = (0.6, 1.0), 4000, 0.7
# Spheroids whose misfit is less than this explain their pattern.
EXPLAINED = 0.06
# A spheroid explains a pattern better than a model if its misfit is less by that.
BETTER = 0.02
# Most groups that are tried; and those whose misfits are at most so many times the least, and that much, are tried
# together, if their sizes differ by no more than this factor's logarithm: trials of large ones do not see as much.
TRIALS, AS_GOOD, AS_GOOD_LEAST, LIKE_SIZE = 7, 2.0, 0.01, 0.5
# So many of them, one after the other, if the misfit grows by no more than that.
JOINED, NO_WORSE = 3, 0.001
# Brightness, of the mean, below which a pattern shows nothing.
DARKEST = 0.05
# Part of the single particles' sizes between the ends of the window.
WINDOW = (2.5, 97.5)


class NothingAlikeError(InputError):
    """No group of patterns is of one particle."""


@dataclass(frozen=True)
class _Seen:
    """Features (n, F) of the patterns that show something, `index` (n,) among all."""

    index: Int64
    features: Float64
    found: spheroids.Spheroids
    structure: Float64


def select(
    dataset: Dataset,
    settings: Settings,
    read: Callable[[Int64], Dataset],
    *,
    say: Callable[[str], None] = lambda _: None,
    experiment: Experiment | None = None,
) -> Selection:
    """Return which patterns of a data set show single particles.

    read : returns the data set of some of its patterns, by their numbers (n,) ascending; say : told of every step
    experiment : what `prepare` made of the data set, if it is there already
    Raises InputError if there are too few patterns, pixels or photons to tell anything from, NothingAlikeError if no
    group of them is of one particle.
    """
    rng = stream(settings.seed, Purpose.SELECTION)
    wanted = chosen(dataset, settings.prepare)
    experiment = experiment or prepare(dataset, settings)
    shown = _looked_at(experiment)
    say(f"sizes of {len(shown.index)} patterns fitted")
    points = trial.parts(np.arange(len(shown.index)), SAMPLE, rng)
    groups = mixture(shown.features[points], rng)
    belongs = groups.probabilities(shown.features)
    say(f"{len(groups.share)} groups alike in size, shape and misfit")
    best = _tried(shown, groups, belongs, settings, read, rng, say)
    if best is not None and best.usual > ONE_PARTICLE:
        raise NothingAlikeError(
            f"{dataset.source}: no group of patterns is of one particle: the best has a misfit of {best.usual:.2g}; "
            f"expected {ONE_PARTICLE:g} or less; there are too few single particles to tell: give more patterns"
        )
    model = np.full(len(dataset.images), np.nan)
    if best is None:
        single = by_group(groups, belongs, shown.structure[shown.index])
    else:
        best = _again(best, shown, settings, read, rng, say)
        model[shown.index] = trial.judge(best, experiment, shown.index, read, settings, rng)
        say(f"all compared with the model of {len(best.misfit)} patterns")
        single = by_misfit(model[shown.index], rng)
        # What its own spheroid explains better than the particle does is a droplet.
        single[shown.found.misfit[shown.index] < model[shown.index] - BETTER] = 0.0
    label = classify(experiment, rng)
    return _selection(dataset, experiment, wanted, shown, belongs, single, model, label)


def _looked_at(experiment: Experiment) -> _Seen:
    """Return the features of all patterns that show something."""
    found = spheroids.of(experiment, experiment)
    detector, workers = experiment.detector, experiment.workers
    spacing = pixel_spacing(detector.q[detector.matched])
    outer = experiment.pixels(experiment.q_max).sampling
    alike = structure.significance(experiment.images, outer, found, spacing, workers=workers)
    index = np.flatnonzero(experiment.weight > 0)
    columns = [
        np.log(found.diameter_angstrom), np.log(found.aspect), np.arcsinh(found.misfit / MISFIT_UNIT)
    ]  # fmt: skip
    return _Seen(index, np.stack(columns, axis=1)[index], found, alike)


def _tried(
    shown: _Seen,
    groups: Mixture,
    belongs: Float64,
    settings: Settings,
    read: Callable[[Int64], Dataset],
    rng: np.random.Generator,
    say: Callable[[str], None],
) -> trial.Trial | None:
    """Return the trial of the group that one density explains best; None if no group has enough patterns."""
    own = belongs.argmax(axis=1)

    def attempted(together: list[int]) -> tuple[trial.Trial, dict[int, float]] | None:
        """Return a trial of groups together, and the usual misfit of each."""
        some = trial.parts(np.flatnonzero(np.isin(own, together)), trial.MOST, rng)
        members = shown.index[some]
        seen = max(float(np.exp(groups.mean[k, 0] + groups.mean[k, 1] / 2)) for k in together)
        found = trial.attempt(read(members), settings, seen, rough=True)
        sizes = " and ".join(f"{np.exp(groups.mean[k, 0]):.3g}" for k in together)
        told = "no density"
        if found is not None:
            told = f"misfit {found.usual:.3g}"
        say(f"{'group' if len(together) == 1 else 'groups'} of {sizes} angstrom, {len(members)} patterns: {told}")
        if found is None:
            return None
        return found, {k: float(np.median(found.misfit[own[some] == k])) for k in together if (own[some] == k).any()}

    order = np.argsort(-compactness(groups), kind="stable").tolist()
    least = max(_fewest(len(own), settings), LEAST * len(own))
    many = [k for k in order if (own == k).sum() >= least][:TRIALS]
    tried = {k: each[0] for k in many if (each := attempted([k])) is not None}
    if not tried:
        return None
    best = min(tried, key=lambda k: tried[k].usual)
    # What is one particle seen from its sides may be several groups.
    # Photons that a threshold counted scatter less than by chance: misfits may be below 0.
    limit = AS_GOOD * max(tried[best].usual, 0.0) + AS_GOOD_LEAST
    near = np.abs(groups.mean[:, 0] - groups.mean[best, 0]) <= LIKE_SIZE
    alike = [k for k, one in tried.items() if one.usual <= limit and near[k]]
    joined, found = [best], tried[best]
    for k in sorted(set(alike) - {best}, key=lambda k: tried[k].usual)[:JOINED]:
        together = attempted([*joined, k])
        # Patterns of one particle make a better model for each other; what few of them say of themselves is too good.
        if together is not None and together[1].get(k, np.inf) <= tried[k].usual + NO_WORSE:
            joined, found = [*joined, k], together[0]
    return found


def _fewest(count: int, settings: Settings) -> float:
    """Return how many of so many patterns a trial takes at least; one of a symmetric particle counts for several."""
    return max(float(np.clip(PART * count, FEWEST, ENOUGH)) / len(group(settings.symmetry).rotations), trial.FEWEST)


def _again(
    best: trial.Trial,
    shown: _Seen,
    settings: Settings,
    read: Callable[[Int64], Dataset],
    rng: np.random.Generator,
    say: Callable[[str], None],
) -> trial.Trial:
    """Return a trial of patterns of all groups that the best one explains: groups may be parts of what is one."""
    for part in PARTS:
        some = trial.parts(shown.index, COMPARED, rng)
        alone = trial.looked_at(read(some), best, settings)
        misfit = trial.judge(best, alone, some, read, settings, rng)
        likely = np.flatnonzero(by_misfit(misfit, rng) >= LIKELY)
        nearest = likely[np.argsort(misfit[likely], kind="stable")][: math.ceil(part * len(likely))]
        members = trial.parts(some[np.sort(nearest)], trial.MOST, rng)
        if len(members) < _fewest(len(shown.index), settings):
            return best
        found = trial.attempt(read(members), settings, best.experiment.diameter_angstrom / trial.LARGER, rough=False)
        if found is None:
            return best
        best = found
        say(f"{len(members)} patterns that it explains: misfit {best.usual:.3g}")
    return best


def _selection(
    dataset: Dataset,
    experiment: Experiment,
    wanted: Bool,
    shown: _Seen,
    belongs: Float64,
    own: Float64,
    model: Float64,
    classes: Classes,
) -> Selection:
    count = len(dataset.images)
    single, number = np.zeros(count), np.full(count, -1)
    single[shown.index] = own
    likeliest = belongs.argmax(axis=1)
    number[shown.index] = np.where(likeliest < belongs.shape[1] - 1, likeliest, -1)
    kept = (single >= 0.5) & wanted
    if not kept.any():
        raise InputError(
            f"{dataset.source}: no pattern looks like a single particle; expected some alike in size and shape; "
            "look at them by spilegate inspect --picture, or reconstruct with --set selection.mode=never"
        )
    found = shown.found
    window = np.percentile(found.diameter_angstrom[kept], WINDOW)
    inside = (found.diameter_angstrom >= window[0]) & (found.diameter_angstrom <= window[1])
    reason = np.full(count, record.OTHER)
    reason[inside & np.isfinite(model)] = record.UNFIT
    reason[found.misfit <= EXPLAINED] = record.DROPLET
    reason[experiment.weight <= 0] = record.STRANGE
    reason[(experiment.weight <= 0) & (experiment.brightness <= DARKEST)] = record.BLANK
    reason[~wanted] = record.ASKED
    reason[kept] = record.SINGLE
    shows = experiment.weight > 0

    def of(values: Float64) -> Float64:
        return np.where(shows, values, 0.0)

    return Selection(
        single=single,
        reason=reason,
        photons=experiment.brightness * experiment.photons,
        shown=shows,
        compared=np.isfinite(model),
        diameter_angstrom=of(found.diameter_angstrom),
        aspect=of(found.aspect),
        brightness=of(found.brightness),
        misfit=of(found.misfit),
        structure=of(shown.structure),
        model_misfit=np.nan_to_num(model),
        group=number,
        label=np.where(shows, classes.label, -1),
        class_means=classes.means,
        class_extent=classes.extent,
        window_angstrom=window,
        said=_said(reason, window, found, kept),
    )


def _said(reason: Int64, window: Float64, found: spheroids.Spheroids, kept: Bool) -> str:
    """Return the lines that say what was selected, and why other patterns were not."""
    numbers = np.bincount(reason, minlength=len(record.REASONS))
    lines = [f"{numbers[0]} of {len(reason)} patterns kept as single particles"]
    lines += [f"{number} not: {what}" for number, what in zip(numbers[1:], record.REASONS[1:], strict=True) if number]
    spread = float(np.std(np.log(found.diameter_angstrom[kept])))
    lines.append(
        f"spheroids of those kept: {window[0]:.4g} to {window[1]:.4g} angstrom (95 %), "
        f"{np.exp(np.log(found.diameter_angstrom[kept]).mean()):.4g} with a spread of {100 * spread:.2g} %"
    )
    return "\n".join(lines)
