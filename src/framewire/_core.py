"""The core in use: compiled if there is one for this interpreter, else pure Python.

``FRAMEWIRE_CORE=c`` or ``py`` in the environment chooses; with ``c`` and no compiled core the import fails. Read once,
when framewire is first imported. `CORE` tells what runs, and `CORE_ERROR` why it is not the compiled one.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import _core_py as _implementation

__all__ = ["CORE", "CORE_ERROR", "Decoder", "Encoder", "Spans"]

CORE_ERROR: str | None = None
"""Why the compiled core is not in use; None if it is."""

_chosen = os.environ.get("FRAMEWIRE_CORE", "")
if _chosen not in ("", "c", "py"):
    raise ImportError(f"FRAMEWIRE_CORE must be 'c' or 'py', not {_chosen!r}")

if _chosen == "py":
    CORE_ERROR = "FRAMEWIRE_CORE=py asked for the pure core"
else:
    try:
        # Not "from . import _core_c": where there is none, that raises a plain ImportError.
        import framewire._core_c as _implementation  # type: ignore[import-not-found, no-redef]
    except ModuleNotFoundError as error:
        if error.name != "framewire._core_c":
            raise
        CORE_ERROR = "not built for this interpreter"
    except ImportError as error:
        # There, but it does not load: say so, because it would only look like a slow program. (In a subinterpreter
        # that is the ordinary case.)
        CORE_ERROR = str(error)
        if "subinterpreter" not in CORE_ERROR and "Interpreter change" not in CORE_ERROR and _chosen != "c":
            warnings.warn(f"framewire's compiled core does not load: {error}", RuntimeWarning, stacklevel=2)
    if CORE_ERROR is not None and _chosen == "c":
        raise ImportError(f"FRAMEWIRE_CORE=c, but there is no compiled core: {CORE_ERROR}")

CORE: str = "c" if CORE_ERROR is None else "py"
"""``"c"`` or ``"py"``: the core that runs."""

if CORE == "py":
    import framewire._core_py as _implementation

Decoder = _implementation.Decoder
Encoder = _implementation.Encoder
Spans = _implementation.Spans
