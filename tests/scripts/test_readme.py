"""The README's commands run, its options exist, and its tables and the reference's are those of the program."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

import spilegate
from spilegate.cli import app
from spilegate.commands.configuration import setting_paths
from spilegate.report.pictures import NAMES
from spilegate.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "scripts" / "REFERENCE.md").read_text(encoding="utf-8")
MEASURED = (ROOT / "scripts" / "MEASURED.md").read_text(encoding="utf-8")
# A block after this comment is run as it stands, in an empty folder.
TESTED = re.findall(r"<!-- tested -->\n```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^spilegate (.+)$", README, re.MULTILINE)


def settings_table() -> str:
    """The table of all settings, as the reference has to have it."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for path, field in setting_paths(Settings):
        default: Any = "none" if field.default is None else str(field.default).lower()
        lines.append(f"| `{path}` | {default} | {field.description} |")
    return "\n".join(lines)


@pytest.mark.parametrize("block", TESTED, ids=range(len(TESTED)))
def test_tested_blocks_run(block: str, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False, timeout=540,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_tested_blocks_and_commands() -> None:
    assert TESTED
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_shown_has_only_options_that_exist(line: str) -> None:
    words = shlex.split(line.partition("#")[0])
    commands = get_command(app).commands  # type: ignore[attr-defined] # the app is a group
    options = {name for parameter in commands[words[0]].params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_table_of_settings_is_complete() -> None:
    found = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", REFERENCE, re.DOTALL)
    assert found
    assert found.group(1) == settings_table(), f"put this table there:\n{settings_table()}"


def rows_below(heading: str, text: str) -> dict[str, str]:
    """The rows of the table below a heading or a line that starts so: first cell to the rest."""
    table = re.search(r"\n\|.*?\n\n", text[text.index(f"\n{heading}") :] + "\n", re.DOTALL)
    assert table
    lines = table.group().strip().splitlines()[2:]
    return {first.strip(): rest for first, _, rest in (line.strip("| ").partition(" | ") for line in lines)}


def names_in(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_of_the_summary_is_complete(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    rows = rows_below("## summary.json", REFERENCE)
    named = [name for cell in rows for name in names_in(cell)]
    assert len(named) == len(set(named))
    assert set(named) == set(summary)
    for key in ("input", "scale", "background", "resolution", "evaluation"):
        (said,) = (rest for cell, rest in rows.items() if key in names_in(cell))
        assert set(summary[key]) <= set(names_in(said)), key


def test_the_list_of_files_is_complete(finished: Path) -> None:
    rows = rows_below("**Out**", README)
    assert set(names_in(rows["`figures/*.png`"])) == set(NAMES)
    named = {name for cell in rows for name in names_in(cell)}
    written = {path.name for path in finished.iterdir() if path.is_file()} - {"run.log"}
    assert written <= named


def test_scripts_named_first_exist_and_can_be_run() -> None:
    for name in re.findall(r"scripts/\w+(?:\.\w+)?", README + MEASURED):
        assert os.access(ROOT / name, os.R_OK if name.endswith((".md", ".png", ".ipynb")) else os.X_OK), name
    assert README.index("scripts/demo") < README.index("## Install")


def test_the_citation_is_of_this_version_and_has_what_the_format_wants() -> None:
    """Citation File Format 1.2.0: four keys for the software, three for each of its references."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert (cited["title"], cited["version"], cited["license"]) == ("spilegate", spilegate.__version__, "BSD-3-Clause")
    for reference in cited["references"]:
        assert {"type", "title", "authors"} <= set(reference)
        assert all("family-names" in author for author in reference["authors"])
        assert reference["authors"][0]["family-names"] in README


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 270


def test_every_measured_table_stands_under_the_script_that_makes_it() -> None:
    sections = re.split(r"^## ", MEASURED, flags=re.MULTILINE)[1:]
    tables = [section for section in sections if re.search(r"^\|---", section, re.MULTILINE)]
    assert len(tables) >= 6
    for section in tables:
        assert re.match(r".*`(scripts/|spilegate )", section), section.partition("\n")[0]
