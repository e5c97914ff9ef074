"""The protocols of asyncio_hand.py under uvloop."""

from __future__ import annotations

import uvloop
from asyncio_hand import serve

uvloop.run(serve())
