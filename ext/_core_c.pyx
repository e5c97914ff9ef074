"""The core, compiled: the fast twin of ``_core_py.py``, with the same classes, methods and order.

How it works, and the rules, stand at the top of that file. What is particular here:

- ``wire.h`` finds the frames (places in the chunk), ``objects.h`` makes Python objects of them, a batch at a time, and
  ``stowed.h`` keeps the unfinished frame between two chunks; this file is the gate, the windows and the errors.
- When something is wrong, the reference (``_wire.py``) is asked what: errors are the same, field by field.
- A payload on its way is a ``bytes`` of which nobody else has a reference: it is filled, grown by
  ``_PyBytes_Resize``, and handed out as it is. A window over it keeps it alive through `_Window`, which counts the
  views; while one lives the payload is copied instead, and the old memory is left to the view.
- No Python code can run between the look at a length and its use: buffers are exported first, and the walk makes no
  objects. What runs in between (a garbage collection, a caller's buffer) meets the gate.

Cython's directives are in setup.py: one in a header here would win over a debug build.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memmove, memset

cdef extern from *:
    """
    #include "wire.h"
    FW_SMALL
    """

from objects cimport *
from stowed cimport *
from wire cimport *

from operator import index

from framewire._core_py import Encoder as Reference
from framewire._wire import FORMATS, Refused, no_comma, refusal, refused_header
from framewire.errors import HEAD_SIZE as _HEAD_SIZE
from framewire.errors import FramingError, IncompleteFrame
from framewire.spec import (
    DEFAULT_MAX_SIZE,
    Ascii,
    Delimited,
    FixedSize,
    LengthField,
    MultiprocessingPipe,
    Netstring,
    Varint,
    resolve,
)

cdef extern from "Python.h":
    # References by hand: these objects are made in the hot loops, or resized.
    PyObject *PyBytes_FromStringAndSize(const char *, Py_ssize_t)
    int _PyBytes_Resize(PyObject **, Py_ssize_t)
    char *bytes_data "PyBytes_AS_STRING"(PyObject *)
    PyObject *PyList_New(Py_ssize_t)
    void PyList_SET_ITEM(PyObject *, Py_ssize_t, PyObject *)
    void Py_SET_SIZE(PyObject *, Py_ssize_t)
    void Py_INCREF(PyObject *)
    void Py_DECREF(PyObject *)
    void Py_XDECREF(PyObject *)
    PyObject *PyList_GET_ITEM(list, Py_ssize_t)
    int PyList_SetSlice(list, Py_ssize_t, Py_ssize_t, PyObject *) except -1
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject *)
    Py_ssize_t PyNumber_AsSsize_t(object, void *) except? -1
    object PySeqIter_New(object)
    const Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    BATCH = 256  # places found before objects are made of them: 4 KiB of stack
    DIRECT_WINDOW_SIZE = 256 * 1024
    SEAM_ROOM = 512  # two delimiters

cdef enum:  # the gate of a decoder; 0 is open
    BUSY = 1
    FAILED = 2
    ENDED = 4
    TORN = 8  # a call did not come to its end
    UNMADE = 16  # __init__ has not come to its end

cdef Py_ssize_t HEAD_SIZE = _HEAD_SIZE


@cython.final
@cython.no_gc
cdef class _Window:
    """Lends a part of a ``bytes`` under construction to memoryviews, and counts them.

    It owns a reference to that ``bytes``, so a view can never dangle; once it is detached nothing more is lent.
    """

    cdef object owner
    cdef char *data  # NULL: detached
    cdef Py_ssize_t size
    cdef Py_ssize_t exports

    def __getbuffer__(self, Py_buffer *view, int flags):
        with cython.critical_section(self):
            if self.data is NULL:
                raise BufferError("the window has been taken back")
            PyBuffer_FillInfo(view, self, self.data, self.size, 0, flags)
            self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        with cython.critical_section(self):
            self.exports -= 1
            if not self.exports and self.data is NULL:
                self.owner = None

    @cython.critical_section
    cdef bint detach(self) noexcept:
        """Lend nothing more; return whether nobody looks. Else the memory stays for the views that live."""
        self.data = NULL
        if self.exports:
            return False
        self.owner = None
        return True


cdef class _Stream:
    """What the decoders have in common: the gate, the error, the payload on its way, and the window."""

    cdef object __weakref__
    cdef int gate  # 0: open
    cdef object _error
    cdef int64_t received  # bytes of the stream so far
    cdef int64_t frame_offset  # where in the stream the unfinished frame begins
    cdef fw_body body  # the payload on its way
    # The window.
    cdef object view  # the memoryview that is lent
    cdef Py_ssize_t view_size
    cdef bint view_direct  # it is a part of the payload on its way
    cdef _Window lease  # lends the payload on its way
    cdef _Window scratch  # lends memory for everything else

    def __cinit__(self, *args, **kwargs):
        self.gate = UNMADE

    def __dealloc__(self):
        Py_XDECREF(self.body.bytes)

    @property
    def _moved(self):
        return self.body.moved

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r}: it holds a part of a stream")

    cdef void drop(self) noexcept:
        """Forget the unfinished frame."""
        cdef PyObject *payload = self.body.bytes
        if self.lease is not None:
            self.lease.detach()
            self.lease = None
        self.body.bytes = NULL
        self.body.have = self.body.capacity = self.body.size = 0
        Py_XDECREF(payload)

    @cython.final
    cdef int refuse_entry(self) except -1:
        if self.gate & UNMADE:
            raise RuntimeError(f"the {type(self).__name__} was not initialised")
        if self.gate & BUSY:
            raise RuntimeError("a call from inside a call of the same decoder, or from another thread")
        self.raise_error()
        raise RuntimeError("the stream has ended: feed_eof() was called; reset() begins a new one")

    @cython.final
    cdef int claim(self) except -1:
        """The gate of ``__init__``, which is called once, by one thread."""
        if not self.gate & UNMADE:
            raise RuntimeError(f"a {type(self).__name__} is made once; reset() begins a new stream")
        if self.gate & BUSY:
            self.refuse_entry()
        self.gate |= BUSY
        return 0

    @cython.final
    cdef int check_torn(self) except -1:
        """A call that ran out of memory has lost bytes: to go on would be to be wrong about the next boundary."""
        if self.gate & TORN and not self.gate & BUSY:
            self.fail(MemoryError("out of memory inside a frame; the rest of the stream is lost"))
            self.gate &= ~TORN
        return 0

    @cython.final
    cdef int raise_error(self) except -1:
        self.check_torn()
        if self._error is not None:
            raise self._error.with_traceback(None)
        return 0

    @cython.final
    cdef int fail(self, error) except -1:
        self.drop()
        self.frame_offset = self.received
        self._error = error
        self.gate |= FAILED
        return 0

    @cython.final
    cdef int start_over(self) except -1:
        """Begin a new stream: what `reset` does in all decoders."""
        if self.gate & (BUSY | UNMADE):
            self.refuse_entry()
        self.gate |= BUSY
        # Code of others may run when these go (a callback of a weak reference, the locals of a traceback): at the end.
        view, self.view = self.view, None
        error, self._error = self._error, None
        release(view)
        self.drop()
        self.scratch = None
        self.received = 0
        self.frame_offset = 0
        self.gate = 0
        return 0

    @cython.final
    cdef object lend(self, bint direct, Py_ssize_t wanted, Py_ssize_t most):
        """A window over the payload on its way, of at most `most` bytes, or over the scratch memory."""
        cdef _Window window
        cdef Py_ssize_t start = 0
        if direct:
            if self.body.have == self.body.capacity:
                fw_reserve(&self.body, 1 + (self.body.have if self.body.size >= 0 else max(self.body.have, FW_SHORT_BODY)))
            self.scratch = None
            self.lease = window = _Window()
            window.owner = <object>self.body.bytes
            start = self.body.have
            window.size = min(min(self.body.capacity - start, most), wanted if wanted > 0 else DIRECT_WINDOW_SIZE)
        else:
            if self.scratch is None:
                self.scratch = new_scratch()
            window = self.scratch
            window.size = wanted if 0 < wanted < FW_WINDOW_SIZE else FW_WINDOW_SIZE
        window.data = bytes_data(<PyObject *>window.owner) + start
        self.view_size = window.size
        self.view_direct = direct
        self.view = PyMemoryView_FromObject(window)
        return self.view

    @cython.final
    cdef Py_ssize_t lent(self, n) except -1:
        """How many of the window's bytes were received, if that makes sense."""
        cdef Py_ssize_t size = PyNumber_AsSsize_t(n, NULL)
        if self.view is None:
            raise RuntimeError("buffer_updated() without a window: call get_buffer() first")
        if not 0 <= size <= self.view_size:
            raise ValueError(f"n={index(n)} bytes cannot have come into a window of {self.view_size} bytes")
        return size

    @cython.final
    cdef int take_back(self) except -1:
        """End the lease of the window, so that nobody else can write to the payload on its way."""
        cdef _Window lease
        view = self.view
        if view is None:
            return 0
        self.view = None
        release(view)
        if self.view_direct:
            lease, self.lease = self.lease, None
            if not lease.detach():
                self.leave_to_views()
        elif self.scratch is not None and self.scratch.exports:
            self.scratch = None
        return 0

    @cython.final
    cdef int leave_to_views(self) except -1:
        """Somebody has kept a slice of the window: leave the memory to it, and go on with a copy."""
        cdef PyObject *copy = PyBytes_FromStringAndSize(NULL, self.body.capacity)
        if copy is NULL:
            raise MemoryError()
        memcpy(bytes_data(copy), bytes_data(self.body.bytes), self.body.have)
        self.body.moved += self.body.have
        Py_DECREF(self.body.bytes)
        self.body.bytes = copy
        return 0


