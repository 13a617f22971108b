"""The density: a surface to turn, slices to leaf through, and projections that need no program to be seen."""

from __future__ import annotations

import json

from spilegate.report.page import markup, raster, volume
from spilegate.report.page.content import Content
from spilegate.report.page.volume import Box

AXES = "xyz"
# Of the highest density: where the surface lies at first.
SURFACE_PERCENT = 25

VIEWER = """<div class="viewer">
<div id="surface" class="canvas3d" tabindex="0" role="application" aria-roledescription="3-D view"
 aria-label="Surface of the density. Arrow keys turn it, plus and minus zoom, 0 goes back."></div>
<img id="surface-print" class="print-only" alt="Surface of the density as it was turned">
<p id="no-surface" class="notice" hidden>This browser draws no surfaces (WebGL is switched off or missing). Slices and
projections are below.</p>
<div class="controls">
<span class="field"><label for="threshold">Threshold</label> <output id="threshold-out" for="threshold"></output>
<input id="threshold" type="range" min="2" max="95" value="{surface}" aria-describedby="threshold-unit"></span>
<span id="threshold-unit" class="hint">% of the highest density</span>
<span class="buttons"><button type="button" id="view-reset">Reset view</button>
<button type="button" id="spin" aria-pressed="false">Spin</button></span>
{states}</div></div>"""
SLICES = """<div class="slicer">
<canvas id="slice" width="320" height="320" role="img" aria-label="Slice of the density"></canvas>
<div class="controls">
<fieldset><legend>Slice across</legend>{planes}</fieldset>
<span class="field"><label for="position">Position</label> <output id="position-out" for="position"></output>
<input id="position" type="range" min="0" max="1" step="1" value="0"></span>
</div>{bar}</div>"""


def section(content: Content) -> tuple[str, str]:
    """Return the section of the density, and the densities as JSON for the page's program."""
    state = content.state
    found = volume.boxes(state.density, state.support, state.voxel_angstrom, final=content.summary is not None)
    data = json.dumps([box.plain(f"state {k}") for k, box in enumerate(found)], separators=(",", ":"))
    if not any(box.highest for box in found):
        return markup.section("density", "Density", markup.paragraph("Nothing has been phased yet.")), data
    # As `markup.section` orders them: to turn, to leaf through, to print.
    shown = markup.grid(
        markup.figure(VIEWER.format(surface=SURFACE_PERCENT, states=_choice(len(found))), "Surface of equal density"),
        markup.figure(SLICES.format(planes=_planes(), bar=_bar(found[0])), "Slices"),
        kind="density",
    )
    projections = [
        markup.figure(
            _projection(box, axis, k) + raster.bar(_of_projection(box, axis), "density along the line [arbitrary x Å]"),
            f"Projection along {AXES[axis]}{content.of_state(k)}",
            f"{_across(axis)[0]} to the right, {_across(axis)[1]} upwards; "
            f"{box.values.shape[_planes_of(axis)[0]] * box.step_angstrom[_planes_of(axis)[0]]:.0f} Å wide.",
        )
        for k, box in enumerate(found)
        if box.highest
        for axis in (2, 1, 0)
    ]
    note = (
        f"Electron density in arbitrary units after generation {state.generation}, sampled at "
        f"{state.voxel_angstrom:.3g} Å; shown on a finer grid. Intensities do not tell the hand: the mirror "
        "image explains the patterns as well."
    )
    return markup.section(
        "density", "Density", markup.paragraph(note), shown, markup.grid(*projections, kind="three")
    ), data


def _choice(states: int) -> str:
    """Return the list to choose a state from; nothing where there is one."""
    options = "".join(f'<option value="{k}">state {k}</option>' for k in range(states))
    return f'<label>Show <select id="which-state">{options}</select></label>' if states > 1 else ""


def _planes() -> str:
    """Return the buttons that choose the axis across a slice."""
    return "".join(
        f'<label><input type="radio" name="plane" value="{axis}"{" checked" if axis == 2 else ""}> {AXES[axis]}</label>'
        for axis in (2, 1, 0)
    )


def _planes_of(axis: int) -> tuple[int, int]:
    """Return the axes that run to the right and upwards in a picture across or along an axis."""
    right, up = (other for other in range(3) if other != axis)
    return right, up


def _across(axis: int) -> tuple[str, str]:
    """Return the names of these axes."""
    right, up = _planes_of(axis)
    return AXES[right], AXES[up]


def _bar(box: Box) -> str:
    """Return the bar of the slices."""
    return raster.bar(raster.Scale(0.0, box.highest), "density [arbitrary]")


def _of_projection(box: Box, axis: int) -> raster.Scale:
    """Return the scale of a projection."""
    total = box.values.sum(axis=axis).max() * box.highest / volume.LEVELS * box.step_angstrom[axis]
    return raster.Scale(0.0, float(total) or 1.0)


def _projection(box: Box, axis: int, k: int) -> str:
    """Return a projection of a density."""
    sums = box.values.sum(axis=axis) * (box.highest / volume.LEVELS * box.step_angstrom[axis])
    # (x, y) index order: the first index runs to the right, the second upwards.
    return raster.image(
        sums.T[::-1], _of_projection(box, axis), f"Projection of density {k} along {AXES[axis]}", smooth=True
    )
