"""What is read back from a run's `summary.json`, held against a model: the file may have been changed since."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from spilegate.errors import InputError
from spilegate.formats import results
from spilegate.settings import symmetry_name


class _Settings(BaseModel):
    """The settings that an evaluation needs."""

    symmetry: Annotated[str, AfterValidator(symmetry_name)] = "C1"


class Finished(BaseModel):
    """What a finished run says of itself, as far as the program reads it.

    q_max_inverse_angstrom : the largest |q| used; evaluation : what an earlier `evaluate` has added, if any
    """

    q_max_inverse_angstrom: Annotated[float, Field(gt=0, le=100)]
    settings: _Settings = _Settings()
    evaluation: dict[str, Any] | None = None


class _Resolution(BaseModel):
    """How far a reconstruction can be trusted."""

    verdict: str
    resolution_angstrom: Annotated[float, Field(gt=0)] | None


class _Input(BaseModel):
    """What was reconstructed."""

    patterns: Annotated[int, Field(gt=0)]


class Told(Finished):
    """What a program that loads a finished run says of it."""

    resolution: _Resolution
    input: _Input
    voxel_angstrom: Annotated[float, Field(gt=0)]
    diameter_angstrom: Annotated[float, Field(gt=0)]
    diameter_estimated: bool
    size: int
    generations: int
    converged: bool
    convergence: str
    populations: list[float]
    left_out: dict[str, int]
    seconds: dict[str, Any]
    seed: int
    version: str


Model = TypeVar("Model", bound=Finished)


def read(path: Path) -> tuple[Finished, dict[str, Any]]:
    """Return what a summary says that an evaluation needs, and all of it.

    Raises InputError if the file is missing, not JSON, or not the summary of a finished reconstruction.
    """
    return held_against(path, Finished)


def held_against(path: Path, model: type[Model]) -> tuple[Model, dict[str, Any]]:
    """Return a summary as a model has it, and all of it; raises InputError as `read` does."""
    whole = results.read_summary(path)
    try:
        return model.model_validate(whole), whole
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        found = "nothing" if first["type"] == "missing" else f"{first['input']!r:.80}"
        reason = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        raise InputError(
            f"{path}: {where}: found {found}; expected {'a value' if found == 'nothing' else reason}, as reconstruct "
            "wrote it; spilegate reconstruct ... --resume writes it again"
        ) from error
