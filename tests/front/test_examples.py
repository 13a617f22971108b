"""Every public name is documented, and every example of the documentation is run."""

import doctest
import inspect
import pydoc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import spilegate

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FUNCTIONS = [name for name in spilegate.__all__ if inspect.isfunction(getattr(spilegate, name))]


def examples_of(name: str) -> list[doctest.DocTest]:
    """The examples of a public name and of the methods that the package itself defines for it."""
    found = doctest.DocTestFinder().find(getattr(spilegate, name), name, module=False)
    return [each for each in found if each.examples]


def run(test: doctest.DocTest, known: dict[str, Any]) -> None:
    """Run examples with these names, to which they add theirs."""
    report: list[str] = []
    test.globs = known
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append, clear_globs=False)
    assert not report, "".join(report)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the first page's examples make: the names that the other examples use."""
    names: dict[str, Any] = {"folder": tmp_path_factory.mktemp("examples")}
    run(doctest.DocTestParser().get_doctest(spilegate.__doc__ or "", names, "spilegate", None, 0), names)
    return names


def test_the_first_page_runs(known: dict[str, Any]) -> None:
    assert known["result"].resolution_angstrom
    assert {"sg", "simulation", "data"} <= set(known)
    assert (known["folder"] / "saved" / "density.mrc").is_file()


@pytest.mark.parametrize("name", spilegate.__all__)
def test_every_example_runs(name: str, known: dict[str, Any]) -> None:
    tests = examples_of(name)
    assert tests or name not in FUNCTIONS, f"{name} has no example"
    for test in tests:
        run(test, dict(known))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_takes_returns_and_raises(name: str) -> None:
    text = inspect.getdoc(getattr(spilegate, name)) or ""
    signature = inspect.signature(getattr(spilegate, name))
    assert "InputError" in text
    assert [parameter for parameter in signature.parameters if parameter not in text and parameter != "kwargs"] == []


def attributes(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that a class has from this package."""
    for base in cls.__mro__:
        if base.__module__.startswith("spilegate."):
            yield from ((name, value) for name, value in vars(base).items() if name[0] != "_")


@pytest.mark.parametrize("name", ["Dataset", "Evaluation", "Generation", "Reconstruction", "Simulation"])
def test_every_attribute_is_documented(name: str) -> None:
    cls = getattr(spilegate, name)
    assert cls.__doc__
    for attribute, value in attributes(cls):
        documented = inspect.getdoc(value) or attribute in "".join(base.__doc__ or "" for base in cls.__mro__)
        assert documented, f"{name}.{attribute}"


def test_help_begins_with_the_first_page_and_names_everything(tmp_path: Path) -> None:
    text = pydoc.plain(pydoc.render_doc(spilegate))
    first = text[: text.index("PACKAGE CONTENTS")]
    assert "From single-particle X-ray diffraction patterns" in first.replace("\n", " ")
    for word in ("sg.read(", "sg.reconstruct(", ".save(", "sg.evaluate(", "InputError", "angstrom", "tutorial.ipynb"):
        assert word in first, word
    assert len(first.splitlines()) <= 50
    assert all(name in text for name in spilegate.__all__)
