"""``framewire bench``: that its rivals agree, that its harness counts right, and what it shows. No time is asserted."""

from __future__ import annotations

import gc
import io
import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import CORES

import framewire
from framewire import cli
from framewire.benchmark import comparison, decoding, measure, plot, progress, table
from framewire.benchmark.contest import COMPILED, FLOOR, PURE, Contest, Disagreement, Take
from framewire.benchmark.libraries import absent, library
from framewire.benchmark.results import Report, Result
from framewire.benchmark.workloads import Workload, workloads

OURS = [COMPILED, PURE] if framewire.CORE == "c" else [PURE]
PEERS = [name for name in ("Twisted", "msgpack", "hiredis") if library(name)]

SMALL = [
    *(Workload("decode", size, 40, chunk_size) for size in (1, 3, 255, 256) for chunk_size in (7, 64 * 1024)),
    *(Workload("decode", 70_000, 3, chunk_size) for chunk_size in (1460, 64 * 1024)),
    *(Workload("encode", size, 40) for size in (1, 255, 256, 70_000)),
    *(Workload("reassembly", size, 5, chunk_size) for size in (1, 64, 5000) for chunk_size in (1, 7, 1460)),
    Workload("echo", 64, 3),
    Workload("echo", 4096, 3),
]


def contest(workload: Workload) -> Contest:
    return measure.MAKERS[workload.task](workload)


# The rivals.


@pytest.mark.parametrize("workload", SMALL, ids=str)
def test_all_rivals_agree(workload: Workload) -> None:
    with contest(workload) as it:
        it.check()
        assert list(it.runs)[: 1 + len(OURS)] == [FLOOR, *OURS]


def test_whoever_is_installed_runs() -> None:
    hand = {FLOOR, *OURS, "tutorial's loop", "struct and slices"}
    echoing = {"FramedSocket", "framewire.aio", "asyncio streams", "multiprocessing"} - set(absent())
    wanted = {
        "decode": hand | {"asyncio streams"} | set(PEERS),
        "reassembly": hand | {"asyncio streams"} | set(PEERS),
        "encode": hand | set(PEERS) - {"hiredis"},
        "echo": hand | echoing | set(PEERS) - {"hiredis", "Twisted"},
    }
    for workload in SMALL:
        with contest(workload) as it:
            assert set(it.runs) == wanted[workload.task], workload


ALTERATIONS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a payload is missing": lambda made: made[:-1],
    "a payload is doubled": lambda made: [*made, made[-1]],
    "a bit is wrong": lambda made: [*made[:-1], made[-1][:-1] + bytes([made[-1][-1] ^ 1])],
    "two are one": lambda made: [made[0] + made[1], *made[2:]] if len(made) > 1 else [],
    "none": lambda made: [],
}


@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS)
@pytest.mark.parametrize("workload", [SMALL[0], SMALL[10], SMALL[14], SMALL[-1]], ids=str)
def test_a_rival_that_gives_anything_else_is_named(
    workload: Workload, alter: Callable[[list[bytes]], list[bytes]]
) -> None:
    with contest(workload) as it:
        for name, run in it.runs.items():

            def wrong(take: Take, run: Any = run) -> None:
                made: list[bytes] = []
                run(made.extend)
                take(alter(made))

            other = Contest(workload)
            other.add("right", it.runs[FLOOR], it.expected[FLOOR])
            other.add(name, wrong, it.expected[name])
            with pytest.raises(Disagreement, match=re.escape(f"{workload.task}, {workload.label}: {name} gives")):
                other.check()


def test_the_workloads_are_those_that_the_command_promises() -> None:
    for quick in (False, True):
        labels = [(workload.task, workload.label) for workload in workloads(quick=quick)]
        assert len(labels) == len(set(labels))
        assert {("reassembly", "1 MiB by 1,460"), ("reassembly", "64 B by 7")} <= set(labels)
        assert {task for task, _ in labels} == set(measure.MAKERS) == set(table.TITLES)
    sizes = [workload.size for workload in workloads() if workload.task == "decode"]
    assert (min(sizes), max(sizes)) == (8, 2**20)
    assert all(len(workload.payloads()) == workload.count for workload in SMALL)


