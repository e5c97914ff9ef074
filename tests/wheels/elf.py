"""What an ELF file says of itself: sections, libraries, symbols. Enough of the format to judge an extension by.

::

    \x7fELF | class | data | ...        class: 1 = 32 bits, 2 = 64 bits; data: 1 = little-endian, 2 = big-endian
    section headers                     name, type, offset, size, linked section
      .dynamic                          tag and value: NEEDED, RPATH, RUNPATH, an offset in .dynstr each
      .dynsym                           name, binding, section: 0 if the symbol is wanted, not offered

Source: System V Application Binary Interface, chapters 4 and 5. Any machine and byte order, the reader's own or not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

X86_64 = 62
"""The machine in the header."""

NEEDED, RPATH, RUNPATH = 1, 15, 29
"""Tags of .dynamic."""

SECTIONS_OFFSET = {1: (0x20, "I"), 2: (0x28, "Q")}
SECTIONS_COUNT = {1: 0x2E, 2: 0x3A}  # size of a header, how many, and which of them names the others
SECTION = {1: "IIIIIIIIII", 2: "IIQQQQIIQQ"}
DYNAMIC = {1: "iI", 2: "qQ"}
SYMBOL = {1: "IIIBBH", 2: "IBBHQQ"}


@dataclass(frozen=True)
class Section:
    """A part of the file, and the number of the section its names are in."""

    name: str
    content: bytes
    link: int


class Elf:
    """A shared library, read at once.

    Attributes:
        machine: What it runs on, as the header has it.
        sections: All parts, in the order of the file.
        needed: The libraries it asks the loader for.
        search_paths: Where it tells the loader to look for them.
        exported: The symbols that it offers.
        imported: The symbols that it wants.

    Raises:
        ValueError: If this is no ELF file, or one cut short.
    """

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF" or data[4:5] not in (b"\1", b"\2") or data[5:6] not in (b"\1", b"\2"):
            raise ValueError("not an ELF file")
        self._width = data[4]
        self._order = "<" if data[5] == 1 else ">"
        try:
            (self.machine,) = struct.unpack_from(self._order + "H", data, 0x12)
            self.sections = list(self._read_sections(data))
            self._read_dynamic()
            self._read_symbols()
        except (struct.error, IndexError) as error:
            raise ValueError(f"an ELF file cut short: {error}") from error

    def section(self, name: str) -> Section:
        """The section of this name; an empty one if there is none."""
        return next((section for section in self.sections if section.name == name), Section(name, b"", 0))

    def _read_sections(self, data: bytes) -> Iterator[Section]:
        place, kind = SECTIONS_OFFSET[self._width]
        (start,) = struct.unpack_from(self._order + kind, data, place)
        size, count, names = struct.unpack_from(self._order + "HHH", data, SECTIONS_COUNT[self._width])
        layout = self._order + SECTION[self._width]
        rows = [struct.unpack_from(layout, data, start + size * number) for number in range(count)]
        for name, _, _, _, offset, length, link, *_ in rows:
            yield Section(text(data, rows[names][4] + name), data[offset : offset + length], link)

    def _read_dynamic(self) -> None:
        section = self.section(".dynamic")
        self.needed: list[str] = []
        self.search_paths: list[str] = []
        for tag, value in self._table(section, DYNAMIC):
            if tag in (NEEDED, RPATH, RUNPATH):
                name = text(self.sections[section.link].content, value)
                (self.needed if tag == NEEDED else self.search_paths).append(name)

    def _read_symbols(self) -> None:
        section = self.section(".dynsym")
        self.exported: set[str] = set()
        self.imported: set[str] = set()
        for row in self._table(section, SYMBOL):
            info, where = (row[3], row[5]) if self._width == 1 else (row[1], row[3])
            name = text(self.sections[section.link].content, row[0])
            if name and info >> 4:  # not a local one
                (self.exported if where else self.imported).add(name)

    def _table(self, section: Section, layouts: dict[int, str]) -> Iterator[tuple[int, ...]]:
        layout = struct.Struct(self._order + layouts[self._width])
        return layout.iter_unpack(section.content[: len(section.content) // layout.size * layout.size])


def text(data: bytes, start: int) -> str:
    """The text at this place, which ends at a zero byte."""
    return data[start : data.index(b"\0", start)].decode() if data else ""
