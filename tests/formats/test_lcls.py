"""Runs of LCLS, which psana reads where it is installed: what is missing is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from spoilt import refused
from test_cxi import simple, write

from spilegate.formats import reader


def test_psana_has_to_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psana", None)
    path = tmp_path / "run.xtc2"
    path.write_bytes(b"\x00" * 5000)
    text = refused(lambda: reader.read(path))
    assert text.startswith(f"{path}: a run of LCLS-II")
    assert "pip install psana" in text
    assert "no photons of Dragonfly" in refused(lambda: reader.read(path, detector="a.dat"))
    listed = tmp_path / "runs.txt"
    listed.write_text("run.xtc2")
    assert "pip install psana" in refused(lambda: reader.read(listed))


def test_runs_of_lcls_1_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e1-r0001-s00-c00.xtc"
    path.write_bytes(b"\x00" * 5000)
    assert "write its patterns into CXI by psana 1" in refused(lambda: reader.read(path))


def test_the_ending_of_a_name_says_nothing_of_hdf5(tmp_path: Path) -> None:
    assert len(reader.read(write(tmp_path / "a.xtc2", simple())).images) == 90