# The harness, by a clock that only its rivals move.


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000
        self.log: list[str] = []

    def __call__(self) -> int:
        return self.now

    def rival(self, name: str, cost: int) -> Callable[[Take], None]:
        def run(take: Take) -> None:
            self.log.append(name)
            self.now += cost
            take([b"x"])

        return run


def fake_contest(clock: FakeClock, **costs: int) -> Contest:
    it = Contest(Workload("decode", 32, 10))
    for name, cost in costs.items():
        it.add(name, clock.rival(name, cost), [b"x"])
    return it


def test_a_time_is_that_of_one_message() -> None:
    clock = FakeClock()
    times = measure.measure(fake_contest(clock, slow=7_000_000, fast=10_000), clock.now, clock=clock)
    assert times == {"slow": [700_000] * 3, "fast": [1_000] * 3}


def test_a_fast_rival_runs_until_its_turn_is_long_enough() -> None:
    clock = FakeClock()
    measure.measure(fake_contest(clock, slow=7_000_000, fast=10_000), clock.now, clock=clock)
    assert clock.log.count("slow") == 1 + 3  # one to see how long it takes
    assert clock.log.count("fast") == 1 + 3 * measure.TURN // 10_000


def test_all_run_in_every_round_and_in_changing_order() -> None:
    clock = FakeClock()
    costs = dict.fromkeys("abcde", measure.TURN)
    measure.measure(fake_contest(clock, **costs), clock.now + 20 * 5 * measure.TURN, clock=clock)
    turns = clock.log[5:]
    rounds = ["".join(turns[at : at + 5]) for at in range(0, len(turns), 5)]
    assert {"".join(sorted(one)) for one in rounds} == {"abcde"}
    assert len(set(rounds)) > len(rounds) // 2


@pytest.mark.parametrize(("turns", "rounds"), [(-5, 3), (0, 3), (2, 3), (12, 5), (10**9, measure.MOST_ROUNDS)])
def test_rounds_go_on_until_the_time_is_up(turns: int, rounds: int) -> None:
    clock = FakeClock()
    it = fake_contest(clock, one=measure.TURN, other=measure.TURN)
    times = measure.measure(it, clock.now + turns * measure.TURN, clock=clock)  # the first two are for their length
    assert {name: len(found) for name, found in times.items()} == {"one": rounds, "other": rounds}


def test_a_clock_that_stands_still_is_survived() -> None:
    times = measure.measure(fake_contest(FakeClock(), one=0), 0, clock=lambda: 5)
    assert set(times["one"]) == {0.0}
    assert Result.of(Workload("decode", 32, 10), "one", times["one"]).speed > 0


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_off_while_a_contest_lasts_and_then_as_it_was(enabled: bool) -> None:
    seen = []
    it = Contest(Workload("decode", 32, 10))
    it.add("one", lambda take: seen.append(gc.isenabled()), [])
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        measure.measure(it, 0, clock=lambda: 0)
        assert gc.isenabled() is enabled
        assert set(seen[1:]) == {False}

        def fail(take: Take) -> None:
            raise KeyboardInterrupt

        failing = fake_contest(FakeClock(), one=1)
        with pytest.raises(KeyboardInterrupt), measure.no_garbage_collection():
            fail(len)
        assert gc.isenabled() is enabled
        failing.check()
    finally:
        (gc.enable if was else gc.disable)()


def bench_with(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, works: list[Workload], make: Callable[[Workload], Contest]
) -> None:
    monkeypatch.setattr(measure, "MAKERS", {workload.task: make for workload in works})


