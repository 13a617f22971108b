"""The scripts that carry wheels to a machine without a network: cut, joined, checked, installed; nothing is fetched."""

import importlib.machinery
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import gpu_parts  # noqa: E402

BASH = shutil.which("bash") or "bash"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def script(name: str) -> ModuleType:
    """Import a script, whose name has no suffix."""
    loader = importlib.machinery.SourceFileLoader(name, str(SCRIPTS / name))
    specification = importlib.util.spec_from_loader(name, loader)
    assert specification
    module = importlib.util.module_from_spec(specification)
    loader.exec_module(module)
    return module


pack = script("gpu_pack")


def end_of(*command: object, **environment: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of a command."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def unpack(*arguments: object) -> tuple[int, str, str]:
    return end_of(sys.executable, SCRIPTS / "gpu_unpack", *arguments)


def wheel(folder: Path, name: str, size: int = 0, requires: tuple[str, ...] = ()) -> Path:
    """Write a wheel with one module and `size` bytes more that do not compress."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    files: dict[str, str | bytes] = {
        f"{name}/__init__.py": f"name = '{name}'\n",
        f"{name}/data": os.urandom(size),
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{name}-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in {**files, f"{name}-1.0.dist-info/RECORD": record}.items():
            archive.writestr(file, content)
    return path


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A pack of four parts of 4000 bytes: one wheel is cut into three pieces, two are whole."""
    made = tmp_path / "made"
    made.mkdir()
    wheels = [wheel(made, "large", 9000), wheel(made, "middle", 2000), wheel(made, "small", 200)]
    folder = tmp_path / "pack"
    gpu_parts.write(wheels, [SCRIPTS / "gpu_unpack", SCRIPTS / "gpu_parts.py"], folder, 4000, HERE)
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
    parts = gpu_parts.plan(sizes, part_size)
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
        assert (entry["size"], entry["sha256"]) == (made.stat().st_size, gpu_parts.digest(made))
    listed = {piece["path"] for piece in [*gpu_parts.pieces_of(manifest), *manifest["scripts"]]}
    found = {path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file()}
    assert found == listed | {"manifest.json"}
    assert [name for name in sorted(listed) if "large" in name] == [
        f"part-{number:02d}/large-1.0-py3-none-any.whl.{number:03d}" for number in (1, 2, 3)
    ]
    for part in packed.glob("part-*"):
        assert sum(path.stat().st_size for path in part.iterdir()) <= 4000


def test_joined_wheels_are_the_ones_that_were_cut(packed: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    wheels = gpu_parts.join(gpu_parts.read(packed), packed, into)
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
    manifest = gpu_parts.read(packed)
    manifest["wheels"][0]["pieces"].reverse()
    with pytest.raises(gpu_parts.PackError, match=r"large-1\.0-py3-none-any\.whl has SHA-256"):
        gpu_parts.join(manifest, packed, tmp_path / "into")


def test_another_pack_is_not_mixed_in(packed: Path, tmp_path: Path) -> None:
    keep, other = tmp_path / "keep", tmp_path / "other"
    gpu_parts.gather(gpu_parts.read(packed), packed, keep)
    gpu_parts.write([wheel(tmp_path, "other")], [], other, 4000, HERE)
    code, _, stderr = unpack(other, tmp_path / "site", "--keep", keep)
    assert (code, stderr.count("\n")) == (2, 1)
    assert f"{keep} keeps parts of another pack" in stderr


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "manifest.json not found; expected the folder that scripts/gpu_pack wrote"),
        ("{", "manifest.json cannot be read"),
        ("{}", "is not the manifest of a pack"),
        (json.dumps({"format": gpu_parts.FORMAT, "python": "3.1"}), f"the pack is for Python 3.1, this is {HERE}"),
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
    gpu_parts.write([broken], [], tmp_path / "pack", 4000, HERE)
    code, stdout, stderr = unpack(tmp_path / "pack", tmp_path / "site")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert "pip ended with exit code" in stderr


# --- what is carried -------------------------------------------------------------------------------------------------

REQUIRES = {
    "program": ["NumPy>=2", "maps", "extra-only; extra == 'dev'"],
    "maps": ["numpy", "stars (>=1)"],
    "stars": ["iers-data", "plots; extra == 'all'"],
    "gpu-arrays": ["numpy", "cuda.toolkit[fft,blas]==13.*; extra == 'ctk'"],
    "cuda-toolkit": ['fft==12; extra == "fft"', 'rand==10; extra == "rand"'],
    "fft": ["jit-link"],
    **{name: [] for name in ("numpy", "iers-data", "plots", "jit-link", "rand", "extra-only")},
}
NEEDED = {"program", "numpy", "maps", "stars", "iers-data", "gpu-arrays", "cuda-toolkit", "fft", "jit-link"}


@pytest.mark.parametrize(
    ("without", "left_out"),
    [
        (set(), set()),
        ({"gpu-arrays"}, {"gpu-arrays", "cuda-toolkit", "fft", "jit-link"}),
        ({"maps"}, {"maps", "stars", "iers-data"}),
        ({"maps", "iers-data", "numpy"}, {"maps", "stars", "iers-data", "numpy"}),
        ({"unknown"}, set()),
    ],
)
def test_what_only_a_left_out_package_needs_is_left_out_too(without: set[str], left_out: set[str]) -> None:
    assert pack.needed(REQUIRES, ["program", "gpu_arrays[ctk]"], without) == NEEDED - left_out


def test_names_and_requirements_are_read(tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_text("# there already\nNumPy\n\n  Cupy_CUDA13x  # and what it needs\n")
    assert [pack.normal(name) for name in pack.read_names(names)] == ["numpy", "cupy-cuda13x"]
    assert pack.requirements(wheel(tmp_path, "one", requires=("numpy>=2", "x; extra == 'y'"))) == [
        "numpy>=2",
        "x; extra == 'y'",
    ]


def test_what_is_built_and_fetched_is_carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the programs that are run."""
    commands: list[list[str]] = []

    def run(_what: str, command: list[object], **_environment: str) -> None:
        words = [str(word) for word in command]
        commands.append(words)
        option = next(word for word in words if word in ("-w", "--output", "-d"))
        folder = Path(words[words.index(option) + 1])
        folder.mkdir(exist_ok=True)
        if option == "-w":
            assert {path.name for path in Path(words[-1]).iterdir()} == {"spilegate", *pack.PROJECT}
            wheel(folder, "spilegate", requires=("numpy",))
        elif option == "--output":
            wheel(folder, "cufinufft", requires=("numpy", "packaging"))
        else:
            for name in ("spilegate", "cufinufft", "numpy", "packaging"):
                wheel(folder, name, requires=() if name in ("numpy", "packaging") else ("packaging",))

    monkeypatch.setattr(pack, "run", run)
    wheels = pack.collect("3.12", None, {"cupy-cuda13x", "packaging"}, tmp_path)
    # Nothing that is left needs numpy.
    assert [path.name.partition("-")[0] for path in wheels] == ["cufinufft", "spilegate"]
    program, cufinufft, download = commands
    assert program[-1] == str(tmp_path / "program")
    assert cufinufft == [str(SCRIPTS / "build_cufinufft"), "--output", str(tmp_path / "built")]
    assert [Path(word).name.partition("-")[0] for word in download[-2:]] == ["spilegate", "cufinufft"]
    assert {"--only-binary=:all:", "3.12", "--platform=manylinux_2_28_x86_64", "--platform=linux_x86_64"} <= set(
        download
    )
    with pytest.raises(gpu_parts.PackError, match="nothing left to carry"):
        pack.collect("3.12", None, {"cupy-cuda13x", "spilegate", "cufinufft"}, tmp_path)


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: DIR"),
        (["new", "--part-mib", "0"], "--part-mib is 0.0; expected a number of MiB greater than 0"),
        (["new", "--part-mib", "nan"], "--part-mib is nan"),
        (["new", "--part-mib", "large"], "argument --part-mib: invalid float value: 'large'"),
        (["new", "--python", "3.9"], "--python is '3.9'; expected a version from 3.11 on"),
        (["new", "--python", "3.12.1"], "--python is '3.12.1'"),
        (["new", "--without-file", "absent"], "--without-file absent not found"),
        (["new", "--cufinufft", "absent.whl"], "--cufinufft absent.whl is no file cufinufft-*.whl"),
        (["full"], "full is there already; expected a new or empty folder"),
        (["new", "--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_gpu_pack_refuses_bad_arguments_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full" / "part-01").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["gpu_pack", *arguments])
    with pytest.raises(SystemExit) as ended:
        pack.main()
    stdout, stderr = capsys.readouterr()
    assert (ended.value.code, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith(f"scripts/gpu_pack: {message}")
    assert not (tmp_path / "new").exists()


def test_gpu_unpack_refuses_bad_arguments_in_one_line(tmp_path: Path) -> None:
    code, stdout, stderr = unpack(tmp_path)
    assert (code, stdout) == (2, "")
    assert stderr == "scripts/gpu_unpack: the following arguments are required: TARGET; see --help\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--wheels"], "unknown argument '--wheels'; expected --architectures LIST or --output DIR"),
        (["--output"], "--output has no value; expected --output VALUE"),
        (["--architectures", "80,90"], "--architectures is '80,90'; expected numbers with semicolons between them"),
        (["--architectures", "80;;90"], "--architectures is '80;;90'"),
        (["--architectures", "native"], "--architectures is 'native'"),
        (["--output", str(SCRIPTS / "setup")], f"--output {SCRIPTS / 'setup'} is not a folder"),
    ],
)
def test_build_cufinufft_refuses_bad_arguments_in_one_line(arguments: list[str], message: str) -> None:
    code, stdout, stderr = end_of(SCRIPTS / "build_cufinufft", *arguments)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith(f"scripts/build_cufinufft: {message}")


def test_build_cufinufft_hands_on_what_it_was_given(tmp_path: Path) -> None:
    """With stand-ins for nvcc and Python: the list of architectures stays one word, the wheel goes where it should."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "nvcc").write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n")
    (programs / "python").write_text(
        "#!/bin/sh\n"
        'while [ $# -gt 0 ]; do case "$1" in\n'
        '--target) mkdir -p "$2/nvidia/cu13/lib"; touch "$2/nvidia/cu13/lib/libcufft.so.12" ;;\n'
        f'--wheel-dir) mkdir -p "$2"; touch "$2/cufinufft-0-py3-none-any.whl"; echo "$CMAKE_ARGS" >{tmp_path}/said ;;\n'
        "esac; shift; done\n"
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHON": str(programs / "python")}
    output = tmp_path / "out"
    command = [SCRIPTS / "build_cufinufft", "--architectures", "80;90a;120-virtual", "--output", output]
    code, stdout, _ = end_of(*command, **environment)
    assert (code, stdout) == (0, f"{output}/cufinufft-0-py3-none-any.whl\n")
    assert (output / "cufinufft-0-py3-none-any.whl").is_file()
    arguments = shlex.split((tmp_path / "said").read_text())
    assert "-DCMAKE_CUDA_ARCHITECTURES=80;90a;120-virtual" in arguments
    assert "-DCMAKE_INSTALL_RPATH=$ORIGIN/../nvidia/cu13/lib" in arguments
    (programs / "nvcc").write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.99'\n")
    code, _, stderr = end_of(*command, **environment)
    assert (code, stderr) == (1, "scripts/build_cufinufft: nvcc is of CUDA 12.4; expected 13\n")


def test_the_shell_script_parses() -> None:
    assert end_of(BASH, "-n", SCRIPTS / "build_cufinufft") == (0, "", "")


@pytest.mark.parametrize("name", ["build_cufinufft", "gpu_pack", "gpu_unpack"])
def test_scripts_can_be_run(name: str) -> None:
    assert os.access(SCRIPTS / name, os.X_OK)
