"""The README's commands run, its options exist, and its tables are those of the program."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from spilegate.cli import app
from spilegate.commands.configuration import setting_paths
from spilegate.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# A block after this comment is run as it stands, in an empty folder.
TESTED = re.findall(r"<!-- tested -->\n```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^spilegate (.+)$", README, re.MULTILINE)


def settings_table() -> str:
    """The table of all settings, as the README has to have it."""
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
        cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False, timeout=300,
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
    found = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", README, re.DOTALL)
    assert found
    assert found.group(1) == settings_table(), f"put this table there:\n{settings_table()}"


def test_scripts_named_first_exist_and_can_be_run() -> None:
    for name in re.findall(r"scripts/\w+(?:\.py)?", README):
        assert os.access(ROOT / name, os.X_OK), name
    assert README.index("scripts/demo") < README.index("## Install")