cdef class Decoder(_Stream):
    r"""Turns a stream of bytes into payloads.

    >>> decoder = Decoder("ascii10")
    >>> decoder.feed(b"5         hello6         wor")
    [b'hello']
    >>> decoder.feed(b"ld!")
    [b'world!']

    The result is the same for every chunking. When a header is bad, the payloads before it come out first; then every
    call raises the same error, and `error` shows it at once. A decoder is for one thread at a time, and a call from
    inside one of its own calls is a `RuntimeError`.

    Args:
        spec: A wire format, or its name (see `framewire.spec`).
        max_size: Most bytes that may follow a header, checked on the header; most bytes before a delimiter.
            16 MiB unless given; None lifts the limit.

    Raises:
        ValueError, TypeError: If the format or the limit makes no sense.
    """

    cdef fw_format format
    cdef object _spec
    cdef object _max_size
    cdef Py_ssize_t guess  # payloads that the last feed_spans() found
    cdef fw_stowed stowed  # what else there is of the unfinished frame
    cdef Py_ssize_t scanned  # no delimiter begins before this byte of the payload
    cdef bytes rejoined  # a chunk with bytes that the stowed frame has given back

    def __cinit__(self, *args, **kwargs):
        self.stowed.header = self.stowed.header_room

    @cython.critical_section
    def __init__(self, spec, *, max_size=DEFAULT_MAX_SIZE):
        self.claim()
        try:
            spec, limit = resolve(spec, max_size)
            set_format(&self.format, spec, limit)
            if <Py_ssize_t>self.format.header_size > FW_HEADER_ROOM:
                self.stowed.header = <uint8_t *>PyMem_Malloc(self.format.header_size)
                if self.stowed.header is NULL:
                    self.stowed.header = self.stowed.header_room
                    raise MemoryError()
            self._spec = spec
            self._max_size = max_size
            self.gate &= ~UNMADE
        finally:
            self.gate &= ~BUSY

    def __dealloc__(self):
        if self.stowed.header is not self.stowed.header_room:
            PyMem_Free(self.stowed.header)
        free_format(&self.format)

    cdef void drop(self) noexcept:
        """Forget the unfinished frame."""
        self.stowed.header_have = self.stowed.missing = self.stowed.skip = self.stowed.quick = 0
        self.scanned = 0
        _Stream.drop(self)

    @property
    def spec(self):
        """The wire format."""
        return self._spec

    @property
    def max_size(self):
        """The limit, as it was given."""
        return self._max_size

    @property
    @cython.critical_section
    def error(self):
        """What ended the stream, as soon as it is known: a `FramingError`, or a MemoryError that lost bytes.
        None while all is well."""
        self.check_torn()
        return self._error

    @property
    def buffered_size(self):
        """Bytes that have come of the unfinished frame, its header included."""
        return self.received - self.frame_offset

    @property
    def needed_size(self):
        """Bytes that must still come before there can be a payload, as far as it is known: the rest of the header, then
        the rest of the frame. Reading so many at a time never reads past a frame. 0 once the stream is over."""
        if self.gate & (FAILED | ENDED):
            return 0
        return self.missing_size() or 1

    def feed(self, chunk, /):
        """Take a chunk of the stream; return the payloads that it completes.

        Args:
            chunk: Any contiguous bytes-like object, of any size. It is not kept.

        Returns:
            The payloads in order, often none. Each is a ``bytes`` of its own.

        Raises:
            HeaderError, FrameTooLarge: When every payload before the bad header is out.
            RuntimeError: After `feed_eof`.
        """
        cdef list payloads
        if (
            FW_ONE_THREAD and not self.gate and PyBytes_CheckExact(chunk)
            and PyBytes_GET_SIZE(chunk) < self.stowed.quick
        ):
            # The list first: if there is no memory for it, nothing was taken. And to make it can run code.
            self.gate = BUSY
            try:
                payloads = fw_nothing(&spare)
            finally:
                self.gate = 0
            self.received += PyBytes_GET_SIZE(chunk)
            fw_extend(&self.stowed, &self.body, <const uint8_t *>PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk))
            return payloads
        return self.feed_any(chunk)

    @cython.critical_section
    def get_buffer(self, hint=-1):
        """Lend a window to receive into: ``n = sock.recv_into(decoder.get_buffer())``, then `buffer_updated`.

        A payload over 64 KiB is received where its final ``bytes`` will be. `buffer_updated` takes the window back and
        releases it; a slice of it that is kept costs a copy, and never changes a payload. The names and rules are those
        of ``asyncio.BufferedProtocol``.

        Args:
            hint: Most bytes wanted; -1 leaves the size to the decoder.

        Returns:
            A writable ``memoryview``, never empty, valid until the next call of any method. Its content is undefined.

        Raises:
            HeaderError, FrameTooLarge, RuntimeError: As `feed`.
        """
        cdef Py_ssize_t wanted
        cdef bint direct
        self.enter()
        try:
            wanted = PyNumber_AsSsize_t(hint, NULL)
            self.gate |= TORN
            self.take_back()
            direct = self.body.have < self.body.size > FW_WINDOW_SIZE and not self.stowed.skip
            window = self.lend(direct, wanted, PY_SSIZE_T_MAX)
            self.gate &= ~TORN
            return window
        finally:
            self.leave()

    @cython.critical_section
    def buffer_updated(self, n, /):
        """Say that `n` bytes were received into the window; return the payloads that they complete.

        Raises:
            ValueError: If `n` is negative or more than the window holds; the window stays lent.
            HeaderError, FrameTooLarge, RuntimeError: As `feed`; RuntimeError if no window is lent.
        """
        cdef Py_ssize_t size
        cdef _Window scratch
        cdef PyObject *payload = NULL
        self.enter()
        try:
            size = self.lent(n)
            self.gate |= TORN
            if self.view_direct:
                self.received += size
                self.body.have += size
                self.stowed.missing -= size
                self.take_back()
                payloads = fw_nothing(&spare)
                if not self.stowed.missing:
                    payload = self.finish()
                    self.frame_offset = self.received
                    payloads = fw_only(payload)
                self.gate &= ~TORN
                return payloads
            scratch = self.scratch
            self.take_back()
            if size < self.view_size:
                self.scratch = None  # the stream has fallen quiet: give the memory back
            return self.take(<const uint8_t *>bytes_data(<PyObject *>scratch.owner), size)
        finally:
            self.leave()

    @cython.critical_section
    def feed_spans(self, chunk, /):
        """Take a chunk of the stream; return where the payloads lie that it completes.

        As `feed`, but with no object for each payload. The spans lie over `chunk` itself if it is ``bytes``, which they
        keep alive, else over a copy of it.

        Raises:
            HeaderError, FrameTooLarge, RuntimeError: As `feed`.
        """
        cdef Py_buffer view
        self.enter()
        try:
            if PyBytes_CheckExact(chunk):
                return self.take_spans(chunk)
            PyObject_GetBuffer(chunk, &view, PyBUF_SIMPLE)
            try:
                chunk = (<char *>view.buf)[: view.len]
                self.body.moved += view.len
            finally:
                PyBuffer_Release(&view)
            return self.take_spans(chunk)
        finally:
            self.leave()

    @cython.critical_section
    def feed_eof(self):
        r"""Say that the stream has ended.

        Returns:
            The payloads that only the end completes: none, except for `Delimited` where one delimiter begins another
            (``\r`` at the end, which might have become ``\r\n``). After such payloads look at `error`, or call again.

        Raises:
            IncompleteFrame: If the stream ended inside a frame.
            HeaderError, FrameTooLarge: As `feed`.
        """
        cdef list payloads = []
        if self.gate == ENDED:
            return payloads
        self.enter()
        try:
            self.gate |= TORN
            self.take_back()
            self.scratch = None
            if self.format.kind == FW_DELIMITED and self.body.bytes is not NULL:
                self.cut_final(payloads)
            self.gate &= ~TORN
            if not self.gate & FAILED:
                if self.received != self.frame_offset:
                    self.fail(self.incomplete())
                self.gate |= ENDED  # now that it is sure to be told, for which there has to be memory
            if not payloads:
                self.raise_error()
            return payloads
        finally:
            self.leave()

    @cython.critical_section
    def reset(self):
        """Begin a new stream: forget what was received, the error and the end."""
        self.start_over()

    def __sizeof__(self):
        """Bytes of memory in use, what is reserved for frames included."""
        cdef Py_ssize_t size = object.__sizeof__(self) + self.body.capacity
        if self.stowed.header is not self.stowed.header_room:
            size += self.format.header_size
        if self.scratch is not None:
            size += FW_WINDOW_SIZE
        return size

    def __repr__(self):
        return f"Decoder({self._spec!r}, max_size={self._max_size})"

    @cython.final
    @cython.critical_section
    cdef list feed_any(self, chunk):
        cdef Py_buffer view
        self.enter()
        try:
            if PyBytes_CheckExact(chunk):
                return self.take(<const uint8_t *>PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk))
            PyObject_GetBuffer(chunk, &view, PyBUF_SIMPLE)
            try:
                return self.take(start_of(&view), view.len)
            finally:
                PyBuffer_Release(&view)
        finally:
            self.leave()

    @cython.final
    cdef inline int enter(self) except -1:
        """The gate of every method: one call at a time, none after the end."""
        if self.gate:
            self.refuse_entry()
        self.gate = BUSY
        self.stowed.quick = 0
        return 0

    @cython.final
    cdef inline void leave(self) noexcept:
        self.gate &= ~BUSY

    @cython.final
    cdef list take(self, const uint8_t *data, Py_ssize_t size):
        """Run a chunk through the three steps; return the payloads."""
        cdef Py_ssize_t pos, scanned = 0
        cdef size_t header = 0
        cdef uint64_t body = 0
        cdef int status
        cdef PyObject *first
        cdef list payloads
        cdef bytes chunk
        self.gate |= TORN
        if self.view is not None:
            self.take_back()
        self.received += size
        if self.format.kind == FW_DELIMITED:
            status = self.resume_delimited(data, size, &pos, &first)
        else:
            status = fw_take(&self.format, &self.stowed, &self.body, data, size, FW_SHORT_REST, &pos, &first)
        if status > FW_FULL:
            self.refuse_stowed(status, data, size, &pos)
        if status == FW_FULL:
            if self.rejoined is not None:
                chunk, self.rejoined = self.rejoined, None
                data, size = <const uint8_t *>PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk)
            payloads = self.cut(data, size, &pos, &scanned, &header, &body, &status, first)
            self.frame_offset = self.received - size + pos
            self.settle(status, header, body, data + pos, size - pos, scanned - pos)
        else:
            if pos >= 0:
                self.frame_offset = self.received - size + pos
            payloads = fw_nothing(&spare) if first is NULL else fw_only(first)
        self.gate &= ~TORN
        if self.gate & FAILED and not payloads:
            self.raise_error()
        return payloads

    @cython.final
    cdef Spans take_spans(self, bytes chunk):
        """As `take`, for places."""
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(chunk)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(chunk), pos, guess, scanned = 0
        cdef size_t header = 0
        cdef uint64_t body = 0
        cdef int status
        cdef PyObject *first
        cdef Spans spans = new_spans(b"")
        self.gate |= TORN
        if self.view is not None:
            self.take_back()
        self.received += size
        if self.format.kind == FW_DELIMITED:
            status = self.resume_delimited(data, size, &pos, &first)
        else:
            status = fw_take(&self.format, &self.stowed, &self.body, data, size, 0, &pos, &first)
        if status > FW_FULL:
            self.refuse_stowed(status, data, size, &pos)
        if pos >= 0:
            if first is not NULL:
                spans.carried = <bytes>steal(first)
            if self.rejoined is not None:
                chunk, self.rejoined = self.rejoined, None
                data, size = <const uint8_t *>PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk)
            spans.owner = chunk
            # As many as the last time, and some more; at first for short frames.
            guess = min(self.guess + self.guess // 8 if self.guess else size // 32, size // 16) + 16
            spans.find(&self.format, guess, &pos, &scanned, &header, &body, &status)
            self.guess = spans.count
            self.frame_offset = self.received - size + pos
            self.settle(status, header, body, data + pos, size - pos, scanned - pos)
        self.gate &= ~TORN
        if self.gate & FAILED and not len(spans):
            self.raise_error()
        return spans

    @cython.final
    cdef int refuse_stowed(self, int status, const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos) except -1:
        """Refuse what fw_take() has refused; the chunk goes with it."""
        cdef bytes head
        if status == FW_BAD:
            head = self.stowed.header[: self.stowed.header_have]
            self.refuse(status, head + data[: min(size, <Py_ssize_t>self.format.header_size + HEAD_SIZE)])
        else:
            head = self.head(self.stowed.header_have)
            self.refuse(status, head + data[pos[0] - 1 : pos[0]], self.body.size)
        pos[0] = -1
        return 0

    @cython.final
    cdef int resume_delimited(
        self, const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos, PyObject **payload
    ) except -1:
        """What fw_take() does, for delimiters: one may begin in what is stowed and end in the chunk, so the seam is
        searched first, then the chunk by itself. What was searched before is not searched again. If `rejoined` is set,
        that is the data to go on with."""
        cdef uint8_t seam[SEAM_ROOM]
        cdef Py_ssize_t tail = self.body.have - self.scanned
        cdef Py_ssize_t more = min(size, self.format.longest - 1)
        cdef Py_ssize_t begins, found, stop, payload_size
        cdef bytes rejoined = None
        payload[0] = NULL
        pos[0] = 0
        if self.body.bytes is NULL:
            return FW_FULL
        pos[0] = -1
        memcpy(seam, bytes_data(self.body.bytes) + self.scanned, tail)
        memcpy(seam + tail, data, more)
        begins = fw_find(&self.format, seam, 0, tail + more, 0, &found)
        if begins >= tail:
            begins = tail + fw_find(&self.format, data, 0, size, 0, &found)
        payload_size = self.scanned + begins
        if <uint64_t>payload_size > self.format.limit:
            self.refuse(FW_NO_DELIMITER, self.head(0) + data[: min(size, HEAD_SIZE)])
            return FW_MORE
        if not found:
            fw_append(&self.body, data, size)
            self.scanned = payload_size
            return FW_MORE
        stop = begins + found - tail
        if self.format.keep:
            payload_size += found
        if payload_size > self.body.have:
            fw_append(&self.body, data, payload_size - self.body.have)
        self.body.have = payload_size
        if stop < 0:
            # A long delimiter might have begun there, but it was a short one: behind that the tail has bytes to give
            # back.
            rejoined = seam[tail + stop : tail] + data[:size]
            self.body.moved += size - stop
            stop = 0
        payload[0] = self.finish()
        self.rejoined = rejoined
        pos[0] = stop
        return FW_FULL

    @cython.final
    cdef list cut(
        self,
        const uint8_t *data,
        Py_ssize_t size,
        Py_ssize_t *pos,
        Py_ssize_t *scanned,
        size_t *header,
        uint64_t *body,
        int *status,
        PyObject *first,
    ):
        """The payloads that stand whole in the chunk, behind `first` (a reference that it steals, or NULL)."""
        cdef int64_t starts[BATCH]
        cdef int64_t lengths[BATCH]
        cdef Py_ssize_t begin = pos[0], count = 0, room = 0, n
        cdef PyObject *payloads = NULL
        while True:
            n = fw_scan(&self.format, data, size, pos, scanned, starts, lengths, BATCH, header, body, status)
            if payloads is NULL:
                room = n + (first is not NULL)
                if status[0] == FW_FULL:
                    room += room_for(size - pos[0], pos[0] - begin, n)
                payloads = PyList_New(room)
                if payloads is NULL:
                    Py_XDECREF(first)
                    raise MemoryError()
                if first is not NULL:
                    PyList_SET_ITEM(payloads, 0, first)
                    count = 1
            count = fw_put_payloads(payloads, count, room, data, starts, lengths, n)
            if count < 0:
                Py_DECREF(payloads)
                raise MemoryError()
            if status[0] != FW_FULL:
                break
        if count < room:
            Py_SET_SIZE(payloads, count)
        self.body.moved += pos[0] - begin
        return steal(payloads)

    @cython.final
    cdef int cut_final(self, list payloads) except -1:
        """The payloads in what is stowed, now that no delimiter can go on."""
        cdef int64_t start, length
        cdef Py_ssize_t pos = 0, scanned = self.scanned, size = self.body.have
        cdef int64_t base = self.frame_offset
        cdef int status
        cdef bytes stowed = <bytes>steal(self.finish())
        while fw_walk_delimited(
            &self.format, <const uint8_t *>PyBytes_AS_STRING(stowed), size, 1, &pos, &scanned, &start, &length, 1, &status
        ):
            payloads.append(stowed[start : start + length])
        self.frame_offset = base + pos
        self.settle(status, 0, 0, <const uint8_t *>PyBytes_AS_STRING(stowed) + pos, size - pos, scanned - pos)
        return 0

    @cython.final
    cdef int settle(
        self, int status, size_t header, uint64_t body, const uint8_t *data, Py_ssize_t size, Py_ssize_t scanned
    ) except -1:
        """What is left of a chunk begins a frame that it does not finish: keep it; or one that is not allowed."""
        if not size:
            return 0
        if status == FW_BAD:
            self.refuse(status, data[: min(size, <Py_ssize_t>self.format.header_size + HEAD_SIZE)])
        elif status == FW_BAD_TRAILER:
            self.refuse(status, data[: min(HEAD_SIZE, <Py_ssize_t>(header + body) + 1)], body)
        elif status == FW_NO_DELIMITER:
            self.refuse(status, data[: min(size, HEAD_SIZE)])
        elif self.format.kind == FW_DELIMITED:
            fw_start_body(&self.body, -1, size)
            fw_append(&self.body, data, size)
            self.scanned = scanned
        else:
            fw_stow(&self.format, &self.stowed, &self.body, status, header, body, data, size)
        return 0

    @cython.final
    cdef PyObject *finish(self) except NULL:
        """The stowed frame is whole: hand out its payload, as a new reference."""
        cdef PyObject *payload = fw_end_body(&self.body)
        self.drop()
        return payload

    @cython.final
    cdef Py_ssize_t missing_size(self) noexcept:
        """Bytes still to come in the part of the frame that is being received; 0 where nothing tells."""
        if self.body.bytes is NULL:
            return fw_header_missing(&self.format, self.stowed.header_have)
        return self.stowed.missing

    @cython.final
    cdef bytes head(self, Py_ssize_t header):
        """The first bytes of the stowed frame: `header` bytes of its header, and of its payload if that is known."""
        cdef bytes head = self.stowed.header[:header]
        if self.body.bytes is not NULL and self.format.strip < 0:
            head += bytes_data(self.body.bytes)[: min(self.body.have, HEAD_SIZE)]
        return head[:HEAD_SIZE]

    @cython.final
    cdef int refuse(self, int status, bytes data, uint64_t body=0) except -1:
        """The frame that begins with `data` cannot be accepted: the reference says why."""
        reference = FORMATS[type(self._spec)](self._spec, <object>self.format.limit)
        if status == FW_BAD:
            refused = refused_header(reference, data)
            if refused is None:
                raise SystemError(f"the cores disagree about the header {data!r} of {self._spec!r}")
        elif status == FW_BAD_TRAILER:
            refused = Refused(0, data, no_comma(<object>body))
        else:
            refused = Refused(0, data)
        self.fail(refusal(refused, reference.limit, self.frame_offset))
        return 0

    @cython.final
    cdef object incomplete(self):
        return IncompleteFrame(
            "header" if self.body.bytes is NULL else "payload",
            <object>(self.received - self.frame_offset),
            self.missing_size() or None,
            <object>self.frame_offset,
            self.head(self.stowed.header_have),
        )


@cython.final
cdef class Spans:
    """Where payloads lie: offsets and lengths over one owner, with no object for each payload.

    >>> spans = Decoder("u8").feed_spans(b"\x03one\x03two")
    >>> len(spans), bytes(spans[1]), spans.tolist()
    (2, b'two', [b'one', b'two'])
    >>> spans.offsets.tolist(), spans.lengths.tolist()
    ([1, 5], [3, 3])

    Made by `Decoder.feed_spans`. It owns its memory (the chunk, if that was ``bytes``), and so does each view of it.
    A payload that began in an earlier chunk stands first. It is joined with the rest only when `data`, `offsets`,
    `lengths` or a slice is first asked for, so that indexing, iteration and `tolist` never copy the chunk.
    """

    cdef bytes carried
    cdef bytes owner
    cdef bytes places  # int64_t: `room` offsets, of which `count` are used, then as many lengths
    cdef Py_ssize_t room
    cdef Py_ssize_t count  # without `carried`

    def __cinit__(self):
        self.owner = self.places = b""

    def __init__(self):
        raise TypeError("Spans are made by Decoder.feed_spans()")

    @property
    @cython.critical_section
    def data(self):
        """The owner, as bytes that `offsets` point into. Read-only."""
        self.join()
        return memoryview(self.owner)

    @property
    @cython.critical_section
    def offsets(self):
        """Where each payload begins in `data`: 64-bit integers (format ``q``), read-only."""
        self.join()
        return memoryview(self.places)[: 8 * self.count].cast("q")

    @property
    @cython.critical_section
    def lengths(self):
        """How many bytes each payload has: 64-bit integers (format ``q``), read-only."""
        self.join()
        return memoryview(self.places)[8 * self.room : 8 * (self.room + self.count)].cast("q")

    @cython.critical_section
    def tolist(self):
        """Every payload as ``bytes`` of its own."""
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(self.owner)
        cdef const int64_t *starts = self.starts()
        cdef const int64_t *sizes = starts + self.room
        cdef Py_ssize_t first = self.carried is not None, room = first + self.count
        cdef PyObject *payloads = PyList_New(room)
        if payloads is NULL:
            raise MemoryError()
        if first:
            Py_INCREF(<PyObject *>self.carried)
            PyList_SET_ITEM(payloads, 0, <PyObject *>self.carried)
        if fw_put_payloads(payloads, first, room, data, starts, sizes, self.count) < 0:
            Py_DECREF(payloads)
            raise MemoryError()
        return steal(payloads)

    @cython.critical_section
    def __len__(self):
        return self.count + (self.carried is not None)

    def __getitem__(self, key, /):
        """One payload as a read-only view, or the spans of a slice."""
        cdef Py_ssize_t i, count
        cdef const int64_t *starts
        cdef Spans spans
        if isinstance(key, slice):
            picked = range(len(self))[key]  # looks at the bounds once: their __index__ is the code of others
            with cython.critical_section(self):
                self.join()
            spans = new_spans(self.owner)
            spans.make_room(len(picked))
            for i in picked:
                spans.starts()[spans.count] = self.starts()[i]
                spans.starts()[spans.room + spans.count] = self.starts()[self.room + i]
                spans.count += 1
            return spans
        i = PyNumber_AsSsize_t(key, <void *>IndexError)
        with cython.critical_section(self):
            count = self.count + (self.carried is not None)
            if i < 0:
                i += count
            if 0 <= i < count:
                if self.carried is not None:
                    if i == 0:
                        return memoryview(self.carried)
                    i -= 1
                starts = self.starts()
                return memoryview(self.owner)[starts[i] : starts[i] + starts[self.room + i]]
        raise IndexError(f"index {key} is out of range for {count} spans")

    def __reduce__(self):
        raise TypeError("cannot pickle 'Spans': they lie over a chunk; tolist() can be")

    def __iter__(self):
        return PySeqIter_New(self)  # a generator would bring all of Cython's coroutines with it

    @cython.critical_section
    def __repr__(self):
        size = sum(memoryview(self.places)[8 * self.room : 8 * (self.room + self.count)].cast("q"))
        count = self.count + (self.carried is not None)
        return f"<Spans of {count} payloads, {size + len(self.carried or b'')} bytes>"

    cdef int64_t *starts(self) noexcept:
        return <int64_t *>PyBytes_AS_STRING(self.places)

    cdef int find(
        self,
        const fw_format *wire,
        Py_ssize_t guess,
        Py_ssize_t *pos,
        Py_ssize_t *scanned,
        size_t *header,
        uint64_t *body,
        int *status,
    ) except -1:
        """Fill in the places of what stands whole in the owner: about `guess` payloads."""
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(self.owner)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.owner), begin = pos[0]
        cdef int64_t *starts
        self.make_room(guess)
        while True:
            starts = self.starts() + self.count
            self.count += fw_scan(
                wire,
                data,
                size,
                pos,
                scanned,
                starts,
                starts + self.room,
                self.room - self.count,
                header,
                body,
                status,
            )
            if status[0] != FW_FULL:
                return 0
            self.make_room(self.count + room_for(size - pos[0], pos[0] - begin, self.count))

    cdef int make_room(self, Py_ssize_t room) except -1:
        """Only before anybody has seen the places."""
        cdef bytes places = <bytes>steal(PyBytes_FromStringAndSize(NULL, 2 * room * sizeof(int64_t)))
        cdef int64_t *starts = <int64_t *>PyBytes_AS_STRING(places)
        memcpy(starts, self.starts(), self.count * sizeof(int64_t))
        memcpy(starts + room, self.starts() + self.room, self.count * sizeof(int64_t))
        self.places = places
        self.room = room
        return 0

    cdef int join(self) except -1:
        """Put `carried` in front of the rest; nothing changes after that. The caller holds the lock."""
        cdef Py_ssize_t i, shift
        cdef int64_t *starts
        cdef int64_t *sizes
        cdef bytes places
        if self.carried is not None:
            shift = len(self.carried)
            places = <bytes>steal(PyBytes_FromStringAndSize(NULL, 2 * (self.count + 1) * sizeof(int64_t)))
            starts = <int64_t *>PyBytes_AS_STRING(places)
            sizes = starts + self.count + 1
            starts[0] = 0
            sizes[0] = shift
            for i in range(self.count):
                starts[i + 1] = self.starts()[i] + shift
                sizes[i + 1] = self.starts()[self.room + i]
            self.owner = self.carried + self.owner
            self.places = places
            self.count += 1
            self.room = self.count
            self.carried = None
        return 0


