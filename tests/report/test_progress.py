"""Progress of a run: lines, records, the log, and who is told of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import records
from made_up import made_up_state

from spilegate.errors import InputError
from spilegate.records import Progress
from spilegate.report.console import Output
from spilegate.report.display import stage_line
from spilegate.report.progress import FILE, Monitor, read_records, seconds_by, seconds_left


def test_time_left_counts_generations_not_the_blind_start() -> None:
    assert seconds_left(records(12, 1)) is None
    assert seconds_left(records(12, 2)) is None
    # Generation 6 has just ended, as far as is known; six more of three seconds follow.
    assert seconds_left(records(12, 6)) == pytest.approx(18)
    assert seconds_left(records(12, 12)) == pytest.approx(0)


def test_a_progress_line_says_whether_it_converges() -> None:
    line = stage_line(Progress(3, 12, "match", 2.129, {"moved": 0.321, "other": 7.0, "mean_distance": 0.01234}))
    assert line == "generation  3/12  match    2.13 s  distance 0.0123  moved 0.321  other 7"


def test_the_monitor_prints_records_saves_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved: list[int] = []
    drawn: list[bool] = []
    log = tmp_path / "run.log"
    earlier = records(6, 2)
    (tmp_path / FILE).write_text("".join(json.dumps(record) + "\n" for record in records(6, 4)))
    with Output(log=log) as output:
        output.open_log()
        monitor = Monitor(
            output, tmp_path, save=lambda state: saved.append(state.generation), draw=drawn.append,
            done=2,
        )  # fmt: skip
        with monitor:
            monitor.stage(Progress(3, 6, "match", 1.0, {"moved": 0.5}))
            monitor.generation(made_up_state(), last=False)
            monitor.generation(made_up_state(), last=True)
    assert saved == [3, 3]
    assert drawn == [False, True]
    assert monitor.generation_done == 3
    kept = read_records(tmp_path)
    assert kept[:-1] == earlier
    assert kept[-1]["figures"] == {"moved": 0.5}
    assert read_records(tmp_path, last_generation=2) == earlier
    assert seconds_by(kept, "stage") == {"start": 10.0, "match": 2.0, "merge": 2.0}
    printed = capsys.readouterr().out
    assert printed.startswith("generation 3/6  match")
    assert printed.count("\n") == 1
    stamped = log.read_text()
    assert stamped.endswith(printed)
    assert stamped[:2] == "20"


def test_halves_are_shown_and_leave_the_run_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved: list[int] = []
    drawn: list[bool] = []
    monitor = Monitor(
        Output(), tmp_path, save=lambda state: saved.append(state.generation), draw=drawn.append, half_sets=True
    )
    for number, stage in ((1, "start"), (2, "match"), (3, "match")):
        monitor.stage(Progress(number, 3, stage, 1.0, {}))
    monitor.generation(made_up_state(), last=False)
    before = list(monitor.records)
    for half in (1, 2):
        watcher = monitor.half(half)
        for number, stage in ((1, "start"), (2, "match"), (3, "match")):
            watcher.stage(Progress(number, 3, stage, 5.0, {}))
            watcher.generation(replace(made_up_state(), generation=number), last=False)
    assert saved == [3]
    assert drawn == [False]
    assert monitor.generation_done == 3
    assert monitor.records == before == read_records(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("generation")[0] for line in lines] == [""] * 3 + ["half 1/2, "] * 3 + ["half 2/2, "] * 3
    assert lines[2].endswith("about 0:00 left, then half-sets]")
    assert lines[5].endswith("about 0:00 left, then half 2]")
    assert lines[8].endswith("about 0:00 left]")


def test_a_record_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(records(3, 1)[0]) + '\n{"generation": 2, "sta')
    assert read_records(tmp_path) == records(3, 1)
    assert read_records(tmp_path / "elsewhere") == []


def test_quiet_output_still_goes_into_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "new" / "run.log"
    with pytest.raises(InputError, match=r"does not exist"):
        Output(log=log)
    output = Output(quiet=True, log=log, folder=tmp_path / "new")
    output.line("before the folder is made")
    log.parent.mkdir()
    output.open_log()
    output.line("after")
    output.__exit__(RuntimeError, RuntimeError("broken"), None)
    assert capsys.readouterr().out == ""
    lines = log.read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["before the folder is made", "after", "error: broken"]


def test_a_log_that_cannot_be_written_is_refused_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "nowhere" / "log")
    reached = []
    with pytest.raises(InputError, match="cannot be written"), Output(log=tmp_path / "log", folder=tmp_path / "out"):
        reached.append("the work")
    assert not reached
    (tmp_path / "out").mkdir()
    with Output(log=tmp_path / "out" / ".." / "out" / "log", folder=tmp_path / "out") as output:
        assert not list((tmp_path / "out").iterdir()), "it must not fill the folder that has to be empty"
        output.open_log()
        assert (tmp_path / "out" / "log").exists()


def test_a_resumed_run_knows_its_generation_without_its_records(tmp_path: Path) -> None:
    monitor = Monitor(Output(), tmp_path, save=print, draw=print, done=4)
    assert (monitor.generation_done, monitor.records) == (4, [])
