"""A pack for a machine without a network, cut into parts of a given size, and put together again.

A pack is a folder with `manifest.json`, `scripts/` and `part-01`, `part-02` ...; a wheel larger than a part is cut into
pieces `NAME.whl.001`, `NAME.whl.002` ... The manifest has size and SHA-256 of every file and of every piece.

Standard library only: this runs where nothing has been installed yet.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

MANIFEST = "manifest.json"
FORMAT = "spilegate pack 1"
MIB = 2**20
BLOCK = 4 * MIB

Manifest = dict[str, Any]
Cut = tuple[str, int, int]


class PackError(Exception):
    """What is wrong with a pack or with what was asked for, in one line."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments and end with exit code 2."""
        print(f"scripts/{self.prog}: {message}; see --help", file=sys.stderr)
        sys.exit(2)


def plan(sizes: dict[str, int], part_size: int) -> list[list[Cut]]:
    """Return what goes into every part.

    Parameters
    ----------
    sizes : dict
        Size of every file by its name [bytes].
    part_size : int
        What a part may hold [bytes].

    Returns
    -------
    list of list of (name, start, length)
        The cuts of each part, every cut into the first part with room for it, largest files first.
    """
    parts: list[list[Cut]] = []
    room: list[int] = []
    for name, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        for start in range(0, max(size, 1), part_size):
            length = min(part_size, size - start)
            index = next((index for index, free in enumerate(room) if free >= length), len(parts))
            if index == len(parts):
                parts.append([])
                room.append(part_size)
            parts[index].append((name, start, length))
            room[index] -= length
    return parts


def write(wheels: Iterable[Path], scripts: Iterable[Path], folder: Path, part_size: int, python: str) -> Manifest:
    """Write a pack into a folder, the manifest last, and return the manifest.

    Parameters
    ----------
    wheels, scripts : iterable of Path
        Files to carry; scripts lie in a folder of their own beside the manifest and belong to no part.
    folder : Path
        New or empty.
    part_size : int
        What a part may hold [bytes].
    python : str
        Version of Python the wheels are for, as in "3.12".
    """
    paths = {path.name: path for path in wheels}
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    pieces: dict[str, list[tuple[int, str]]] = {name: [] for name in paths}
    for number, part in enumerate(plan(sizes, part_size), start=1):
        for name, start, length in part:
            suffix = "" if length == sizes[name] else f".{start // part_size + 1:03d}"
            piece = f"part-{number:02d}/{name}{suffix}"
            copy(paths[name], folder / piece, start, length)
            pieces[name].append((start, piece))
    entries = []
    for name, path in sorted(paths.items()):
        whole = {"name": name, "size": sizes[name], "sha256": digest(path)}
        entries.append({**whole, "pieces": [entry(folder, piece) for _, piece in sorted(pieces[name])]})
    for path in scripts:
        copy(path, folder / "scripts" / path.name)
        shutil.copymode(path, folder / "scripts" / path.name)
    carried = [entry(folder, path.relative_to(folder).as_posix()) for path in sorted(folder.glob("scripts/*"))]
    manifest = {"format": FORMAT, "python": python, "part_size": part_size, "scripts": carried, "wheels": entries}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def read(folder: Path) -> Manifest:
    """Return the manifest of the pack in a folder."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackError(f"{path} not found; expected the folder that scripts/gpu_pack wrote") from None
    except (OSError, ValueError) as error:
        raise PackError(f"{path} cannot be read ({error}); copy it again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise PackError(f"{path} is not the manifest of a pack; expected the format '{FORMAT}'")
    return manifest


def pieces_of(manifest: Manifest) -> list[dict[str, Any]]:
    """Return all pieces of all wheels."""
    return [piece for wheel in manifest["wheels"] for piece in wheel["pieces"]]


def gather(manifest: Manifest, source: Path, keep: Path) -> None:
    """Copy the pieces that have arrived to where they are kept; only sound ones get there."""
    keep.mkdir(parents=True, exist_ok=True)
    if (keep / MANIFEST).exists() and read(keep) != manifest:
        raise PackError(f"{keep} keeps parts of another pack; name another folder or empty it")
    for piece in [*manifest["scripts"], *pieces_of(manifest)]:
        path, kept = source / piece["path"], keep / piece["path"]
        if path.is_file() and not (kept.is_file() and kept.stat().st_size == piece["size"]):
            verify(source, piece)
            copy(path, kept.with_name(kept.name + ".partial"))
            kept.with_name(kept.name + ".partial").replace(kept)
            shutil.copymode(path, kept)
    shutil.copyfile(source / MANIFEST, keep / MANIFEST)


def join(manifest: Manifest, folder: Path, into: Path) -> list[Path]:
    """Verify a pack and return its wheels: those that are whole where they lie, the others put together in `into`."""
    pieces = pieces_of(manifest)
    absent = [piece["path"] for piece in pieces if not (folder / piece["path"]).is_file()]
    for piece in pieces:
        if piece["path"] not in absent:
            verify(folder, piece)
    if absent:
        parts = ", ".join(sorted({path.partition("/")[0] for path in absent}))
        raise PackError(
            f"{folder} has {len(pieces) - len(absent)} of {len(pieces)} files; missing are those of {parts}; "
            "bring them and call again (--keep FOLDER gathers the parts of several calls)"
        )
    wheels = []
    for wheel in manifest["wheels"]:
        paths = [folder / piece["path"] for piece in wheel["pieces"]]
        if len(paths) > 1:
            whole = into / wheel["name"]
            for path in paths:
                copy(path, whole, append=True)
            verify(into, {**wheel, "path": wheel["name"]})
            paths = [whole]
        wheels.append(paths[0])
    return wheels


def entry(folder: Path, path: str) -> dict[str, Any]:
    """Return what the manifest says of a file."""
    return {"path": path, "size": (folder / path).stat().st_size, "sha256": digest(folder / path)}


def verify(folder: Path, piece: dict[str, Any]) -> None:
    """Raise PackError unless a file is what the manifest says."""
    size = (folder / piece["path"]).stat().st_size
    if size != piece["size"]:
        raise PackError(f"{folder / piece['path']} has {size} bytes; expected {piece['size']}; copy it again")
    found, expected = digest(folder / piece["path"]), piece["sha256"]
    if found != expected:
        found, expected = found[:12], expected[:12]
        raise PackError(f"{folder / piece['path']} has SHA-256 {found}...; expected {expected}...; copy it again")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy(source: Path, target: Path, start: int = 0, length: int | None = None, append: bool = False) -> None:
    """Copy `length` bytes of a file from `start` on, or all that follow."""
    left = source.stat().st_size - start if length is None else length
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("ab" if append else "wb") as writer:
        reader.seek(start)
        while left > 0 and (block := reader.read(min(BLOCK, left))):
            writer.write(block)
            left -= len(block)
