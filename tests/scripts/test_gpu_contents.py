"""What is packed for a machine with a GPU and no network, and bad arguments of the scripts that do it."""

import os
import shlex
import sys
from pathlib import Path

import pytest
from packs import BASH, SCRIPTS, cutting, end_of, pack, unpack, wheel

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
    with pytest.raises(cutting.PackError, match="nothing left to carry"):
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