def test_the_time_is_shared_among_the_workloads(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    works = [Workload("decode", 32, 10), Workload("encode", 32, 10), Workload("echo", 64, 10)]
    bench_with(monkeypatch, clock, works, lambda workload: fake_contest(clock, one=measure.TURN))
    shown: list[tuple[str, float]] = []
    begin = clock.now
    results = list(measure.bench(works, 0.3, show=lambda *told: shown.append(told), clock=clock))
    assert 0.29e9 < clock.now - begin < 0.31e9
    assert [result.task for result in results] == ["decode", "encode", "echo"]
    assert all(abs(result.rounds - 0.1e9 / measure.TURN) < 3 for result in results)
    shares = [share for _, share in shown]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1
    assert {what for what, _ in shown} >= {"comparing: echo", "echo 64 B"}


def test_results_are_compared_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    works = [Workload("decode", 32, 10), Workload("echo", 64, 10)]

    def make(workload: Workload) -> Contest:
        it = fake_contest(clock, one=1, other=1)
        if workload.task == "echo":
            it.expected["other"] = [b"y"]
        return it

    bench_with(monkeypatch, clock, works, make)
    with pytest.raises(Disagreement, match="other gives another result"):
        next(measure.bench(works, 1.0, clock=clock))
    assert clock.log == ["one", "other"] * 2  # once each: nothing was measured


# What is shown.


def report(*, names: list[str] | None = None, **about: str) -> Report:
    """Of all workloads, with the numbers that chance gives."""
    rng = random.Random(5)
    names = names or [
        FLOOR,
        COMPILED,
        PURE,
        "tutorial's loop",
        "struct and slices",
        "asyncio streams",
        "multiprocessing",
    ]
    results = []
    for workload in workloads():
        for name in names:
            median = workload.size * rng.choice([0.03, 1, 300])
            results.append(Result.of(workload, name, [median * rng.uniform(0.95, 1.05) for _ in range(9)]))
    setting = {"framewire": "1.2.3", "core": "compiled core", "python": "CPython 3.11.7", "machine": "M x 2", **about}
    return Report(setting, results)


def test_a_result_has_the_quartiles_and_the_speed() -> None:
    result = Result.of(Workload("decode", 1000, 10), "one", [50.0, 10.0, 30.0, 20.0, 40.0])
    assert (result.least, result.quartile, result.median, result.upper_quartile) == (10, 20, 30, 40)
    assert (result.rounds, result.label) == (5, "1000 B")
    assert result.speed == pytest.approx(1000 / 30e-9 / 1e6)  # MB/s
    echo = Result.of(Workload("echo", 64, 10), "one", [8000.0] * 3)
    assert echo.speed == pytest.approx(125_000)  # round trips a second


def test_a_report_survives_json() -> None:
    before = report()
    assert Report.from_json(before.to_json()) == before


BROKEN = {
    "no JSON": lambda d: "{",
    "a list": lambda d: "[1]",
    "a number": lambda d: "5",
    "nothing": lambda d: "{}",
    "another format": lambda d: json.dumps({**d, "format": 99}),
    "no results": lambda d: json.dumps({**d, "results": 5}),
    "a text as a time": lambda d: json.dumps({**d, "results": [{**d["results"][0], "median": "5"}]}),
    "no time": lambda d: json.dumps({**d, "results": [{**d["results"][0], "median": float("nan")}]}),
    "an endless time": lambda d: json.dumps({**d, "results": [{**d["results"][0], "median": float("inf")}]}),
    "a list as a name": lambda d: json.dumps({**d, "results": [{**d["results"][0], "rival": []}]}),
    "a field too many": lambda d: json.dumps({**d, "results": [{**d["results"][0], "more": 5}]}),
    "a field too few": lambda d: json.dumps({**d, "results": [{"task": "decode"}]}),
    "no setting": lambda d: json.dumps({**d, "setting": 5}),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_what_is_no_report_is_refused(spoil: Callable[[dict[str, Any]], str]) -> None:
    with pytest.raises(ValueError, match="report"):
        Report.from_json(spoil(json.loads(report().to_json())))


LONG = "A Processor With A Name That Goes On, And On, And On (R) (TM) 5999X @ 2.99 GHz with 96 cores x 192"


def test_tables_fit_a_terminal_and_name_what_they_depend_on() -> None:
    text = table.render(report(machine=LONG, **{"not installed": "hiredis"}))
    assert max(map(len, text.splitlines())) <= 80
    for word in ["1.2.3", "CPython 3.11.7", "compiled core", "hiredis", "Medians of 9 rounds", "garbage collector off"]:
        assert word in text
    assert LONG.split() == " ".join(line for line in text.splitlines()[3:6]).split()[1 : 1 + len(LONG.split())]


def test_a_table_has_speeds_and_ratios() -> None:
    workload = Workload("decode", 1000, 10)
    times = {FLOOR: 10.0, COMPILED: 20.0, PURE: 250.0}
    one = Report({}, [Result.of(workload, name, [time] * 3) for name, time in times.items()])
    lines = [line.split() for line in table.render(one).splitlines()]
    assert [*FLOOR.split(), "100,000"] in lines  # MB/s
    assert [*COMPILED.split(), "50,000"] in lines
    assert [*FLOOR.split(), "0.500"] in lines
    assert [*PURE.split(), "12.5"] in lines


def test_who_did_not_run_is_a_dash() -> None:
    works = [Workload("decode", 32, 10), Workload("decode", 64, 10)]
    one = Report({}, [Result.of(works[0], PURE, [5.0] * 3), Result.of(works[1], FLOOR, [5.0] * 3)])
    assert re.search(r"^pure core +6,400 +-$", table.render(one), re.MULTILINE)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.0, "1.00"),
        (9.996, "10.0"),
        (123.4, "123"),
        (999.9, "1,000"),
        (12345, "12,300"),
    ],
)
def test_a_number_has_three_digits(value: float, text: str) -> None:
    assert table.number(value) == text