cdef class Encoder:
    r"""Turns payloads into frames. It keeps nothing from one call to the next.

    >>> encoder = Encoder("ascii10")
    >>> encoder.encode(b"hello")
    b'5         hello'
    >>> encoder.encode_many([b"one", b"two"])
    b'3         one3         two'

    A payload is any contiguous bytes-like object; encode text first, the length counts bytes. What a decoder of the
    same format and limit would not give back is refused, and then nothing is written.

    Args:
        spec: A wire format, or its name (see `framewire.spec`).
        max_size: Most bytes in a payload (that follow the header, where ``adjust`` is in use). 16 MiB unless given;
            None leaves the limit to the format.

    Raises:
        ValueError, TypeError: If the format or the limit makes no sense, or if the format cannot be written: a
            `LengthField` whose ``strip`` is not its header, or a first delimiter that begins another.
    """

    cdef object __weakref__
    cdef fw_format format
    cdef object _spec
    cdef object _max_size
    cdef object reference  # the encoder of the pure core, which is asked whenever a payload is not plainly in order
    cdef bint begun  # __init__ has been called

    @cython.critical_section
    def __init__(self, spec, *, max_size=DEFAULT_MAX_SIZE):
        if self.begun:
            raise RuntimeError("an Encoder is made once")
        self.begun = True
        try:
            self.reference = Reference(spec, max_size=max_size)
            spec = self.reference.spec
            set_format(&self.format, spec, min(resolve(spec, max_size)[1], spec.largest()))
            self._max_size = max_size
            self._spec = spec
        finally:
            self.begun = self._spec is not None

    def __dealloc__(self):
        free_format(&self.format)

    @property
    def spec(self):
        """The wire format."""
        return self._spec

    @property
    def max_size(self):
        """The limit, as it was given."""
        return self._max_size

    def encode(self, payload, /):
        """The frame of one payload.

        Raises:
            FrameTooLarge: If the payload is over the limit, or over what the length field can hold.
            ValueError: If the format cannot carry this payload (a delimiter in it, a size other than the fixed one).
        """
        cdef bytes frame
        if self._spec is not None and PyBytes_CheckExact(payload):
            frame = fw_new_frame(&self.format, <const uint8_t *>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
            if frame is not None:
                return frame
        self.check()
        return self.encode_one(payload)

    def encode_many(self, payloads, /):
        """The frames of many payloads, one behind the other in one ``bytes``.

        Raises:
            FrameTooLarge, ValueError: As `encode`, for the first payload that cannot be sent; nothing is written.
        """
        cdef PyObject *frames = NULL
        cdef list items
        self.check()
        if type(payloads) is list:
            items = payloads
        else:
            items = []
            payloads = iter(payloads)
            for payload in payloads:
                if not PyBytes_CheckExact(payload):  # it may be changed before the next is drawn
                    items = [self.encode_one(item) for item in [*items, payload]]
                    items += [self.encode_one(payload) for payload in payloads]
                    return b"".join(items)
                items.append(payload)
        # Nothing can change the list while it is read in place: only exact bytes are looked at, so no Python code runs.
        # (Without the lock of the interpreter, that of the list is held.)
        with cython.critical_section(items):
            done = fw_join(&self.format, items, &frames)
        if done:
            return steal(frames)
        return b"".join([self.encode_one(item) for item in items])

    def encode_parts(self, payload, /):
        """The frame in parts, for ``sock.sendmsg(parts)``: a large payload is never copied.

        Returns:
            The header and the payload: the very object, which must not change until it is sent. `Netstring` and
            `Delimited` have a third part behind the payload. Empty parts are left out, but never the payload.
        """
        cdef Py_ssize_t header
        cdef bytes head
        self.check()
        if self.format.kind != FW_DELIMITED and PyBytes_CheckExact(payload):
            header = fw_header_size(&self.format, PyBytes_GET_SIZE(payload))
            if header > 0:
                head = <bytes>steal(PyBytes_FromStringAndSize(NULL, header))
                fw_write_header(&self.format, <uint8_t *>PyBytes_AS_STRING(head), header, PyBytes_GET_SIZE(payload))
                return (head, payload, b",") if self.format.trailer else (head, payload)
        return self.reference.encode_parts(payload)

    def encode_into(self, payload, buffer, offset=0):
        """Write the frame of one payload into `buffer` at `offset`.

        The payload may lie in the same buffer: put it where it will stand, behind the header, and nothing moves.

        Returns:
            The bytes written.

        Raises:
            ValueError: If the frame does not fit, or as `encode`; nothing is written.
            BufferError: If `buffer` is read-only.
        """
        cdef Py_buffer source, target
        cdef Py_ssize_t header, size, at
        self.check()
        PyObject_GetBuffer(payload, &source, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(buffer, &target, PyBUF_SIMPLE)
            try:
                at = PyNumber_AsSsize_t(offset, NULL)
                header = fw_header_before(&self.format, start_of(&source), source.len)
                if header >= 0 and not target.readonly:
                    size = header + source.len + self.format.writes.size
                    if 0 <= at <= target.len - size:
                        # The payload first: it may lie in the same buffer.
                        memmove(<uint8_t *>target.buf + at + header, start_of(&source), source.len)
                        fw_write_around(&self.format, <uint8_t *>target.buf + at, header, source.len)
                        return size
            finally:
                PyBuffer_Release(&target)
        finally:
            PyBuffer_Release(&source)
        return self.reference.encode_into(payload, buffer, offset)

    def __reduce__(self):
        return _encoder, (type(self), self._spec, self._max_size)

    def __repr__(self):
        return f"Encoder({self._spec!r}, max_size={self._max_size})"

    @cython.final
    cdef bytes encode_one(self, payload):
        cdef Py_buffer view
        cdef bytes frame
        if PyBytes_CheckExact(payload):
            frame = fw_new_frame(&self.format, <const uint8_t *>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
        else:
            PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
            try:
                frame = fw_new_frame(&self.format, start_of(&view), view.len)
            finally:
                PyBuffer_Release(&view)
        return self.reference.encode(payload) if frame is None else frame

    @cython.final
    cdef inline int check(self) except -1:
        if self._spec is None:
            raise RuntimeError("the Encoder was not initialised")
        return 0


def _encoder(kind, spec, max_size):
    return kind(spec, max_size=max_size)


cdef int release(view) except -1:
    """Take the window back, unless somebody has an export of it: then the memory is left to them."""
    if view is not None:
        try:
            view.release()
        except BufferError:
            pass
    return 0


cdef inline const uint8_t *start_of(const Py_buffer *view) noexcept:
    """An empty buffer may lie nowhere, where C allows not even a copy of no bytes."""
    return <const uint8_t *>view.buf if view.len else <const uint8_t *>b""


cdef inline object steal(PyObject *owned):
    """A reference that was held by hand."""
    if owned is NULL:
        raise MemoryError()
    result = <object>owned
    Py_DECREF(owned)
    return result


cdef PyObject *spare = NULL  # for fw_nothing()


cdef Spans new_spans(bytes owner):
    cdef Spans spans = Spans.__new__(Spans)
    spans.owner = owner
    return spans


cdef _Window new_scratch():
    cdef _Window window = _Window()
    window.owner = steal(PyBytes_FromStringAndSize(NULL, FW_WINDOW_SIZE))
    return window


cdef inline Py_ssize_t room_for(Py_ssize_t rest, Py_ssize_t done, Py_ssize_t count) noexcept:
    """How many frames the rest of a chunk holds if they are like those found so far; never more memory than bytes."""
    return min(rest // max(done // count, 1), rest // <Py_ssize_t>sizeof(int64_t)) + BATCH


cdef int set_format(fw_format *wire, spec, limit) except -1:
    """The same values as in `spec`, for wire.h."""
    cdef fw_delimiter *delimiter
    memset(wire, 0, sizeof(fw_format))
    wire.limit = limit
    wire.strip = -1
    if isinstance(spec, Ascii):
        wire.kind = FW_ASCII
        wire.width = wire.header_size = spec.width
        wire.align = ord(spec.align)
    elif isinstance(spec, LengthField):
        wire.kind = FW_LENGTH_FIELD
        wire.width = spec.width
        wire.little = spec.byteorder == "little"
        wire.offset = spec.offset
        wire.header_size = spec.header_size
        wire.plus = max(spec.adjust, 0)
        wire.minus = max(-spec.adjust, 0)
        wire.strip = -1 if spec.strip is None else spec.strip
        wire.plain = not spec.offset and not spec.adjust and spec.strip is None
    elif isinstance(spec, Varint):
        wire.kind = FW_VARINT
        wire.bits = spec.bits
        wire.width = wire.header_size = 5 if spec.bits == 32 else 10
    elif isinstance(spec, Netstring):
        wire.kind = FW_NETSTRING
        wire.header_size = 21  # 20 digits and the colon
        wire.trailer = 1
        wire.writes.bytes = <const uint8_t *>b","
        wire.writes.size = 1
    elif isinstance(spec, FixedSize):
        wire.kind = FW_FIXED_SIZE
        wire.size = spec.size
    elif isinstance(spec, MultiprocessingPipe):
        wire.kind = FW_MULTIPROCESSING
        wire.header_size = 12
    else:
        wire.kind = FW_DELIMITED
        wire.keep = spec.keep
        set_delimiters(wire, spec.delimiters)
    return 0


cdef int set_delimiters(fw_format *wire, tuple delimiters) except -1:
    """One block of memory: the delimiters longest first, the 256 flags, the bytes."""
    cdef Py_ssize_t count = len(delimiters), i
    cdef Py_ssize_t total = sum(map(len, delimiters))
    cdef char *block = <char *>PyMem_Malloc(count * sizeof(fw_delimiter) + 256 + total)
    cdef uint8_t *at
    cdef bytes delimiter
    if block is NULL:
        raise MemoryError()
    wire.delimiters = <fw_delimiter *>block  # freed with the object
    wire.delimiter_count = count
    wire.begins = <uint8_t *>block + count * sizeof(fw_delimiter)
    memset(wire.begins, 0, 256)
    at = wire.begins + 256
    for i, delimiter in enumerate(sorted(delimiters, key=len, reverse=True)):
        if not 0 < len(delimiter) <= SEAM_ROOM // 2:
            raise ValueError(f"a delimiter of {len(delimiter)} bytes")  # the format was changed after it was made
        memcpy(at, PyBytes_AS_STRING(delimiter), len(delimiter))
        wire.delimiters[i].bytes = at
        wire.delimiters[i].size = len(delimiter)
        wire.begins[at[0]] = 1
        if delimiter == delimiters[0] and not wire.keep:
            wire.writes = wire.delimiters[i]
        at += len(delimiter)
    wire.longest = wire.delimiters[0].size
    return 0


cdef void free_format(fw_format *wire) noexcept:
    PyMem_Free(wire.delimiters)
    wire.delimiters = NULL


include "endpoint.pxi"
include "websocket.pxi"
include "pipe.pxi"
include "dropin_websockets.pxi"
include "dropin_wsproto.pxi"
