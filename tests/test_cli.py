"""The command: what it writes, what it says, and how it ends.

What is written is tested inside this process, through files. Pipes, signals and terminals get a process of their own.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import framewire
from framewire import cli

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals, pipes and terminals")

PATIENCE = 60
"""Seconds after which a process that should have ended is a failure."""

EVERY_BYTE = [bytes([value]) for value in range(256)]
AWKWARD = [
    b"",
    b"\\",
    b"\\n",
    b"a\nb",
    b"\n",
    b"tab\t",
    b"\\\\x41",
    "é€".encode(),
    b"\x80\xff",
    b"\0",
    b"".join(EVERY_BYTE),
]


# Buffered output, as users have it: then what could not be written is only known when the process ends.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def start(*args: str | Path, **options: object) -> subprocess.Popen[bytes]:
    pipes = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE)
    options = {**pipes, "env": ENVIRONMENT, **options}
    return subprocess.Popen([sys.executable, "-m", "framewire", *map(str, args)], **options)  # type: ignore


def run(*args: str | Path, stdin: bytes = b"", **options: object) -> tuple[int, bytes, str]:
    """Status, output and complaints of a process."""
    with start(*args, **options) as process:
        output, complaints = process.communicate(stdin, timeout=PATIENCE)
    return process.returncode, output, complaints.decode().replace("\r\n", "\n")


Translate = Callable[..., tuple[int, bytes, str]]


@pytest.fixture
def translate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Translate:
    """Run a command on these bytes: status, output and complaints."""

    def translate(*args: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(stdin)
        status = cli.main([*args, "-o", str(target), str(source)])
        complaints = capsys.readouterr().err.replace(f"{source}: ", "")
        return status, target.read_bytes(), complaints

    return translate


def frames(payloads: list[bytes], spec: str = "ascii10") -> bytes:
    return framewire.Encoder(spec).encode_many(payloads)


# Lines to frames and back.


@pytest.mark.parametrize(
    "spec",
    [
        "ascii10",
        "ascii4-zero",
        "u8",
        "u32be",
        "u16le",
        "varint",
        "netstring",
        "lines",
        "crlf",
        "nul",
        "multiprocessing",
    ],
)
def test_lines_become_frames_and_lines_again(spec: str, translate: Translate) -> None:
    lines = b"hello\n\nwonderful world\n"
    status, encoded, complaints = translate("encode", "--format", spec, stdin=lines)
    assert (status, complaints) == (0, "")
    assert encoded == frames([b"hello", b"", b"wonderful world"], spec)
    assert translate("decode", "-f", spec, stdin=encoded) == (0, lines, "")


def test_a_frame_of_every_format_is_converted(translate: Translate) -> None:
    payloads = [b"", b"hello", b"x" * 200]
    for source in ["ascii10", "u24le", "varint32", "netstring", "nul"]:
        for target in ["ascii3-right", "u16be,adjust=2,offset=1", "varint", "crlf"]:
            got = translate("convert", "--from", source, "--to", target, stdin=frames(payloads, source))
            if "adjust=2" in target:  # cannot say that a payload is empty
                assert got == (1, b"", "framewire: frame 1: a payload of 0 bytes is shorter than adjust=2\n")
            else:
                assert got == (0, frames(payloads, target), "")


def test_the_last_line_may_lack_its_line_break(translate: Translate) -> None:
    assert translate("encode", stdin=b"one\ntwo") == (0, b"3         one3         two", "")
    assert translate("encode", stdin=b"one\n\n") == (0, b"3         one0         ", "")
    assert translate("encode", stdin=b"") == (0, b"", "")


def test_a_carriage_return_belongs_to_the_payload(translate: Translate) -> None:
    assert translate("encode", stdin=b"one\r\n") == (0, b"4         one\r", "")


@pytest.mark.parametrize("style", ["escape", "hex"])
@pytest.mark.parametrize("payloads", [EVERY_BYTE, AWKWARD, [b"plain", b"text"], [os.urandom(300) for _ in range(300)]])
def test_one_line_for_each_payload_and_back(style: str, payloads: list[bytes], translate: Translate) -> None:
    stream = frames(payloads, "u32be")
    status, lines, complaints = translate("decode", "-f", "u32be", "--as", style, stdin=stream)
    assert (status, complaints) == (0, "")
    assert lines.count(b"\n") == len(payloads)
    assert re.fullmatch(rb"[\x20-\x7e\n]*", lines)
    assert translate("encode", "-f", "u32be", "--as", style, stdin=lines) == (0, stream, "")


def test_text_writes_payloads_as_they_are_and_counts_the_line_breaks_in_them(translate: Translate) -> None:
    stream = frames([b"one\n", b"two", b"\n3\n\n", b"x" * 1000])
    status, lines, complaints = translate("decode", stdin=stream)
    assert (status, lines) == (0, b"one\n\ntwo\n\n3\n\n\n" + b"x" * 1000 + b"\n")
    assert complaints == "framewire: 2 payloads hold a line break; --as escape writes one line for each\n"
    status, lines, complaints = translate("decode", stdin=frames([b"x" * 1000 + b"\n"]))
    assert complaints == "framewire: 1 payload holds a line break; --as escape writes one line for each\n"


@pytest.mark.parametrize("line", [rb"\q", rb"\0", rb"\x4", rb"\x4g", "\\", r"\\" + "\\", rb"\N{DASH}", rb"\u0041"])
def test_what_is_no_escape_is_refused_with_its_line(line: bytes | str, translate: Translate) -> None:
    line = line if isinstance(line, bytes) else line.encode()
    status, output, complaints = translate("encode", "--as", "escape", stdin=rb"\x41" + b"\nab" + line + b"\nmore\n")
    assert (status, output) == (1, b"1         A")
    at = 4 if line == rb"\\" + b"\\" else 2
    assert complaints == (
        f"framewire: line 2: the backslash at byte {at} begins no escape; there are \\\\ \\t \\n \\r and \\xNN\n"
    )


def test_hexadecimal_digits_may_stand_apart(translate: Translate) -> None:
    assert translate("encode", "--as", "hex", stdin=b"48 65 6C6c 6f\r\n") == (0, b"5         Hello", "")
    for bad in [b"4", b"zz", "é".encode()]:
        status, output, complaints = translate("encode", "--as", "hex", stdin=b"41\n" + bad + b"\n")
        assert (status, output) == (1, b"1         A")
        assert complaints.startswith("framewire: line 2: ")
        assert complaints.endswith(" is not pairs of hexadecimal digits\n")


# What is wrong with the data: everything before it is written.


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_a_frame_cut_at_the_end_is_reported_with_its_offset(count: int, translate: Translate) -> None:
    whole = frames([b"hello"] * count)
    status, output, complaints = translate("decode", stdin=whole + b"12        wor")
    assert (status, output) == (1, b"hello\n" * count)
    assert complaints.startswith(
        f"framewire: the stream ended in the payload after 13 bytes, 9 more expected, in the frame at stream offset "
        f"{len(whole)}, which begins b'12        wor'"
    )
    assert complaints.count("\n") == 1
    status, output, complaints = translate("convert", "--from", "ascii10", "--to", "u8", stdin=whole + b"1")
    assert (status, output) == (1, b"\x05hello" * count)
    assert complaints.startswith("framewire: the stream ended in the header after 1 bytes, 9 more expected, in the")
    assert f" frame at stream offset {len(whole)}, which begins b'1'" in complaints


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_a_bad_header_is_reported_with_its_offset(count: int, translate: Translate) -> None:
    whole = frames([b"hello"] * count)
    status, output, complaints = translate("decode", stdin=whole + b"GET / HTTP/1.1\r\n" + whole)
    assert (status, output) == (1, b"hello\n" * count)
    assert f"in the frame at stream offset {len(whole)}," in complaints
    assert complaints.endswith("and looks like an HTTP request\n")
    assert complaints.count("\n") == 1


def test_payloads_before_one_that_cannot_be_written_are_written(translate: Translate) -> None:
    status, output, complaints = translate("encode", "-f", "u8", stdin=b"one\ntwo\n" + b"x" * 256 + b"\nfour\n")
    assert (status, output) == (1, b"\3one\3two")
    assert complaints == "framewire: line 3: size 256 is over the limit of 255 bytes\n"
    status, output, complaints = translate("encode", "-f", "fixed:3", stdin=b"one\ntwo\nthree\n")
    assert (status, output) == (1, b"onetwo")
    assert complaints == "framewire: line 3: a payload of FixedSize(size=3) has 3 bytes, not 5\n"
    status, output, complaints = translate("convert", "--from", "u8", "--to", "lines", stdin=b"\3one\2\n\n\1x")
    assert (status, output) == (1, b"one\n")
    assert complaints == "framewire: frame 2: the payload would be cut at byte 0, by a delimiter of Delimited(b'\\n')\n"


@pytest.mark.parametrize(("limit", "size"), [("100", 100), ("1K", 1024), ("1KiB", 1024), ("2k", 2048), ("1M", 2**20)])
def test_the_limit_holds_to_the_byte(limit: str, size: int, translate: Translate) -> None:
    exactly, over = b"x" * size, b"x" * (size + 1)
    option = ["--max-size", limit, "-f", "u32be"]
    assert translate("encode", *option, stdin=exactly) == (0, frames([exactly], "u32be"), "")
    assert translate("decode", *option, stdin=frames([exactly], "u32be")) == (0, exactly + b"\n", "")
    for style in ["escape", "hex"]:
        line = translate("decode", *option, "--as", style, stdin=frames([b"\0" * size], "u32be"))[1]
        assert translate("encode", *option, "--as", style, stdin=line) == (0, frames([b"\0" * size], "u32be"), "")
    status, output, complaints = translate("encode", *option, stdin=b"one\n" + over)
    assert (status, output) == (1, b"\0\0\0\3one")
    assert complaints == f"framewire: line 2 is over the limit of {size} bytes\n"
    for style, line in [("escape", b"\\x00"), ("hex", b"00")]:
        for count in [size + 1, 2 * size]:
            status, output, complaints = translate("encode", *option, "--as", style, stdin=b"\n" + line * count)
            assert (status, output) == (1, b"\0\0\0\0")
            assert complaints.startswith("framewire: line 2")
            assert complaints.endswith(f" is over the limit of {size} bytes\n")
    status, output, complaints = translate("decode", *option, stdin=frames([b"one", over], "u32be"))
    assert (status, output) == (1, b"one\n")
    assert f"size {size + 1} is over the limit of {size} bytes, in the frame at stream offset 7" in complaints


def test_no_limit_has_to_be_said(translate: Translate) -> None:
    large = b"x" * (17 * 2**20)
    status, encoded, _ = translate("encode", "--max-size", "none", stdin=large)
    assert (status, len(encoded)) == (0, 10 + len(large))
    status, output, complaints = translate("decode", stdin=encoded)
    assert (status, output) == (1, b"")
    assert "size 17825792 is over the limit of 16777216 bytes, in the frame at stream offset 0" in complaints
    assert translate("decode", "--max-size", "None", stdin=encoded)[0] == 0


# The command line.


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["decode", "-f", "u33be"], "no wire format is called 'u33be'; there are ascii10 ("),
        (["decode", "-f", "u32"], "'u32' needs a byte order: u32be or u32le"),
        (["decode", "--max-size", "12Q"], "'12Q' is not a number of bytes, such as 65536, 64K, 16M, 1G or none"),
        (["decode", "--max-size", "-1"], "'-1' is not a number of bytes"),
        (["decode", "--max-size", "9999999999G"], "9999999999G is over"),
        (["decode", "-f", "fixed:8", "--max-size", "4"], "max_size=4 is less than the size of every frame"),
        (["encode", "-f", "u32be,strip=0"], "cannot be written: nobody knows the bytes that strip=0 removed"),
        (["encode", "--as", "base64"], "invalid choice: 'base64'"),
        (["convert", "--to", "u8"], "the following arguments are required: --from"),
        (["stream", "watch", "localhost", "70000"], "argument PORT: 70000 is not from 1 to 65535"),
        (["stream", "watch", "localhost", "http"], "argument PORT: 'http' is not a number, from 1 to 65535"),
        (["stream", "watch", "localhost", "1", "--count", "0"], "argument --count: 0 is not 1 or more"),
        (["stream", "watch", "localhost", "1", "-f", "fixed:8", "--max-size", "4"], "max_size=4 is less than"),
        (["stream", "serve", "--every", "-1"], "argument --every: '-1' is not a number of seconds, 0 or more"),
        (["stream", "serve", "--every", "nan"], "argument --every: 'nan' is not a number of seconds, 0 or more"),
        (["stream", "serve", "--every", "1", "--burst"], "argument --burst: not allowed with argument --every"),
        (["stream", "serve", "-q", "-v"], "argument -v/--verbose: not allowed with argument -q/--quiet"),
        (["stream", "serve", "--limit", "1K"], "limit must be at least 65536 bytes, not 1024"),
        (["stream", "serve", "--limit", "none"], "argument --limit: there must be a limit"),
        (["stream", "serve", "-f", "fixed:8"], "a payload of FixedSize(size=8) has 8 bytes, not 22"),
        (["stream", "serve", "-f", "u32be,strip=0"], "cannot be written: nobody knows the bytes"),
        (["stream", "serve", "--key", "key"], "--key needs --cert"),
        (["stream"], "the following arguments are required: COMMAND"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_a_wrong_command_line_is_status_2(args: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(args)
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.err.startswith("usage: framewire")
    assert captured.out == ""


@pytest.mark.parametrize(
    "command",
    [
        [],
        *(["encode"], ["decode"], ["convert"], ["formats"], ["bench"]),
        *(["stream"], ["stream", "serve"], ["stream", "watch"]),
        *(["chat"], ["chat", "serve"], ["chat", "join"]),
    ],
)
def test_every_command_has_help(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: " + " ".join(["framewire", *command]))
    assert max(map(len, text.splitlines())) <= 80
    if command not in (["stream"], ["chat"], ["formats"]):
        assert "\nexamples:\n" in text


def test_the_version_says_which_core_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    text = capsys.readouterr().out
    assert text.startswith(f"framewire {framewire.__version__}, ")
    assert ("compiled core" in text) == (framewire.CORE == "c")
    status, output, _ = run("--version", env={**ENVIRONMENT, "FRAMEWIRE_CORE": "py"})
    assert status == 0
    assert b"pure-Python core (FRAMEWIRE_CORE=py asked for the pure core)" in output


def test_every_format_listed_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["formats"]) == 0
    listed = [re.split(r"  +", line)[0] for line in capsys.readouterr().out.splitlines()]
    names = [name for names in listed for name in re.split(r", | \.\.\. ", names)]
    kinds = {type(framewire.parse_spec(name)) for name in names}
    assert kinds == set(framewire.Spec.__subclasses__())


def test_the_installed_command_is_this_one() -> None:
    script = Path(sysconfig.get_path("scripts"), "framewire.exe" if os.name == "nt" else "framewire")
    if not script.exists():
        pytest.skip("run from the sources: no command is installed")
    done = subprocess.run([script, "encode"], input=b"hello\n", capture_output=True, timeout=PATIENCE, check=True)
    assert done.stdout == b"5         hello"


# Files.


def test_each_file_is_a_stream_of_its_own(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(frames([b"one"]) + b"5")
    two.write_bytes(frames([b"two"]) + b"7      ")
    missing = tmp_path / "missing"
    status, output, complaints = run("decode", one, missing, "-", two, stdin=frames([b"three"]))
    assert (status, output) == (1, b"one\nthree\ntwo\n")
    told = complaints.splitlines()
    assert told[0].startswith(f"framewire: {one}: the stream ended in the header after 1 bytes")
    assert told[1] == f"framewire: {missing}: No such file or directory"
    assert told[2].startswith(f"framewire: {two}: the stream ended in the header after 7 bytes")
    assert len(told) == 3


def test_a_misspelt_input_leaves_an_old_output_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"precious")
    assert cli.main(["decode", str(tmp_path / "missing"), "-o", str(old)]) == 1
    assert old.read_bytes() == b"precious"
    assert "No such file or directory" in capsys.readouterr().err


def test_a_file_is_not_written_over_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"precious")
    with pytest.raises(SystemExit) as ended:
        cli.main(["encode", str(file), "--output", str(file)])
    assert ended.value.code == 2
    assert file.read_bytes() == b"precious"
    assert "is an input and the output" in capsys.readouterr().err


def test_an_output_that_cannot_be_opened_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    target = tmp_path / "no" / "such" / "file"
    assert cli.main(["encode", str(file), "-o", str(target)]) == 1
    assert capsys.readouterr().err == f"framewire: {target}: No such file or directory\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("args", [["encode"], ["formats"], ["--help"], ["--version"]])
def test_a_full_disk_is_reported(args: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        status, _, complaints = run(*args, stdin=b"hello\n", stdout=full)
    assert (status, complaints) == (1, "framewire: standard output: No space left on device\n")


# Pipes, signals, terminals.


def test_a_long_stream_goes_through_a_chain_of_pipes() -> None:
    lines = b"".join(b"%d %s\n" % (i, b"x" * (i % 100)) for i in range(200_000))  # 11 MB
    with (
        start("encode") as encode,
        start("convert", "--from", "ascii10", "--to", "varint", stdin=encode.stdout) as (convert),
        start("decode", "-f", "varint", stdin=convert.stdout) as decode,
    ):
        assert encode.stdin
        assert decode.stdout
        feeder = threading.Thread(target=lambda: (encode.stdin.write(lines), encode.stdin.close()))  # type: ignore
        feeder.start()
        assert decode.stdout.read() == lines
        feeder.join(PATIENCE)
    assert (encode.returncode, convert.returncode, decode.returncode) == (0, 0, 0)


@posix
def test_messages_are_written_as_they_come() -> None:
    with start("decode") as process:
        assert process.stdin
        assert process.stdout
        for message in [b"one", b"two"]:
            process.stdin.write(frames([message]))
            process.stdin.flush()
            assert process.stdout.readline() == message + b"\n"
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


@posix
@pytest.mark.parametrize(
    "args", [["encode"], ["decode", "-f", "fixed:3"], ["convert", "--from", "lines", "--to", "u8"]]
)
def test_a_broken_pipe_ends_it_quietly(args: list[str], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"hello\n" * 500_000)
    with start(*args, source) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == 141


@posix
def test_a_broken_pipe_is_quiet_for_help_too() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for args in [["--help"], ["--version"], ["formats"]]:
        status, _, complaints = run(*args, stdout=writing)
        assert (status, complaints) == (141, "")
    os.close(writing)


@posix
@pytest.mark.parametrize("args", [["encode"], ["decode", "-f", "lines"], ["convert", "--from", "lines", "--to", "u8"]])
def test_ctrl_c_ends_it_quietly(args: list[str]) -> None:
    with start(*args) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert b"hello" in process.stdout.read1()
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, complaints) == (130, b"")


@posix
def test_non_blocking_pipes_are_waited_for() -> None:
    lines = b"hello\n" * 100_000
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    got: list[bytes] = []
    with start("encode", stdout=writing) as process, open(reading, "rb") as output:
        assert process.stdin
        os.close(writing)
        os.set_blocking(process.stdin.fileno(), True)
        reader = threading.Thread(target=lambda: (time.sleep(0.3), got.append(output.read())))
        reader.start()
        process.stdin.write(lines)
        process.stdin.close()
        reader.join(PATIENCE)
    assert process.returncode == 0
    assert got == [frames([b"hello"] * 100_000)]


@posix
def test_a_closed_standard_output_is_reported() -> None:
    with start("encode", preexec_fn=lambda: os.close(1)) as process:
        _, complaints = process.communicate(b"hello\n", timeout=PATIENCE)
    assert (process.returncode, complaints) == (1, b"framewire: standard output: Bad file descriptor\n")


def on_terminal(process_output: int, *args: str | Path) -> tuple[str, float]:
    """What a process shows on a terminal as its standard error, and for how long it ran."""
    pty = pytest.importorskip("pty")
    try:
        main_end, process_end = pty.openpty()
    except OSError as error:  # a container without /dev/pts
        pytest.skip(f"no pseudo-terminal: {error}")
    shown = b""
    started = time.monotonic()
    with start(*args, stdout=process_output, stderr=process_end) as process:
        os.close(process_end)
        if process.stdout:
            process.stdout.read(1)
            time.sleep(0.3)  # the process waits, for the pipe is full
            process.stdout.read()
        while True:
            try:
                data = os.read(main_end, 4096)
            except OSError:  # Linux: the other end is closed
                break
            if not data:
                break
            shown += data
        process.wait(PATIENCE)
    os.close(main_end)
    assert process.returncode == 0
    return shown.decode(), time.monotonic() - started


@posix
def test_a_large_file_shows_its_progress_on_a_terminal(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes((b"x" * 255 + b"\n") * (40 * 2**12))  # 40 MiB
    shown, seconds = on_terminal(subprocess.PIPE, "encode", large)
    lines = shown.split("\r")
    assert lines[0] == ""
    assert lines[-1] == ""  # the cursor is back
    assert lines[-2].isspace()  # over a line that is erased
    updates = lines[1:-2]
    assert 1 <= len(updates) <= 10 * seconds + 1
    numbers = [re.fullmatch(r" *(\d+) %  [\d,]+ MB/s  [\d,]+ frames *", update) for update in updates]
    percents = [int(match[1]) for match in numbers if match]
    assert len(percents) == len(updates)
    assert percents == sorted(percents)
    assert percents[-1] <= 100


@posix
def test_a_small_file_shows_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"hello world\n" * 1000)
    assert on_terminal(subprocess.DEVNULL, "encode", small)[0] == ""


# A server.


@contextmanager
def server(*pieces: bytes, hang_up: bool = True) -> Iterator[str]:
    """A server that sends these pieces to one client; its port."""

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            for piece in pieces:
                client.sendall(piece)
            if not hang_up:
                client.settimeout(PATIENCE)
                client.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield str(listener.getsockname()[1])
        thread.join(PATIENCE)


HELLO = b"22        Welcome to the server!"


def test_watch_prints_the_messages_of_a_server() -> None:
    with server(HELLO + b"5         ", b"one", b"\nx2         no") as port:
        status, output, complaints = run(
            "stream", "watch", "--no-reconnect", "127.0.0.1", port, "--as", "escape", "--read-size", "3"
        )
    assert (status, output, complaints) == (0, b"Welcome to the server!\none\\nx\nno\n", "")


def test_watch_ends_after_count_messages() -> None:
    with server(HELLO * 10, hang_up=False) as port:
        status, output, complaints = run("stream", "watch", "127.0.0.1", port, "--count", "3")
    assert (status, output, complaints) == (0, b"Welcome to the server!\n" * 3, "")


def test_watch_reports_a_frame_cut_short() -> None:
    with server(HELLO + b"5         one") as port:
        status, output, complaints = run("stream", "watch", "--no-reconnect", "127.0.0.1", port)
    assert (status, output) == (1, b"Welcome to the server!\n")
    assert complaints.startswith(
        f"framewire: 127.0.0.1:{port}: the stream ended in the payload after 13 bytes, 2 more expected, "
        "in the frame at stream offset 32"
    )


def test_watch_reports_another_protocol() -> None:
    with server(HELLO + b"HTTP/1.1 400 Bad Request\r\n") as port:
        status, output, complaints = run("stream", "watch", "--no-reconnect", "127.0.0.1", port)
    assert (status, output) == (1, b"Welcome to the server!\n")
    assert complaints.endswith("and looks like an HTTP response\n")


def test_watch_says_why_it_cannot_connect() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        port = unused.getsockname()[1]
        status, output, complaints = run("stream", "watch", "--no-reconnect", "127.0.0.1", str(port))
    assert (status, output) == (1, b"")
    assert complaints.startswith(f"framewire: cannot connect to 127.0.0.1:{port}: ")
    assert complaints.count("\n") == 1
    status, output, complaints = run("stream", "watch", "a..b", "1")  # no name that could ever be one
    assert status == 1
    assert complaints.startswith("framewire: cannot connect to a..b:1: ")


@posix
def test_ctrl_c_ends_watch_quietly() -> None:
    with server(HELLO, hang_up=False) as port, start("stream", "watch", "127.0.0.1", port) as process:
        assert process.stdout
        assert process.stdout.readline() == b"Welcome to the server!\n"
        process.send_signal(signal.SIGINT)
        output, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, complaints) == (130, b"", b"")
