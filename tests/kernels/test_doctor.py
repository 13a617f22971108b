"""`spilegate doctor`: it tells the truth about this environment, and says how to get the rest."""

import importlib.util
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from command_line import run

import spilegate
from spilegate.kernels import inventory, remedies
from spilegate.kernels.findings import Check, Driver, Gpu, Library, Trial
from spilegate.kernels.trial import attempt

ROOT = Path(spilegate.__file__).resolve().parent.parent
DRIVER = Driver(None, 13010, ("A100", "A100"), (81_000, 81_000), loads=True)
# A computer that has everything.
COMPLETE = inventory.Machine(
    cores=4,
    memory_mib=32_000,
    versions=dict.fromkeys(inventory.DISTRIBUTIONS, "1.0"),
    cuda={"cupy-cuda13x": 13, "legate": 13},
    needs_driver=True,
    private_driver=None,
    networks=("ucx",),
    launchers={"mpirun": "/bin/mpirun"},
    trial=Trial(
        tuple(Library(name, "1.0") for name in ("numpy", "finufft", "cupy", "cufinufft")),
        DRIVER,
        tuple(Gpu(index, "A100", "8.0", 13010, 13000, free, 81_000) for index, free in enumerate((80_000, 70_000))),
        (Check("CPU", "FFT", 1e-7, 1e-5), Check("GPU 0", "NUFFT type 1", 1e-7, 1e-5)),
    ),
)
# What starts a run: NumPy, CuPy; cuPyNumeric on CPUs, ranks, GPUs, ranks with a GPU each.
NUMPY, CUPY, CPUS, RANKS, GPUS, GPU_RANKS = range(6)


def tried(**changes: object) -> inventory.Machine:
    """The complete computer, but for some findings of the trial."""
    return replace(COMPLETE, trial=replace(COMPLETE.trial, **changes))  # type: ignore[arg-type]


def missing(machine: inventory.Machine) -> list[list[str]]:
    """The obstacles of every way to start."""
    return [[part.name for part in start.obstacles] for start in inventory.starts(machine)]


def stopped(what: list[str], *ways: int) -> list[list[str]]:
    """Obstacles of some ways to start, the others having none."""
    return [what if way in ways else [] for way in range(6)]


def part(machine: inventory.Machine, name: str) -> inventory.Part:
    """What is said about one part."""
    return next(part for part in inventory.parts(machine) if part.name == name)


def test_it_says_what_is_here_and_that_numpy_runs() -> None:
    began = time.perf_counter()
    result = run("doctor")
    assert time.perf_counter() - began < 120
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    for module in ("numpy", "finufft"):
        assert [module, version(module)] in [line[:2] for line in lines]
    threads = len(os.sched_getaffinity(0))
    assert f"runs on NumPy with {threads} thread" in result.stdout
    assert "spilegate reconstruct ..." in result.stdout
    assert "CPU: FFT " in result.stdout
    assert "have not been tried on a GPU yet" in result.stdout


def test_without_a_gpu_it_says_so_and_how_much_memory_a_run_would_set_apart() -> None:
    if attempt(("driver",)).driver.names:
        pytest.skip("there is a GPU here")
    result = run("doctor")
    assert result.exit_code == 0
    assert [line for line in result.stdout.splitlines() if line.split()[:2] == ["GPU", "missing"]]
    commands = [line for line in result.stdout.splitlines() if re.search(r"--gpus [1-9]", line)]
    assert len(commands) == 2
    assert all("--fbmem 40000" in command for command in commands)
    assert "legate --ranks-per-node 4 --gpus 1 --fbmem 40000 --launcher " in result.stdout


def test_help_quiet_and_log(tmp_path: Path) -> None:
    assert "what is missing and how to get it" in " ".join(run("doctor", "-h").stdout.split())
    log = tmp_path / "doctor.log"
    result = run("doctor", "--quiet", "--log", log)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "finufft" in log.read_text()


@pytest.mark.skipif(importlib.util.find_spec("legate") is not None, reason="Legate is installed here")
def test_without_legate_it_says_how_to_get_it() -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert "legate, cupynumeric: pip install 'spilegate[legate]'" in result.stdout
    assert "cannot run, because these are missing: legate, cupynumeric" in result.stdout
    assert "spilegate's own conjugate gradients, because legate_sparse is not installed" in result.stdout


