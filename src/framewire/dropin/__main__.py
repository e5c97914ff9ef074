"""``python -m framewire.dropin --check``: which hosts are here, and whether the drop-ins would take them.

Each drop-in that can be installed is put in place and taken back, in this process. Exit status 0 if nothing that is
installed is refused, else 1.
"""

from __future__ import annotations

import argparse
import json
import sys

from ._check import check, table


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m framewire.dropin", description="Tell about the drop-ins.")
    parser.add_argument("--check", action="store_true", required=True, help="which hosts are here, and would they do?")
    parser.add_argument("--json", action="store_true", help="the same for programs")
    options = parser.parse_args(arguments)
    found = check()
    print(json.dumps(found, indent=2) if options.json else table(found))
    return 1 if any(host["accepted"] is False for host in found["hosts"]) else 0


if __name__ == "__main__":
    sys.exit(main())
