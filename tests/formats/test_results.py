"""The output folder: who may write into it, what a run leaves there, and the summary."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import made_up_state

from spilegate.errors import InputError
from spilegate.formats import maps, results
from spilegate.formats.locks import Lock


def claim(folder: Path, **options: bool) -> None:
    """Claim a folder for a run that ends at once."""
    with Lock(folder, "--output") as lock:
        results.claim_output(folder, lock=lock, **options)


def test_results_are_in_the_folder(tmp_path: Path) -> None:
    state = made_up_state(2)
    written = results.write_results(tmp_path, state, Path("data.h5"), threads=1)
    kinds = ("density", "intensity", "autocorrelation", "support")
    names = {f"{kind}{suffix}.mrc" for kind in kinds for suffix in ("", "_1")}
    names |= {"orientations.h5", "orientations.star", "selected.txt", "selected_1.txt", "outliers.txt"}
    assert {path.name for path in tmp_path.iterdir()} == written == names
    density, voxel = maps.read_map(tmp_path / "density_1.mrc")
    assert np.array_equal(density, state.density[1])
    assert voxel == 4
    intensity, step = maps.read_map(tmp_path / "intensity.mrc")
    assert step == pytest.approx(1 / 36)
    spectrum = np.fft.fftshift(np.abs(np.fft.fftn(state.density[0].astype(float))) ** 2)
    assert np.allclose(intensity, spectrum, rtol=1e-3, atol=1e-5 * spectrum.max())
    assert np.array_equal(results.read_orientations(tmp_path / "orientations.h5"), state.quaternions)
    with h5py.File(tmp_path / "orientations.h5") as file:
        assert set(file) == {"quaternions", "scale", "distance", "state", "weight", "entry"}
        assert "laboratory" in file["quaternions"].attrs["meaning"]
    results.write_results(tmp_path, state, Path("data.h5"), threads=1)
    with pytest.raises(InputError, match="exists already"):
        results.write_orientations(tmp_path / "orientations.h5", state)


def test_a_missing_or_empty_folder_is_claimed(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    claim(folder, force=False, resume=False)
    assert folder.is_dir()
    claim(folder, force=False, resume=False)


def test_force_removes_what_a_run_left_and_nothing_else(tmp_path: Path) -> None:
    partial = {f"checkpoint.h5.{'0a' * 8}.partial", f"figures/density.png.{'b7' * 8}.partial"}
    own = ["density.mrc", "density_12.mrc", "summary.json", "checkpoint.h5", "figures/fsc.png",
           "figures/background.png", "figures/outliers.png", "figures/fsc_1.png",
           "fsc_half_set_1.csv", "prtf_2.csv", "fsc_half_set.xml", "half_1.mrc", "half_2_3.mrc", "support.mrc",
           "orientations.star", "selected.txt", "selected_1.txt", "outliers.txt", "methods.md", *partial]  # fmt: skip
    others = [
        "data.h5",
        "density_old.mrc",
        "half_3.mrc",
        "selected_good.txt",
        "fsc_reference.xml",
        "my_summary.json",
        "run.log",
        "figures/mine.png",
        "figures/outliers_1.png",
        "mine.partial",
        "checkpoint.h5.old.partial",
        "sub/density.mrc",
    ]
    for name in own + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "density_3.mrc").mkdir()

    def left() -> set[str]:
        return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}

    with pytest.raises(InputError, match="not empty"):
        claim(tmp_path, force=False, resume=False)
    assert left() == {*own, *others}
    claim(tmp_path, force=False, resume=True)
    assert left() == {*own, *others} - partial
    claim(tmp_path, force=True, resume=False)
    assert left() == set(others)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for options in ({"force": True, "resume": False}, {"force": False, "resume": True}):
        with pytest.raises(InputError, match="expected a folder"):
            claim(tmp_path / "file", **options)
    with pytest.raises(InputError, match="resume"):
        claim(tmp_path / "nowhere", force=False, resume=True)
    with pytest.raises(InputError, match="cannot be used"):
        claim(tmp_path / "file" / "below", force=False, resume=False)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(summary=st.dictionaries(st.text(), json_values, max_size=5))
@settings(max_examples=40, deadline=None)
def test_a_summary_is_read_as_written(tmp_path_factory: pytest.TempPathFactory, summary: dict[str, object]) -> None:
    path = tmp_path_factory.mktemp("summary") / "summary.json"
    results.write_summary(path, summary)
    again = results.read_summary(path)
    assert again == summary
    assert list(again) == list(summary)


def test_a_summary_takes_numpy_values_and_writes_null_for_nan(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    results.write_summary(
        path, {"a": np.float32(0.5), "b": np.array([1, 2]), "c": [np.nan, np.inf], "d": (np.True_, 1)}
    )
    assert results.read_summary(path) == {"a": 0.5, "b": [1, 2], "c": [None, None], "d": [True, 1]}
