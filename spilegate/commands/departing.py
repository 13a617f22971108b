"""What is not ideal about a simulated experiment: one option each, and what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from spilegate.commands.added import taking
from spilegate.errors import InputError


def _option(default: Any, text: str, metavar: str | None = None) -> Any:
    """Return a field of `Departures` that is an option with this help."""
    return field(default=default, metadata={"help": text, "metavar": metavar})


@dataclass(frozen=True)
class Departures:
    """What is not ideal, as given on the command line; see `spilegate.simulation.conditions.Conditions`."""

    mask: str | None = _option(None, "Never used: cross, beamstop[:SPECKLES], half, agipd.", "NAME,NAME")
    scale_decades: float = _option(0.0, "Decades over which the fluence is log-uniform.")
    background: float = _option(0.0, "Flat background over the mean signal at the detector's edge.")
    known_background: bool = _option(False, "Write the background where a reconstruction reads it.")
    background_picture: str | None = _option(None, "One that is not radial: its photons over the signal's.", "N|FILE")
    background_spread: float = _option(0.0, "Relative standard deviation of the background's amplitude.")
    junk: float = _option(0.0, "Part of the patterns that are of something else.")
    doublets: float = _option(0.0, "Part that are of two copies that touch.")
    aggregates: float = _option(0.0, "Part that are of 3 to 6 copies that touch.")
    droplets: float = _option(0.0, "Part that are of spheroids.")
    blank: float = _option(0.0, "Part that are of the background alone.")
    size_spread: float = _option(0.0, "Standard deviation of the particle's relative size.")
    centre_jitter: float = _option(0.0, "Standard deviation of the beam's place, each axis.", "PIXELS")
    wavelength_jitter: float = _option(0.0, "Relative standard deviation of the wavelength.")
    polarisation: Literal["none", "horizontal", "vertical"] = _option("none", "Of the beam.")
    solid_angle: bool = _option(False, "Pixels of a flat detector see less of large angles.")
    hot_pixels: float = _option(0.0, "Pixels that are hot in a pattern, others in each, on average.")

    def numbers(self) -> dict[str, Any]:
        """Return those that `Conditions` takes as they are."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in READ}


# These are read before `Conditions` gets them.
READ = ("mask", "background_picture")


def _parameters() -> list[tuple[str, Any, Any]]:
    """Return the options, as `taking` wants them."""
    kinds = get_type_hints(Departures)
    result = []
    for each in fields(Departures):
        # A flag gets no second name that switches it off.
        names = [f"--{each.name.replace('_', '-')}"]
        option = typer.Option(*names, metavar=each.metadata["metavar"], help=each.metadata["help"])
        result.append((each.name, Annotated[kinds[each.name], option], each.default))
    return result


departing = taking(_parameters())


def parse_picture(text: str | None) -> float | Path | None:
    """Return how strong the built-in background picture is, or the file of another one."""
    if text is None:
        return None
    try:
        strength = float(text)
    except ValueError:
        return Path(text)
    if not 0 < strength < math.inf:
        raise InputError(f"--background-picture: found {text!r}; expected a positive number or a file")
    return strength