# Comparison.


def test_what_is_twice_as_fast_now_is_told_with_its_noise() -> None:
    workload = Workload("decode", 32, 10)
    times = [90.0, 100.0, 100.0, 100.0, 110.0]
    old = Report({"when": "then"}, [Result.of(workload, PURE, times), Result.of(workload, FLOOR, times)])
    now = [
        Result.of(workload, PURE, [time / 2 for time in times]),
        Result.of(workload, FLOOR, [85.0, 95, 101, 110, 120]),
    ]
    text = comparison.compare(old, Report({"when": "now"}, now))
    assert re.search(r"^pure core +2\.00\*\n +\+-0%$", text, re.MULTILINE)
    assert re.search(r"^floor +0\.990\n +\+-8%$", text, re.MULTILINE)
    assert "(1 of 2)" in " ".join(text.split())
    assert "not the same" not in text


def test_the_same_report_twice_has_no_star() -> None:
    text = comparison.compare(report(), report())
    assert "(0 of 126)" in " ".join(text.split())
    assert "*" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("1.00") == 126


def test_noise_beyond_all_measure_keeps_to_its_column() -> None:
    workload = Workload("decode", 32, 10)
    one = Report({}, [Result.of(workload, PURE, [1.0, 100.0, 10_000.0])])
    assert re.search(r"^ +\+->999%$", comparison.compare(one, one), re.MULTILINE)


def test_other_machines_and_versions_are_told() -> None:
    old = report(machine="A x 2", peers="msgpack 1.0.0", when="Monday", load="0.1")
    text = comparison.compare(old, report(machine=LONG, peers="msgpack 1.1.0", when="Tuesday", load="7.0"))
    told = " ".join(text.split())
    assert f"not the same machine: A x 2 then, {LONG} now" in told
    assert "not the same peers: msgpack 1.0.0 then, msgpack 1.1.0 now" in told
    assert told.count("not the same") == 2
    assert "then: Monday now: Tuesday" in told
    assert max(map(len, text.splitlines())) <= 80


def test_reports_with_nothing_in_common_are_compared_too() -> None:
    old = Report({}, [Result.of(Workload("decode", 48, 10), PURE, [5.0] * 3)])
    assert "Nothing is in both" in comparison.compare(old, report())
    assert "Nothing is in both" in comparison.compare(Report({}, []), Report({}, []))


# The plot.

