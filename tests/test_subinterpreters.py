"""Subinterpreters: where the compiled core does not load, the pure one takes over without a word.

Each test is a Python of its own, since what could go wrong would take the whole process along.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from conftest import EXPECT

HAS_INTERPRETERS = any(map(importlib.util.find_spec, ("_interpreters", "_xxsubinterpreters")))
pytestmark = pytest.mark.skipif(not HAS_INTERPRETERS, reason="this Python has no subinterpreters")

kinds = pytest.mark.parametrize("kind", ["isolated", "legacy"])

# What differs from version to version, and the two checks.
PRELUDE = """
import sys
try:
    import _interpreters
    class Interpreter:
        def __init__(self, kind):
            self.id = _interpreters.create(kind)
        def run(self, code):
            failed = _interpreters.exec(self.id, code)
            assert failed is None, failed.errdisplay
        def close(self):
            _interpreters.destroy(self.id)
except ImportError:
    import _xxsubinterpreters
    class Interpreter:
        def __init__(self, kind):
            self.id = _xxsubinterpreters.create(isolated=kind == "isolated")
        def run(self, code):
            failed = _xxsubinterpreters.run_string(self.id, code)  # before 3.13 it raises
            assert failed is None, failed
        def close(self):
            _xxsubinterpreters.destroy(self.id)

WORKS = '''
import warnings
warnings.simplefilter("error")
import framewire
assert (framewire.CORE == "py") is (framewire.CORE_ERROR is not None)
decoder = framewire.Decoder("ascii10")
assert decoder.feed(b"5         hello6         wor") == [b"hello"]
assert decoder.feed_spans(b"ld!").tolist() == [b"world!"]
assert framewire.Encoder("u16be").encode_many([b"a", b"bc"]) == b"\\\\0\\\\1a\\\\0\\\\2bc"
try:
    decoder.feed(b"nonsense..")
except framewire.HeaderError as error:
    assert error.offset == 31, error.offset
else:
    raise AssertionError("not refused")
'''

FALLS_BACK = WORKS + '''
assert framewire.CORE == "py"
if "COMPILED":
    assert "nterpreter" in framewire.CORE_ERROR, framewire.CORE_ERROR
'''.replace("COMPILED", COMPILED)

def once(kind, code):
    interpreter = Interpreter(kind)
    try:
        interpreter.run(code)
    finally:
        interpreter.close()

def main_works():
    exec(WORKS, {})
    assert framewire.CORE == ("c" if COMPILED else "py"), framewire.CORE_ERROR

"""


def python(code: str) -> None:
    """Run the code in a Python of its own, where every warning is an error; it must end well, and say nothing."""
    compiled = "yes" if EXPECT == "compiled" else ""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", f"COMPILED = {compiled!r}\n{PRELUDE}{code}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


@kinds
def test_a_subinterpreter_falls_back_without_a_warning_and_says_why(kind: str) -> None:
    python(f"import framewire\nmain_works()\nonce({kind!r}, FALLS_BACK)\nmain_works()")


@kinds
def test_a_subinterpreter_may_be_the_first_to_import(kind: str) -> None:
    """A module that has been refused once, or was first loaded elsewhere, must still do for the main interpreter."""
    python(f"once({kind!r}, WORKS)\nimport framewire\nexec(WORKS, {{}})\nonce({kind!r}, WORKS)\nexec(WORKS, {{}})")


@kinds
def test_fifty_in_a_row_leave_the_main_interpreter_unharmed(kind: str) -> None:
    python(
        f"import framewire\ndecoder = framewire.Decoder('u8')\nassert decoder.feed(b'\\x03o') == []\n"
        f"for _ in range(50):\n    once({kind!r}, FALLS_BACK)\n"
        "assert decoder.feed(b'ne') == [b'one']\nmain_works()"
    )


@kinds
def test_many_live_side_by_side(kind: str) -> None:
    python(
        f"import framewire\nmany = [Interpreter({kind!r}) for _ in range(8)]\n"
        "for turn in range(3):\n    for one in many:\n        one.run(FALLS_BACK)\n    main_works()\n"
        "for one in many:\n    one.close()\nmain_works()"
    )


@pytest.mark.skipif(EXPECT == "pure", reason="needs the compiled core")
@kinds
def test_a_subinterpreter_that_insists_on_the_compiled_core_gets_an_import_error(kind: str) -> None:
    python(
        f"import framewire\nonce({kind!r}, '''\nimport os\nos.environ['FRAMEWIRE_CORE'] = 'c'\n"
        "try:\n    import framewire\nexcept ImportError as error:\n    assert 'FRAMEWIRE_CORE=c' in str(error), error\n"
        "else:\n    raise AssertionError(framewire.CORE)\n''')\nmain_works()"
    )
