"""Input that cannot be used ends in one clear line that names the file, and leaves it as it is."""

from collections.abc import Callable
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest

from spilegate.errors import InputError
from spilegate.formats import maps, patterns, reader, results, spinifel
from spilegate.simulation.scattering import detector_q

COUNT, PIXELS = 24, 6
SHAPE = (COUNT, 1, PIXELS, PIXELS)
INTENSITIES, POSITION, INDEX_MAP = "intensities", "pixel_position_reciprocal", "pixel_index_map"

Content = dict[str, np.ndarray]
Damage = Callable[[Content], object]


def good() -> Content:
    """The content of a file that can be used."""
    return {
        INTENSITIES: np.random.default_rng(0).poisson(2, SHAPE) + 1.0,
        POSITION: detector_q(PIXELS, 5.0, 1.5) * 1e10,
        INDEX_MAP: np.stack(np.indices((1, PIXELS, PIXELS))[1:], axis=-1),
        "orientations": np.tile([1.0, 0, 0, 0], (COUNT, 1)),
        "volume": np.ones((3, 3, 3)),
    }


def write(path: Path, content: Content) -> Path:
    """Write datasets as they are."""
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name] = values
    return path


def refused(call: Callable[[], object], path: Path) -> str:
    """Return the message a call is refused with: one line that names the file, which stays as it was."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert "expected" in message or "change" in message
    assert (path.read_bytes() if path.is_file() else None) == before
    return message


def put(name: str, index: object, value: float) -> Damage:
    """Set one value of a dataset."""

    def damage(content: Content) -> None:
        content[name][index] = value

    return damage


def change(name: str, function: Callable[[np.ndarray], object]) -> Damage:
    """Replace a dataset by a function of itself."""
    return lambda content: content.update({name: np.asarray(function(content[name]))})


DAMAGES: dict[str, tuple[Damage, str]] = {
    "no intensities": (lambda content: content.pop(INTENSITIES), "'intensities': not in the file"),
    "no positions": (lambda content: content.pop(POSITION), "'pixel_position_reciprocal': not in the file"),
    "2-D intensities": (change(INTENSITIES, lambda values: values[:, 0, 0]), "(24, 6)"),
    "no patterns": (change(INTENSITIES, lambda values: values[:0]), "(0, 1, 6, 6)"),
    "few patterns": (change(INTENSITIES, lambda values: values[:5]), "5 patterns"),
    "scalar": (change(INTENSITIES, lambda _: 3.0), "()"),
    "complex": (change(INTENSITIES, lambda values: values.astype(complex)), "complex128"),
    "bool": (change(INTENSITIES, lambda values: values > 1), "bool"),
    "strings": (change(INTENSITIES, lambda values: values.astype("S3")), "|S3"),
    "compound": (change(INTENSITIES, lambda values: values.astype([("a", "f4")])), "'a'"),
    "nan": (put(INTENSITIES, (5, 0, 1, 1), np.nan), "1 of the patterns (the first: number 5"),
    "inf": (put(INTENSITIES, (slice(7, 9), 0, 1, 1), np.inf), "2 of the patterns (the first: number 7"),
    "two infinities": (put(INTENSITIES, (9, 0, 1, slice(2)), np.array([np.inf, -np.inf])), "not finite"),
    "above float32": (put(INTENSITIES, (7, 0, 1, 1), 1e300), "not finite"),
    "all empty": (put(INTENSITIES, slice(None), 0), "24 of the patterns (the first: number 0, from 0) without"),
    "other pixels": (change(POSITION, lambda values: values[:, :5]), "(1, 5, 6, 3)"),
    "other panels": (change(POSITION, lambda values: np.concatenate([values, values])), "(2, 6, 6, 3)"),
    "flat positions": (change(POSITION, lambda values: values.reshape(-1, 3)), "(36, 3)"),
    "complex positions": (change(POSITION, lambda values: values + 0j), "complex128"),
    "positions nan": (put(POSITION, (0, 2, 2, 1), np.nan), "1 pixels with a position that is not finite"),
    "positions zero": (put(POSITION, slice(None), 0), "largest |q| 0"),
    "1/angstrom": (change(POSITION, lambda values: values / 1e10), "check the unit"),
    "1/nm": (change(POSITION, lambda values: values / 1e9), "check the unit"),
    "in 1/pm": (change(POSITION, lambda values: values * 1e4), "check the unit"),
    "beam along -z": (change(POSITION, lambda values: values * [1, 1, -1]), "sign of q_z"),
    "flat Ewald": (change(POSITION, lambda values: values * [1, 1, 0]), "q_z is zero everywhere"),
    "beam along x": (change(POSITION, lambda values: values[..., ::-1]), "off the Ewald sphere"),
    "one pixel off": (put(POSITION, (0, 5, 5, 2), 0), "off the Ewald sphere"),
    "index map shape": (change(INDEX_MAP, lambda values: values[:, :3]), "(1, 3, 6, 2)"),
    "index map nan": (change(INDEX_MAP, lambda values: values * np.nan), "not indices"),
    "index map negative": (change(INDEX_MAP, lambda values: values - 1), "not indices"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_patterns_are_refused(tmp_path: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    content = good()
    damage(content)
    path = write(tmp_path / "data.h5", content)
    assert message in refused(lambda: reader.read(path), path)


def test_some_patterns_without_signal_are_read(tmp_path: Path) -> None:
    content = good()
    content[INTENSITIES][[3, 5]] = 0
    assert not reader.read(write(tmp_path / "data.h5", content)).images[[3, 5]].any()


def test_undamaged_patterns_are_read(tmp_path: Path) -> None:
    assert reader.read(write(tmp_path / "data.h5", good())).images.shape == (COUNT, PIXELS**2)


def test_the_numbers_of_patterns_hold_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "BLOCK_BYTES", 1000)
    content = good()
    put(INTENSITIES, ([13, 20], 0, 1, 1), np.nan)(content)
    path = write(tmp_path / "data.h5", content)
    assert "2 of the patterns (the first: number 13" in refused(lambda: reader.read(path), path)


def test_patterns_empty_only_where_they_are_used_are_refused(tmp_path: Path) -> None:
    content = good()
    content[INTENSITIES][:, 0, 1:5, 1:5] = 0
    path = write(tmp_path / "data.h5", content)
    inner = float(np.sort(np.linalg.norm(reader.read(path).q, axis=1))[11])
    assert "24 of the patterns" in refused(lambda: reader.read(path, q_max=inner), path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"binning": 4}, "cannot be binned by 4"), ({"q_min": 0.9}, "q_min = 0.9"), ({"q_max": 1e-4}, "q_max = 0.0001")],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, float], message: str) -> None:
    path = write(tmp_path / "data.h5", good())
    assert message in refused(lambda: reader.read(path, **options), path)


READERS: list[Callable[[Path], object]] = [
    reader.read,
    spinifel.read_truth,
    reader.describe,
    results.read_orientations,
    results.read_summary,
    maps.read_map,
]


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_a_folder_and_text_are_refused(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    refused(lambda: reader(tmp_path / "nowhere.h5"), tmp_path / "nowhere.h5")
    refused(lambda: reader(tmp_path), tmp_path)
    text = tmp_path / "text.txt"
    for content in ("", "Dear diary,\n" * 500):
        text.write_text(content)
        refused(lambda: reader(text), text)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("reader", READERS[:4])
def test_a_truncated_file_is_refused(tmp_path: Path, reader: Callable[[Path], object], share: float) -> None:
    path = write(tmp_path / "data.h5", good())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "truncated" in refused(lambda: reader(path), path)


def test_a_damaged_chunk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    content = good()
    with h5py.File(path, "w") as file:
        for name in (POSITION, INDEX_MAP):
            file[name] = content[name]
        file.create_dataset(INTENSITIES, data=content[INTENSITIES], compression="gzip", fletcher32=True)
        chunk = file[INTENSITIES].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    middle = chunk.byte_offset + chunk.size // 2
    raw[middle : middle + 8] = bytes(8)
    path.write_bytes(raw)
    assert "damaged" in refused(lambda: reader.read(path), path)


TRUTHS: dict[str, tuple[Damage, str]] = {
    "orientations missing one": (change("orientations", lambda values: values[1:]), "(23, 4)"),
    "three numbers": (change("orientations", lambda values: values[:, :3]), "(24, 3)"),
    "no unit": (change("orientations", lambda values: values * 2), "norms"),
    "nan": (put("orientations", (2, 2), np.nan), "norms"),
    "no cube": (change("volume", lambda values: values[:2]), "(2, 3, 3)"),
    "complex volume": (change("volume", lambda values: values + 1j), "complex128"),
    "volume nan": (put("volume", (1, 1, 1), np.nan), "not finite"),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_a_damaged_truth_is_refused_only_when_asked_for(tmp_path: Path, name: str) -> None:
    damage, message = TRUTHS[name]
    content = good()
    damage(content)
    path = write(tmp_path / "data.h5", content)
    assert message in refused(lambda: spinifel.read_truth(path), path)
    reader.read(path)


# --- maps, orientations, summary -------------------------------------------------------------------------------------


def write_mrc(path: Path, data: np.ndarray, voxel: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Path:
    """Write a map as it is."""
    # MRC's header holds statistics, which infinite values spoil.
    with np.errstate(invalid="ignore"), mrcfile.new(path, data) as mrc:
        mrc.voxel_size = voxel
    return path


CUBE = np.ones((4, 4, 4), np.float32)
BAD_MAPS: dict[str, tuple[np.ndarray, tuple[float, float, float], str]] = {
    "no cube": (CUBE[:3].copy(), (1, 1, 1), "(3, 4, 4)"),
    "picture": (CUBE[0].copy(), (1, 1, 1), "(4, 4)"),
    "complex": (CUBE.astype(np.complex64), (1, 1, 1), "complex64"),
    "not finite": (CUBE * np.float32(np.inf), (1, 1, 1), "not real numbers"),
    "anisotropic": (CUBE, (1, 1, 1.1), "voxel edges"),
    "no voxel": (CUBE, (0, 0, 0), "voxel edges"),
}


@pytest.mark.parametrize("name", BAD_MAPS)
@pytest.mark.filterwarnings("ignore:Data array contains infinite values")
def test_maps_that_cannot_be_used_are_refused(tmp_path: Path, name: str) -> None:
    data, voxel, message = BAD_MAPS[name]
    path = write_mrc(tmp_path / "map.mrc", data, voxel)
    assert message in refused(lambda: maps.read_map(path), path)


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_truncated_map_is_refused(tmp_path: Path, share: float) -> None:
    path = write_mrc(tmp_path / "map.mrc", np.ones((9, 9, 9), np.float32))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "cannot be read as MRC" in refused(lambda: maps.read_map(path), path)


def test_orientations_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "orientations.h5", {"quaternions": np.ones((5, 3))})
    assert "(5, 3)" in refused(lambda: results.read_orientations(path), path)


@pytest.mark.parametrize("text", ["[1, 2]", "{", "3"])
def test_a_summary_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text)
    refused(lambda: results.read_summary(path), path)


@pytest.mark.parametrize(("factor", "name"), [(2 * np.pi, "divide them by 2 pi"), (0.5 / np.pi, "multiply")])
def test_a_factor_of_2_pi_is_told_by_the_wavelength(tmp_path: Path, factor: float, name: str) -> None:
    content = good()
    content[POSITION] = content[POSITION] * factor
    path = write(tmp_path / "data.h5", content)
    with h5py.File(path, "r+") as file:
        file.attrs["wavelength_angstrom"] = 1.5
    assert name in refused(lambda: reader.read(path), path)


@pytest.mark.parametrize("wavelength", [1.5, 0.0, np.nan, "1.5", [1.5, 1.5], 7.0])
def test_any_other_wavelength_in_the_file_is_let_pass(tmp_path: Path, wavelength: object) -> None:
    path = write(tmp_path / "data.h5", good())
    with h5py.File(path, "r+") as file:
        file.attrs["wavelength_angstrom"] = wavelength
    reader.read(path)


@pytest.mark.parametrize("wavelength", [1e-3, 1.5])
def test_the_remedy_for_a_flat_sphere_works(tmp_path: Path, wavelength: float) -> None:
    content = good()
    q_x, q_y, _ = np.moveaxis(content[POSITION] / 1e10, -1, 0)
    q_z = (np.sqrt(1 - (wavelength * q_x) ** 2 - (wavelength * q_y) ** 2) - 1) / wavelength
    content[POSITION] = np.stack([q_x, q_y, q_z], axis=-1) * 1e10
    reader.read(write(tmp_path / "data.h5", content))
