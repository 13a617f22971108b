"""The scripts that carry wheels to a machine without a network: cut, joined, checked, installed; nothing is fetched."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from packs import HERE, SCRIPTS, cutting, end_of, unpack, wheel


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A pack of four parts of 4000 bytes: one wheel is cut into three pieces, two are whole."""
    made = tmp_path / "made"
    made.mkdir()
    wheels = [wheel(made, "large", 9000), wheel(made, "middle", 2000), wheel(made, "small", 200)]
    folder = tmp_path / "pack"
    cutting.write(wheels, [SCRIPTS / "gpu_unpack", SCRIPTS / "gpu_parts.py"], folder, 4000, HERE)
    return folder


def flip(path: Path) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


# --- cutting and joining ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part_size", [1, 7, 10, 1000])
def test_a_plan_holds_every_byte_once_and_no_part_is_too_large(part_size: int) -> None:
    sizes = {"a": 25, "b": 10, "c": 9, "d": 3, "e": 3, "f": 1}
    parts = cutting.plan(sizes, part_size)
    assert all(0 < sum(length for _, _, length in part) <= part_size for part in parts)
    for name, size in sizes.items():
        cuts = sorted((start, length) for part in parts for cut, start, length in part if cut == name)
        assert [byte for start, length in cuts for byte in range(start, start + length)] == list(range(size))
        assert size > part_size or len(cuts) == 1


def test_a_pack_names_every_file_with_its_size_checksum_and_part(packed: Path, tmp_path: Path) -> None:
    manifest = json.loads((packed / "manifest.json").read_text())
    assert (manifest["python"], len(manifest["wheels"])) == (HERE, 3)
    for entry in manifest["wheels"]:
        made = tmp_path / "made" / entry["name"]
        assert (entry["size"], entry["sha256"]) == (made.stat().st_size, cutting.digest(made))
    listed = {piece["path"] for piece in [*cutting.pieces_of(manifest), *manifest["scripts"]]}
    found = {path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file()}
    assert found == listed | {"manifest.json"}
    assert [name for name in sorted(listed) if "large" in name] == [
        f"part-{number:02d}/large-1.0-py3-none-any.whl.{number:03d}" for number in (1, 2, 3)
    ]
    for part in packed.glob("part-*"):
        assert sum(path.stat().st_size for path in part.iterdir()) <= 4000


def test_joined_wheels_are_the_ones_that_were_cut(packed: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    wheels = cutting.join(cutting.read(packed), packed, into)
    made = tmp_path / "made"
    assert {path.name: path.read_bytes() for path in wheels} == {
        path.name: path.read_bytes() for path in made.iterdir()
    }
    assert [path.name for path in into.iterdir()] == ["large-1.0-py3-none-any.whl"]


# --- unpacking -------------------------------------------------------------------------------------------------------


def test_a_whole_pack_is_installed_by_its_own_script(packed: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    command = [sys.executable, packed / "scripts" / "gpu_unpack", packed, target]
    assert end_of(*command) == (0, f"{target}\n", "")
    code, stdout, _ = end_of(sys.executable, "-c", "import large, small; print(large.name)", PYTHONPATH=str(target))
    assert (code, stdout) == (0, "large\n")
    assert (target / "large" / "data").stat().st_size == 9000
    assert not list(target.glob(".wheels-*"))
    # What has been installed is left alone, even if the parts are gone.
    for part in packed.glob("part-*"):
        shutil.rmtree(part)
    assert end_of(*command) == (0, f"{target}\n", "")


def test_parts_that_arrive_one_at_a_time_are_kept_until_all_are_there(packed: Path, tmp_path: Path) -> None:
    keep, target = tmp_path / "keep", tmp_path / "site"
    names = sorted(path.name for path in packed.glob("part-*"))
    assert len(names) == 4
    for number, name in enumerate(names, start=1):
        arrived = tmp_path / f"arrived-{number}"
        shutil.copytree(packed / name, arrived / name)
        shutil.copy(packed / "manifest.json", arrived)
        code, stdout, stderr = unpack(arrived, target, "--keep", keep)
        if number < len(names):
            assert (code, stdout, stderr.count("\n")) == (2, "", 1)
            assert f"missing are those of {', '.join(names[number:])}; bring them and call again" in stderr
        else:
            assert (code, stdout, stderr) == (0, f"{target}\n", "")
    assert (target / "small" / "__init__.py").is_file()


@pytest.mark.parametrize("name", ["large-1.0-py3-none-any.whl.002", "small-1.0-py3-none-any.whl"])
@pytest.mark.parametrize("kept", [False, True])
def test_a_damaged_file_is_named_and_nothing_is_installed(name: str, kept: bool, packed: Path, tmp_path: Path) -> None:
    (path,) = packed.rglob(name)
    flip(path)
    target, keep = tmp_path / "site", tmp_path / "keep"
    code, stdout, stderr = unpack(packed, target, *(["--keep", keep] if kept else []))
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert f"{path} has SHA-256" in stderr
    assert "copy it again" in stderr
    assert not (target / "small").exists()
    assert not list(keep.rglob(name))


def test_a_file_cut_short_is_named(packed: Path, tmp_path: Path) -> None:
    (path,) = packed.rglob("large*.001")
    path.write_bytes(path.read_bytes()[:-1])
    code, _, stderr = unpack(packed, tmp_path / "site")
    assert (code, stderr.count("\n")) == (2, 1)
    assert "has 3999 bytes; expected 4000; copy it again" in stderr


def test_pieces_in_the_wrong_order_do_not_pass_for_a_wheel(packed: Path, tmp_path: Path) -> None:
    manifest = cutting.read(packed)
    manifest["wheels"][0]["pieces"].reverse()
    with pytest.raises(cutting.PackError, match=r"large-1\.0-py3-none-any\.whl has SHA-256"):
        cutting.join(manifest, packed, tmp_path / "into")


def test_another_pack_is_not_mixed_in(packed: Path, tmp_path: Path) -> None:
    keep, other = tmp_path / "keep", tmp_path / "other"
    cutting.gather(cutting.read(packed), packed, keep)
    cutting.write([wheel(tmp_path, "other")], [], other, 4000, HERE)
    code, _, stderr = unpack(other, tmp_path / "site", "--keep", keep)
    assert (code, stderr.count("\n")) == (2, 1)
    assert f"{keep} keeps parts of another pack" in stderr


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "manifest.json not found; expected the folder that scripts/gpu_pack wrote"),
        ("{", "manifest.json cannot be read"),
        ("{}", "is not the manifest of a pack"),
        (json.dumps({"format": cutting.FORMAT, "python": "3.1"}), f"the pack is for Python 3.1, this is {HERE}"),
    ],
)
def test_what_is_no_pack_for_this_python_is_refused(manifest: str | None, message: str, tmp_path: Path) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    code, stdout, stderr = unpack(tmp_path, tmp_path / "site")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith("scripts/gpu_unpack: ")
    assert message in stderr


def test_what_pip_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.0-py3-none-any.whl"
    broken.write_bytes(b"no archive")
    cutting.write([broken], [], tmp_path / "pack", 4000, HERE)
    code, stdout, stderr = unpack(tmp_path / "pack", tmp_path / "site")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert "pip ended with exit code" in stderr