SVG = "{http://www.w3.org/2000/svg}"


def drawn(one: Report) -> ElementTree.Element:
    return ElementTree.fromstring(plot.plot(one))


def test_the_plot_has_a_line_for_each_rival_and_its_name_beside_it() -> None:
    one = report()
    picture = drawn(one)
    groups = [group for group in picture.iter(f"{SVG}g") if "rival" in group.get("class", "").split()]
    assert sorted(group.findtext(f"{SVG}text", "") for group in groups) == sorted(one.rivals("decode"))
    for group in groups:
        (line,) = (path for path in group.iter(f"{SVG}path") if path.get("class") == "line")
        points = re.findall(r"[ML]([\d.]+) ([\d.]+)", line.get("d", ""))
        assert len(points) == len(one.labels("decode")) == len(list(group.iter(f"{SVG}circle")))
        across = [float(x) for x, _ in points]
        assert across == sorted(set(across))
        assert (across[0], across[-1]) == (plot.LEFT, plot.WIDTH - plot.RIGHT)
        assert all(plot.TOP <= float(y) <= plot.HEIGHT - plot.BOTTOM for _, y in points)


def test_the_scales_are_logarithmic() -> None:
    workload = Workload("decode", 100, 10)
    results = [Result.of(workload, str(time), [time] * 3) for time in (10_000.0, 1_000.0, 100.0)]  # 10 to 1,000 MB/s
    heights = [float(dot.get("cy", "")) for dot in drawn(Report({}, results)).iter(f"{SVG}circle")]
    assert heights[0] > heights[1] > heights[2]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2])


@pytest.mark.parametrize("same", [True, False])
def test_names_do_not_overlap_nor_leave_the_picture(same: bool) -> None:
    names = [f"rival {number}" for number in range(15)]
    one = report(names=names)
    if same:
        one = Report(one.setting, [Result(**{**vars(result), "median": 100.0}) for result in one.results])
    texts = [text for group in drawn(one).iter(f"{SVG}g") for text in group.iter(f"{SVG}text")]
    heights = sorted(float(text.get("y", "")) for text in texts)
    assert len(heights) == len(names)
    assert all(below - above >= plot.LINE - 0.2 for above, below in itertools.pairwise(heights))
    assert heights[0] > plot.TOP - plot.LINE
    assert heights[-1] < plot.HEIGHT - plot.BOTTOM + plot.LINE


def test_names_that_fit_stay_where_they_are() -> None:
    assert plot.spread([300.0, 200.0, 250.0]) == [300.0, 200.0, 250.0]
    assert plot.spread([300.0, 300.0]) == [300 - plot.LINE / 2, 300 + plot.LINE / 2]


def test_the_plot_is_well_formed_whatever_the_machine_is_called() -> None:
    picture = drawn(report(machine="<&\"'> é " * 50, peers="none"))
    texts = [text.text or "" for text in picture.iter(f"{SVG}text")]
    assert any("<&\"'>" in text for text in texts)
    assert all(len(text) <= 118 for text in texts)


def test_the_plot_tells_its_numbers_to_those_who_cannot_see_it() -> None:
    told = drawn(report()).findtext(f"{SVG}desc", "")
    assert "struct and slices: " in told
    assert told.count("MB/s at 1 MiB") == 7


def test_one_size_is_a_picture_too() -> None:
    assert drawn(Report({}, [Result.of(Workload("decode", 32, 10), PURE, [5.0] * 3)])).findtext(f"{SVG}title")
    with pytest.raises(ValueError, match="nothing about decoding"):
        plot.plot(Report({}, []))


@pytest.mark.parametrize(
    ("decade", "text"),
    [(-1, "100 kB/s"), (0, "1 MB/s"), (2, "100 MB/s"), (3, "1 GB/s"), (5, "100 GB/s"), (-4, "100 B/s")],
)
def test_a_speed_has_its_unit(decade: int, text: str) -> None:
    assert plot.speed_text(decade) == text


