"""Packs and the scripts that make and unpack them."""

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import gpu_parts as cutting  # noqa: E402, F401 - it lies beside the scripts, which are found now

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