def doctor_with(folder: Path, **packages: str) -> subprocess.CompletedProcess[str]:
    """Run the doctor where some packages are found first, each with this text."""
    for name, text in packages.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(text)
    command = [sys.executable, "-c", "import sys; from spilegate.cli import main; main()", "doctor"]
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, cwd=folder, capture_output=True, text=True, check=False
    )


def test_it_looks_at_legate_without_importing_it(tmp_path: Path) -> None:
    imported = "raise SystemExit('imported')\n"
    facts = 'networks: list[str] = str("gasnetex other").split()\nuse_cuda: bool = OFF\n'
    (tmp_path / "legate").mkdir()
    (tmp_path / "legate" / "install_info.py").write_text(f"{imported}{facts}")
    (tmp_path / "legate" / "__init__.py").write_text(imported)
    done = doctor_with(tmp_path, cupynumeric=imported, legate_sparse=imported)
    assert (done.returncode, done.stderr) == (0, "")
    assert "imported" not in done.stdout
    assert "gasnetex, other" in done.stdout
    assert "solved by legate_sparse.linalg.cg of legate_sparse" in done.stdout
    # A Legate that is not linked with the driver starts without it.
    assert "runs on cuPyNumeric, split over" in done.stdout


def test_what_does_not_load_or_crashes_is_said_in_a_line_and_stops_nothing_else(tmp_path: Path) -> None:
    crash = "import os, sys\nprint('words of its own')\nprint('last words', file=sys.stderr, flush=True)\nos.abort()\n"
    done = doctor_with(tmp_path, cupy=crash, cufinufft="raise OSError('libcudart.so.12: cannot open')\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Traceback" not in done.stdout
    assert "words of its own" not in done.stdout
    assert "cupy (does not load: the process ended by SIGABRT (last words))" in done.stdout
    assert (
        "cufinufft (does not load: OSError: libcudart.so.12: cannot open): pip install 'spilegate[gpu]'" in done.stdout
    )
    assert re.search(r"these are missing or do not work: .*cupy, cufinufft\n", done.stdout)
    assert "runs on NumPy with" in done.stdout


def test_a_complete_computer_runs_everything() -> None:
    assert missing(COMPLETE) == [[]] * 6
    commands = [start.command for start in inventory.starts(COMPLETE)]
    assert commands[CUPY] == "spilegate reconstruct ... --backend cupy"
    assert commands[CPUS].startswith("legate --cpus 4 --gpus 0 --sysmem 4000 spilegate/main.py reconstruct")
    assert "--launcher mpirun" in commands[RANKS]
    # 60 % of the free memory of the GPU that has least of it.
    assert commands[GPUS].startswith("legate --gpus 2 --fbmem 42000 spilegate/main.py")
    assert commands[GPU_RANKS].startswith(
        "legate --ranks-per-node 2 --gpus 1 --fbmem 42000 --launcher mpirun spilegate/"
    )
    srun = inventory.starts(replace(COMPLETE, launchers={"srun": "/bin/srun"}))
    assert "--launcher srun" in srun[GPU_RANKS].command
    assert "legate_sparse 1.0" in inventory.solver(COMPLETE)
    assert len(inventory.remarks(COMPLETE)) == 2


def test_a_rank_for_each_gpu_is_for_several_gpus() -> None:
    one = tried(driver=replace(DRIVER, names=("A100",), memory_mib=(81_000,)), gpus=COMPLETE.trial.gpus[:1])
    commands = [start.command for start in inventory.starts(one)]
    assert len(commands) == 5
    assert commands[GPUS].startswith("legate --gpus 1 --fbmem 48000 ")


def test_memory_set_apart_without_cupy_and_of_small_gpus() -> None:
    assert inventory.gpu_memory(replace(COMPLETE.trial, gpus=())) == 48_000
    small = replace(COMPLETE.trial.gpus[0], free_mib=1_500)
    assert inventory.gpu_memory(replace(COMPLETE.trial, gpus=(small,))) == 900


def test_each_thing_missing_stops_just_what_needs_it() -> None:
    no_gpu = replace(DRIVER, names=(), memory_mib=())
    assert missing(tried(driver=no_gpu, gpus=())) == stopped(["GPU"], CUPY, GPUS, GPU_RANKS)
    assert missing(replace(COMPLETE, networks=())) == stopped(["networking of legate"], RANKS, GPU_RANKS)
    assert missing(replace(COMPLETE, launchers={})) == stopped(["mpirun or srun"], RANKS, GPU_RANKS)
    no_driver = tried(driver=Driver("gone", names=DRIVER.names))
    driver = [remedies.DRIVER]
    assert missing(no_driver) == stopped(driver, CUPY, CPUS, RANKS, GPUS, GPU_RANKS)
    assert missing(replace(no_driver, needs_driver=False)) == stopped(driver, CUPY, GPUS, GPU_RANKS)
    for module, ways in (
        ("cupynumeric", (CPUS, RANKS, GPUS, GPU_RANKS)),
        ("cufinufft", (CUPY, GPUS, GPU_RANKS)),
        ("finufft", range(6)),
    ):
        versions = {**COMPLETE.versions, module: None}
        assert missing(replace(COMPLETE, versions=versions)) == stopped([module], *ways)


def test_a_driver_that_loads_but_does_not_work_says_why() -> None:
    machine = tried(driver=Driver("CUDA error 803, unsupported", 13010, loads=True), gpus=())
    assert (part(machine, remedies.DRIVER).found, part(machine, remedies.DRIVER).reason) == (
        "for CUDA up to 13.1",
        None,
    )
    assert part(machine, "GPU").reason == "CUDA error 803, unsupported"
    crashed = tried(driver=Driver("the process ended by SIGSEGV"), gpus=())
    assert part(crashed, remedies.DRIVER).reason == "the process ended by SIGSEGV"


@pytest.mark.parametrize(
    ("check", "blamed"),
    [
        (Check("CPU", "FFT", 0.1, 1e-5), "numpy"),
        (Check("CPU", "NUFFT type 2", fault="the process ended by SIGILL"), "finufft"),
        (Check("GPU 1", "NUFFT type 1", 0.1, 1e-5), "cufinufft"),
        (Check("GPU 1", "sum", float("nan"), 1e-12), "GPU"),
        (Check("GPU 1", "start", fault="CUDARuntimeError: cudaErrorIllegalAddress"), "GPU"),
        (Check("GPU 1", "FFT", fault="it took longer than 60 s"), "GPU"),
        # CuPy without CUDA's compiler or headers.
        (Check("GPU 1", "sum", fault="RuntimeError: CuPy failed to load libnvrtc.so.13"), "cupy"),
        (Check("GPU 1", "FFT", fault="DynamicLibNotFoundError: cufft"), "cupy"),
    ],
)
def test_a_wrong_result_is_laid_at_the_door_of_what_made_it(check: Check, blamed: str) -> None:
    assert inventory.faults(tried(checks=(check,)).trial) == {blamed: check.reason}
    assert part(tried(checks=(check,)), blamed).found is None
    assert inventory.starts(tried(checks=(check,)))[GPUS].obstacles[0].name == blamed


def test_gpus_without_cupy_leave_the_tasks_to_cpu_processors() -> None:
    machine = replace(COMPLETE, versions={**COMPLETE.versions, "cupy": None})
    assert "would run on CPU processors, not on GPUs" in inventory.remarks(machine)[0]


@pytest.mark.parametrize(
    ("cuda", "cupy", "cufinufft"),
    [
        ({}, "'spilegate[gpu]'", "'spilegate[gpu]'"),
        ({"legate": 12}, "'spilegate[gpu]'", "'spilegate[gpu]'"),
        ({"legate": 13}, "'spilegate[gpu13]'", "scripts/build_cufinufft"),
        ({"cupy-cuda13x": 13}, "'spilegate[gpu13]'", "scripts/build_cufinufft"),
        ({"cupy-cuda12x": 12}, "'spilegate[gpu]'", "'spilegate[gpu]'"),
        ({"cupy-cuda12x": 12, "legate": 13}, "'spilegate[gpu13]'", "scripts/build_cufinufft"),
        ({"cupy": 12}, "'spilegate[gpu]'", "'cufinufft>=2.5.1'"),
        ({"cupy": 13}, "'spilegate[gpu13]'", "scripts/build_cufinufft"),
        ({"legate": 14}, "'spilegate[gpu]'", "'spilegate[gpu]'"),
    ],
)
def test_what_is_missing_is_got_for_the_cuda_there_is(cuda: dict[str, int], cupy: str, cufinufft: str) -> None:
    found = remedies.remedies(cuda)
    assert cupy in found["cupy"]
    assert cufinufft in found["cufinufft"]


def test_versions_of_cuda_that_do_not_go_together_are_said_in_a_line() -> None:
    assert remedies.mixtures({"cupy-cuda13x": 13, "legate": 13}, 13000) == []
    assert remedies.mixtures({"cupy-cuda12x": 12}, 13000) == []
    (both,) = remedies.mixtures({"cupy-cuda12x": 12, "cupy-cuda13x": 13}, 13000)
    assert both.startswith("cupy-cuda12x and cupy-cuda13x overwrite each other's files; expected one of them: ")
    assert "pip uninstall cupy-cuda12x cupy-cuda13x cufinufft, then pip install 'spilegate[gpu]'." in both
    (mixed,) = remedies.mixtures({"cupy-cuda12x": 12, "legate": 13}, 0)
    assert mixed.startswith("cupy-cuda12x is for CUDA 12, legate for CUDA 13; expected one CUDA: pip uninstall ")
    assert "then pip install 'spilegate[gpu13]', then scripts/build_cufinufft" in mixed
    (old,) = remedies.mixtures({"cupy-cuda13x": 13}, 12040)
    assert old.startswith("cupy-cuda13x is for CUDA 13, the driver for CUDA 12.4 at most; ")
    machine = replace(COMPLETE, cuda={"cupy-cuda12x": 12, "legate": 13})
    assert inventory.remarks(machine)[0] == mixed
    # The driver's library of Debian, for a Legate without GPUs, is not measured by its CUDA.
    assert len(inventory.remarks(tried(driver=Driver(None, 12020, loads=True), gpus=()))) == 2
    assert "the driver for CUDA 12.2" in inventory.remarks(tried(driver=replace(DRIVER, cuda=12020)))[0]


def test_the_cuda_of_what_is_installed_is_read_from_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, needs in (("cupy_cuda12x", "numpy"), ("legate", "nvidia-nccl-cu13<2.30"), ("cupy", "numpy")):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\nRequires-Dist: {needs}\n"
        (folder / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert remedies.cuda_of_distributions(0) == {"cupy-cuda12x": 12, "legate": 13}
    assert remedies.cuda_of_distributions(12090)["cupy"] == 12


def test_everything_missing_has_a_remedy() -> None:
    nothing = inventory.Machine(1, 1000, dict.fromkeys(inventory.DISTRIBUTIONS), {}, True, None, (), {}, Trial())
    assert all(found.remedy and found.found is None for found in inventory.parts(nothing))
    private = replace(nothing, private_driver=Path("/some/libcuda"))
    assert "/some/libcuda on LD_LIBRARY_PATH" in part(private, remedies.DRIVER).remedy
    assert inventory.starts(nothing)[0].how == "on NumPy with 1 thread"


def run_shown(start: inventory.Start) -> subprocess.CompletedProcess[str]:
    """Run a command just as it is shown, only to print the version."""
    assert not start.obstacles
    words = start.command.replace("reconstruct ...", "--version").split()
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=540)


@pytest.mark.launcher
def test_what_it_says_runs_on_cpus_does_run() -> None:
    done = run_shown(inventory.starts(inventory.examine(1))[CPUS])
    assert done.returncode == 0, done.stderr
    assert f"spilegate {spilegate.__version__}" in done.stdout


@pytest.mark.launcher
@pytest.mark.ranks
def test_what_it_says_runs_on_ranks_does_run() -> None:
    done = run_shown(inventory.starts(inventory.examine(1))[RANKS])
    assert done.returncode == 0, done.stderr
    assert f"spilegate {spilegate.__version__}" in done.stdout


@pytest.mark.parametrize(("needs", "extra"), [("nvidia-nccl-cu13<2.30", "gpu13"), ("nvidia-nccl-cu12<2.30", "gpu")])
def test_a_run_on_a_gpu_without_cupy_names_the_extra_for_the_cuda_there_is(
    needs: str, extra: str, tmp_path: Path
) -> None:
    folder = tmp_path / "legate-99.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: legate\nVersion: 99.0\nRequires-Dist: {needs}\n")
    # In the way of a CuPy that may be installed.
    (tmp_path / "cupy.py").write_text("raise ImportError('none here')\n")
    code = "from spilegate.kernels.device import first_device; first_device(1)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    last = done.stderr.splitlines()[-1]
    assert "CuPy is not there (none here)" in last
    assert f"pip install 'spilegate[{extra}]';" in last