# The command.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_and_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    with progress.Progress() as it:
        it.show("decode 32 B", 0.0)
        it.show("encode 1 KiB", 0.5)
    written = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "decode 32 B" in written
    assert f"[{'#' * 12}{'-' * 12}]  50 %" in written
    assert re.search(r"\r +\r$", written)


@pytest.mark.parametrize("stderr", [io.StringIO(), None])
def test_no_progress_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO | None) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress.Progress() as it:
        it.show("decode 32 B", 0.0)
    assert stderr is None or stderr.getvalue() == ""


HIDDEN = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("twisted", "msgpack", "hiredis"):
            raise ModuleNotFoundError(f"{name} is hidden", name=name)
sys.meta_path.insert(0, Hide())
from framewire.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("core", CORES)
def test_it_runs_with_nothing_else_installed(core: str, tmp_path: Path) -> None:
    environment = {**os.environ, "FRAMEWIRE_CORE": core, "PYTHONPATH": str(Path(framewire.__file__).parent.parent)}
    command = [sys.executable, "-S", "-W", "error", "-c", HIDDEN, "bench", "--quick", "--seconds", "0"]
    done = subprocess.run(
        [*command, "--json", "new.json", "--plot", "new.svg"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stderr) == (0, "")
    made = Report.from_json((tmp_path / "new.json").read_text("utf-8"))
    ours = [COMPILED, PURE] if core == "c" else [PURE]
    assert made.rivals("decode") == [FLOOR, *ours, "tutorial's loop", "struct and slices", "asyncio streams"]
    assert made.setting["not installed"].startswith("Twisted, msgpack, hiredis")
    assert made.setting["run"] == "0 s, quick"
    assert done.stdout == table.render(made)
    ElementTree.parse(tmp_path / "new.svg")


def call(*args: str) -> int:
    return cli.main(["bench", "--quick", "--seconds", "0", *args])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Report:
    """What the command is made to believe that it has measured."""
    one = report()
    monkeypatch.setattr(measure, "bench", lambda works, seconds, *, show: one.results)
    return one


def test_json_can_go_to_standard_output(measured: Report, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--json", "-") == 0
    output = capsys.readouterr()
    assert Report.from_json(output.out).results == measured.results
    assert table.TITLES["decode"] in output.err


def test_two_runs_are_compared(measured: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "old.json")
    assert call("--json", path) == 0
    assert call("--compare", path, "--json", path) == 0  # read before it is written
    assert "(0 of 126)" in " ".join(capsys.readouterr().out.split())


def test_a_rival_that_is_wrong_ends_it_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decoding.StructAndSlices, "feed", lambda self, chunk: [chunk])
    assert call() == 1
    complaint = "framewire: decode, 32 B: struct and slices gives another result than it should; nothing is measured\n"
    assert capsys.readouterr() == ("", complaint)


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"{}"])
def test_a_bad_file_to_compare_with_is_told_before_the_minute(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("it measured")

    monkeypatch.setattr(measure, "bench", never)
    path = tmp_path / "old.json"
    if content is not None:
        path.write_bytes(content)
    assert call("--compare", str(path)) == 1
    assert capsys.readouterr().err.startswith(f"framewire: {path}: ")


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_what_cannot_be_written_is_told_after_the_tables(
    option: str, measured: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nowhere" / "file"
    assert call(option, str(path)) == 1
    output = capsys.readouterr()
    assert table.TITLES["echo"] in output.out
    assert output.err == f"framewire: {path}: No such file or directory\n"


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_an_interrupt_ends_it_quietly() -> None:
    code = (
        "import signal, sys\n"
        "from framewire.benchmark import decoding\n"
        "from framewire.cli import main\n"
        "read = decoding.read\n"
        "def interrupt(payloads):\n"
        "    signal.raise_signal(signal.SIGINT)\n"  # while the reader waits for more
        "decoding.read = lambda chunks, take: read(chunks, interrupt)\n"
        "sys.exit(main(['bench', '--quick', '--seconds', '0']))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(framewire.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-X", "dev", "-c", code], env=environment, capture_output=True, timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
