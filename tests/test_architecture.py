"""The shape of the source: layers, device words, sizes, documentation, quick imports."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import spilegate

PACKAGE = Path(spilegate.__file__).resolve().parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module may import from its own layer's packages and from the layers before it.
LAYERS = (
    {"errors", "records", "findings", "reconstruction", "settings", "backend", "streams"},
    {"kernels"},
    {"geometry", "formats"},
    {"likelihood", "stages", "evaluation", "simulation"},
    {"schedule", "convergence", "watching", "patterns"},
    {"generation"},
    {"resolution", "forecast"},
    {"mtip"},
    {"selection"},
    {"report"},
    {"commands", "front", "cli"},
    {"main", "__main__", "__init__"},
)
DEVICE_WORDS = re.compile(r"\b(gpus?|cupy|cuda|cufinufft|legate|cunumeric|cupynumeric)\b", re.IGNORECASE)


def dotted(path: Path) -> str:
    """Return a module's name below the package: `kernels.fft`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def layer(name: str) -> int:
    """Return the layer of a module's name; unknown top-level modules fail, so that every new one gets a layer."""
    top = name.partition(".")[0]
    found = [index for index, members in enumerate(LAYERS) if top in members]
    assert found, f"{name}: in no layer; add {top} to LAYERS"
    return found[0]


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of the package that a module imports, below the package, at any depth of its text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("spilegate.") for alias in node.names if "spilegate." in alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the package's name"
            if node.module == "spilegate":
                yield from (alias.name for alias in node.names if not alias.name.startswith("__"))
            elif node.module and node.module.startswith("spilegate."):
                yield node.module.removeprefix("spilegate.")


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Yield public functions, classes and methods."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name[0] != "_")


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_imports_only_from_layers_below(path: Path) -> None:
    if path.name == "__init__.py" and path.parent == PACKAGE:
        return
    own = dotted(path)
    for name in imported(path):
        assert layer(name) <= layer(own), f"{own} imports {name}, a layer above"


@pytest.mark.parametrize("path", sorted((PACKAGE / "stages").glob("*.py")), ids=dotted)
def test_no_stage_imports_another(path: Path) -> None:
    others = [name for name in imported(path) if name.startswith("stages")]
    assert not others


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_device_words_stay_in_backend_and_kernels(path: Path) -> None:
    # main.py's docstring has to name the launcher that runs it by path.
    if path.parent.name == "kernels" or path.name in {"backend.py", "main.py"}:
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [f"{dotted(path)}:{number}" for number, line in enumerate(lines, 1) if DEVICE_WORDS.search(line)]


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_modules_are_short_and_documented(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    missing = [node.name for node in public(tree) if not ast.get_docstring(node)]
    assert not missing


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_no_module_is_named_like_one_of_the_standard_library(path: Path) -> None:
    # Run by its path, main.py's folder is on the path until its guard takes it off.
    if path.parent == PACKAGE:
        names = {"__init__", "__main__"}
        assert path.stem in names or path.stem not in sys.stdlib_module_names
    elif path.stem == "__init__" and path.parent.parent == PACKAGE:
        assert path.parent.name not in sys.stdlib_module_names


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_no_pickle_eval_shell_or_environment(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not names & {"pickle", "shelve", "marshal"}
        if isinstance(node, ast.Attribute):
            # One module asks how the program was started.
            asks = dotted(path) == "kernels.launch"
            assert asks or node.attr not in {"environ", "getenv"}, f"{dotted(path)}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "print"}
        if isinstance(node, ast.keyword) and node.arg == "shell":
            pytest.fail(f"{dotted(path)}:{node.value.lineno} uses a shell")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, spilegate; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {"numpy", "scipy", "h5py", "matplotlib", "healpy", "gemmi", "finufft", "pydantic", "rich", "typer"}
    assert not heavy & set(ast.literal_eval(loaded))


def test_the_command_line_is_parsed_without_numerical_libraries() -> None:
    code = "import sys, spilegate.cli; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "scipy", "h5py", "matplotlib", "healpy", "pydantic"} & set(ast.literal_eval(loaded))


def test_the_front_door_is_complete() -> None:
    assert set(spilegate.__all__) == set(spilegate._HOME)
    for name in spilegate.__all__:
        assert getattr(spilegate, name) is not None
    assert set(dir(spilegate)) == {*spilegate.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'reconstrukt'"):
        _ = spilegate.reconstrukt


def test_main_guards_the_path_before_it_imports_the_package() -> None:
    tree = ast.parse((PACKAGE / "main.py").read_text(encoding="utf-8"))
    lines = [ast.unparse(node) for node in tree.body]
    guard = next(index for index, line in enumerate(lines) if line.startswith("sys.path[:]"))
    package = next(index for index, line in enumerate(lines) if "from spilegate" in line)
    assert guard < package
    assert not [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
