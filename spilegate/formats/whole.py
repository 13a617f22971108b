"""Whether all of a dataset is there: HDF5 fills what it lacks (files, chunks, regions) and says nothing."""

from __future__ import annotations

import math
import resource
from pathlib import Path

import h5py
import numpy as np

from spilegate.errors import InputError

# Virtual datasets of virtual datasets: no facility nests them deeper, and a circle would have no end.
DEEPEST = 4
# HDF5 has the files of virtual datasets open, and fills where a process may open no more: so many are left to others.
SPARE = 256


def link_of(file: h5py.File, name: str) -> str | None:
    """Return where a link of the file that leads nowhere points, in words; None if there is no such link."""
    try:
        link = file.get(name, getlink=True)
    except (KeyError, TypeError):
        return None
    if isinstance(link, h5py.ExternalLink):
        where = _beside(Path(file.filename), link.filename)
        if not where.is_file():
            return f"a link to {link.path!r} in the file {link.filename}, which is not there; copy it to {where.parent}"
        return f"a link to {link.path!r} in the file {link.filename}, where there is no such thing; give the right file"
    if isinstance(link, h5py.SoftLink):
        return f"a link to {link.path!r}, which is not in the file; copy the whole file"
    return None


def check_whole(found: h5py.Dataset, where: str) -> None:
    """Raise InputError if HDF5 would make up a part of a dataset because it is nowhere.

    where : file and dataset, for messages
    """
    problem = _lack(found, DEEPEST)
    if problem:
        raise InputError(f"{where}: {problem}")


def _lack(found: h5py.Dataset, depth: int) -> str | None:
    """Return what a dataset lacks, and what to do, in words; None if it lacks nothing."""
    if found.shape is None or 0 in found.shape:
        return None
    if found.is_virtual:
        return _lack_of_sources(found, depth)
    for name, _, _ in found.external or ():
        if not _beside(Path(found.file.filename), name).is_file():
            return f"its values are in the file {name}, which is not there; expected it beside this one; copy it there"
    if found.chunks is not None:
        chunks = math.prod(-(-size // chunk) for size, chunk in zip(found.shape, found.chunks, strict=True))
        written = found.id.get_num_chunks()
        if written < chunks:
            return (
                f"{chunks - written} of its {chunks} chunks were never written; expected all of them; "
                "copy the file again once the program that writes it has ended, or cut the dataset where values end"
            )
        return _lack_of_filter(found)
    if not found.id.get_storage_size():
        return "was made but never written; expected values; copy the file again once it is complete"
    return None


def _lack_of_filter(found: h5py.Dataset) -> str | None:
    """Return which filter that chunks went through is not there, in words; None if all are."""
    properties = found.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(number)
        # A filter that need not be is passed over where it is not there, and chunks say so.
        if h5py.h5z.filter_avail(code) or found.id.get_chunk_info(0).filter_mask >> number & 1:
            continue
        called = name.decode("ascii", "replace").partition(";")[0]
        return (
            f"compressed by filter {code}{f' ({called})' if called else ''}, which HDF5 does not have here; "
            "pip install hdf5plugin --upgrade brings most, and HDF5_PLUGIN_PATH tells where others are"
        )
    return None


def _lack_of_sources(found: h5py.Dataset, depth: int) -> str | None:
    """Return what the sources of a virtual dataset lack in words; None if they lack nothing."""
    own, covered = Path(found.file.filename), 0
    if problem := _too_many({source.file_name for source in found.virtual_sources()}):
        return problem
    for source in found.virtual_sources():
        covered += source.vspace.get_select_npoints()
        # Files in a row are numbered from 0; how many there are decides the size of the dataset.
        name, inner = source.file_name.replace("%b", "0"), source.dset_name.replace("%b", "0")
        path = own if name == "." else _beside(own, name)
        if not path.is_file():
            return (
                f"a part of it is in the file {name}, which is not there; expected it in {path.parent}; copy it there"
            )
        problem = _lack_of_source(found.file if name == "." else path, inner, depth, swmr=found.file.swmr_mode)
        if problem:
            return f"a part of it is {inner!r} in the file {name}: {problem}"
    if covered < found.size and not any(size is None for size in found.maxshape) and not _fills_with_none(found):
        return (
            f"{found.size - covered} of its {found.size} values are in no file that it names; expected all of them; "
            "build it anew from all of its files"
        )
    return None


def _too_many(names: set[str]) -> str | None:
    """Return that a process may not have so many files open, in words; it is first let have as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(names) + SPARE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return None
    if hard != resource.RLIM_INFINITY and needed > hard:
        return (
            f"its values are in {len(names)} files; expected no more than {hard - SPARE}, of which as many may be open "
            f"at once; ulimit -n {needed} allows it, or read parts of it"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return None


def _fills_with_none(found: h5py.Dataset) -> bool:
    """Tell whether what a dataset is filled with stands for no value: then what nobody wrote is not made up."""
    fill, kind = np.asarray(found.fillvalue), found.dtype.kind
    return bool(np.isnan(fill).all()) if kind == "f" else kind in "iu" and bool(fill == np.iinfo(found.dtype).max)


def _lack_of_source(place: h5py.File | Path, name: str, depth: int, *, swmr: bool) -> str | None:
    """Return what a source of a virtual dataset lacks. swmr : whether its file is read while it may be written."""
    if isinstance(place, Path):
        try:
            # As HDF5 opens it: where that fails, for a lock as well, it fills.
            with h5py.File(place, "r", swmr=swmr) as other:
                return _lack_of_source(other, name, depth, swmr=swmr)
        except (OSError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())
            return f"cannot be read ({reason}); wait until no program writes it any more, or copy it again"
    inner = place.get(name)
    if not isinstance(inner, h5py.Dataset):
        return "no such dataset there; copy that file again"
    return _lack(inner, depth - 1) if depth else "virtual datasets nested too deeply; expected fewer; copy the values"


def _beside(own: Path, name: str) -> Path:
    """Return where HDF5 looks for a file that another one names: where it says, else beside that one."""
    path = Path(name)
    return path if path.is_file() or path.is_absolute() else own.resolve().parent / path
