# The compiled twin of ``framewire/_websocket_py.py``, where strategy and rules stand. Included by ``_core_c.pyx``.
# What is particular here:
#
# - Messages that stand whole in a chunk, in one frame each, go through a loop of their own: header, object, unmasked
#   copy. All else, and everything that looks wrong there, is done again by the general way, frame by frame.
# - A text is first taken for ASCII, and unmasked into a ``str`` of that kind. If it was none, those bytes are decoded.
# - When something is wrong, the reference is asked what: errors are the same, field by field.
# - Compressed messages, parts, control frames: what comes of them is made by the reference's own means.

from libc.stdint cimport uint32_t

from websocket cimport *

import os
from importlib import import_module

from framewire._wire import flat
from framewire.errors import FrameTooLarge, PayloadError

cdef object py = None  # framewire._websocket_py: loaded for the first decoder or encoder, since few programs need it


cdef int load_reference() except -1:
    global py
    if py is None:
        py = import_module("framewire._websocket_py")
    return 0


cdef extern from "Python.h":
    PyObject *new_text "PyUnicode_DecodeUTF8"(const char *, Py_ssize_t, const char *)
    void PyErr_Clear()
    bint PyUnicode_IS_ASCII(object)
    uint8_t *ascii_data "PyUnicode_1BYTE_DATA"(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)

fw_choose_mask()


cdef class MessageDecoder(_Stream):
    r"""Turns a stream of WebSocket frames into messages: text as ``str``, anything else as ``bytes``.

    >>> decoder = MessageDecoder("client")
    >>> decoder.feed(b"\x81\x05hello\x01\x03wor")
    ['hello']
    >>> decoder.feed(b"\x89\x00\x80\x02ld\x88\x02\x03\xe8")
    [Ping(payload=b''), 'world', Close(code=1000, reason='')]

    The result is the same for every chunking. When a frame is wrong, the messages before it come out first; then every
    call raises the same error, and `error` shows it at once. What is wrong is found at the first byte that shows it:
    in a header, in text, in compressed data. (If a compressed frame is damaged and its text is no UTF-8 either, the
    `reason` may name the one or the other.) A decoder is for one thread at a time, and a call from inside one of its
    own calls is a `RuntimeError`.

    Args:
        role: Whose decoder it is: a ``"server"`` reads masked frames, a ``"client"`` frames that are not.
        max_size: Most bytes in a message, decompressed: checked on the headers, and while it is decompressed.
            16 MiB unless given; None lifts the limit.
        max_frame_size: Most bytes in the payload of a frame; None for as many as a message may have.
        deflate: What was agreed on about compression; None if nothing was.
        parts: Hand data out as it comes, as `Part`, and put no messages together.
        long_lengths: Accept lengths in more bytes than they need, and lengths whose highest bit is set. Section 5.2
            forbids them, but some libraries let them pass.

    Raises:
        ValueError, TypeError: If an argument makes no sense.
    """

    cdef fw_ws_rules rules
    cdef object _role
    cdef object _max_size
    cdef object _max_frame_size
    cdef object _deflate
    cdef object inflate
    cdef bint parts
    cdef bint _closed
    cdef Py_ssize_t guess  # messages that the last call found
    # The unfinished frame. The payload on its way, if there is one, is the message's.
    cdef uint8_t header[FW_WS_HEADER_SIZE]
    cdef Py_ssize_t header_have  # what has come of a header that is not whole
    cdef Py_ssize_t header_size  # of the frame whose payload has not come, or not all of it; 0 if there is none
    cdef fw_ws_header frame
    cdef Py_ssize_t have  # what has come of its payload
    cdef uint8_t control[FW_CONTROL_SIZE]  # the same, of a control frame
    # The unfinished message.
    cdef Py_ssize_t size  # what has come of it, or was handed out in parts
    cdef fw_utf8 text  # how far it is UTF-8
    cdef object text_decoder  # the same, where it is handed out in parts

    @cython.critical_section
    def __init__(
        self,
        role,
        *,
        max_size=DEFAULT_MAX_SIZE,
        max_frame_size=None,
        deflate=None,
        parts=False,
        long_lengths=False,
    ):
        self.claim()
        try:
            self.make(role, max_size, max_frame_size, deflate, parts, long_lengths)
            self.gate &= ~UNMADE
        finally:
            self.gate &= ~BUSY

    @cython.final
    cdef int make(self, role, max_size, max_frame_size, deflate, parts, long_lengths) except -1:
        load_reference()
        py.check_role(role)
        py.check_deflate(deflate)
        limit = py.check_limit("max_size", max_size)
        self.rules.frame_limit = py.check_limit("max_frame_size", max_frame_size)
        self.rules.limit = limit
        self.rules.wire_limit = py.wire_limit(limit)
        self.rules.masked = FW_MASKED if role == "server" else 0
        self.rules.long_lengths = bool(long_lengths)
        self.rules.compression = deflate is not None
        self._role = role
        self._max_size = max_size
        self._max_frame_size = max_frame_size
        self._deflate = deflate
        self.parts = bool(parts)
        self.new_inflate()
        return 0

    cdef int new_inflate(self) except -1:
        if self._deflate is not None:
            self.inflate = self._deflate.decompressor("client" if self._role == "server" else "server")
        return 0

    cdef void drop(self) noexcept:
        """Forget the unfinished frame and the unfinished message."""
        self.header_have = 0
        self.header_size = 0
        self.have = 0
        self.end_message()

    @cython.final
    cdef void end_message(self) noexcept:
        self.rules.opened = 0
        self.rules.compressed = 0
        self.rules.done = 0
        self.size = 0
        memset(&self.text, 0, sizeof(fw_utf8))
        self.text_decoder = None
        _Stream.drop(self)

    @property
    def role(self):
        """``"server"`` or ``"client"``: whose decoder it is."""
        return self._role

    @property
    def max_size(self):
        """The limit of a message, as it was given."""
        return self._max_size

    @property
    def max_frame_size(self):
        """The limit of a frame, as it was given."""
        return self._max_frame_size

    @property
    def deflate(self):
        """What was agreed on about compression, as it was given."""
        return self._deflate

    @property
    @cython.critical_section
    def error(self):
        """What ended the stream, as soon as it is known: a `FramingError`, or a MemoryError that lost bytes.
        None while all is well."""
        self.check_torn()
        return self._error

    @property
    def closed(self):
        """Whether a `Close` has come. What comes behind it is dropped."""
        return self._closed

    @property
    def buffered_size(self):
        """Bytes that have come of the unfinished frame, its header included."""
        return self.received - self.frame_offset

    @property
    def needed_size(self):
        """Bytes that must still come before there can be a message, as far as it is known: the rest of the header, then
        the rest of the frame. Reading so many at a time never reads past a frame. 0 once the stream is over."""
        if self.gate & (FAILED | ENDED) or self._closed:
            return 0
        return self.missing_size()

    @cython.critical_section
    def feed(self, chunk, /):
        """Take a chunk of the stream; return the messages that it completes.

        Args:
            chunk: Any contiguous bytes-like object, of any size. It is not kept.

        Returns:
            The messages and control frames in order, often none: ``str``, ``bytes``, `Ping`, `Pong`, `Close`; with
            ``parts=True`` `Part` for the first two.

        Raises:
            HeaderError, PayloadError, FrameTooLarge: When everything before the wrong frame is out.
            RuntimeError: After `feed_eof`.
        """
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
            self.gate &= ~BUSY

    @cython.critical_section
    def get_buffer(self, hint=-1):
        """Lend a window to receive into: ``n = sock.recv_into(decoder.get_buffer())``, then `buffer_updated`.

        A payload over 64 KiB is received where its final object will be, and unmasked there. `buffer_updated` takes the
        window back and releases it; a slice of it that is kept costs a copy, and never changes a message. The names and
        rules are those of ``asyncio.BufferedProtocol``.

        Args:
            hint: Most bytes wanted; -1 leaves the size to the decoder.

        Returns:
            A writable ``memoryview``, never empty, valid until the next call of any method. Its content is undefined.

        Raises:
            HeaderError, PayloadError, FrameTooLarge, RuntimeError: As `feed`.
        """
        cdef Py_ssize_t wanted
        self.enter()
        try:
            wanted = PyNumber_AsSsize_t(hint, NULL)
            self.gate |= TORN
            self.take_back()
            window = self.lend(self.direct(), wanted, <Py_ssize_t>self.frame.size - self.have)
            self.gate &= ~TORN
            return window
        finally:
            self.gate &= ~BUSY

    @cython.critical_section
    def buffer_updated(self, n, /):
        """Say that `n` bytes were received into the window; return the messages that they complete.

        Raises:
            ValueError: If `n` is negative or more than the window holds; the window stays lent.
            HeaderError, PayloadError, FrameTooLarge, RuntimeError: As `feed`; RuntimeError if no window is lent.
        """
        cdef Py_ssize_t size
        cdef _Window scratch
        self.enter()
        try:
            size = self.lent(n)
            if self.view_direct:
                return self.take_direct(size)
            scratch = self.scratch
            self.gate |= TORN
            self.take_back()
            if size < self.view_size:
                self.scratch = None  # the stream has fallen quiet: give the memory back
            return self.take(<const uint8_t *>bytes_data(<PyObject *>scratch.owner), size)
        finally:
            self.gate &= ~BUSY

    @cython.critical_section
    def feed_eof(self):
        """Say that the stream has ended.

        Returns:
            An empty list.

        Raises:
            IncompleteFrame: If the stream ended inside a frame, or between the fragments of a message.
            HeaderError, PayloadError, FrameTooLarge: As `feed`.
        """
        if self.gate == ENDED:
            return []
        self.enter()
        try:
            self.gate |= TORN
            self.take_back()
            self.scratch = None
            self.gate &= ~TORN
            if self.header_have or self.header_size or self.rules.opened:
                self.fail(self.incomplete())
            self.gate |= ENDED
            self.raise_error()
            return []
        finally:
            self.gate &= ~BUSY

    @cython.critical_section
    def reset(self):
        """Begin a new stream: forget what was received, the error and the end."""
        if self.gate & (BUSY | UNMADE):
            self.refuse_entry()
        self.gate |= BUSY
        try:
            self.new_inflate()
        finally:
            self.gate &= ~BUSY
        self._closed = False
        self.start_over()  # at the end of which code of others may run

    def __sizeof__(self):
        """Bytes of memory in use, what is reserved for messages included."""
        return object.__sizeof__(self) + self.body.capacity + (0 if self.scratch is None else FW_WINDOW_SIZE)

    def __repr__(self):
        return f"MessageDecoder({self._role!r}, max_size={self._max_size})"

    @cython.final
    cdef inline int enter(self) except -1:
        """The gate of every method: one call at a time, none after the end."""
        if self.gate:
            self.refuse_entry()
        self.gate = BUSY
        return 0

    @cython.final
    cdef list take(self, const uint8_t *data, Py_ssize_t size):
        """Run a chunk through header, payload, header, payload, ..., up to its end, an error or a close frame."""
        cdef list messages = None
        self.gate |= TORN
        if self.view is not None:
            self.take_back()
        self.received += size
        if self._closed:
            self.frame_offset = self.received
        else:
            messages = self.walk(data, size)
        if messages is None:
            messages = fw_nothing(&spare)
        self.gate &= ~TORN
        if self.gate & FAILED and not messages:
            self.raise_error()
        return messages

    @cython.final
    cdef list walk(self, const uint8_t *data, Py_ssize_t size):
        """The messages of a chunk; None if there are none."""
        cdef int64_t base = self.received - size
        cdef Py_ssize_t pos = 0, there, header, piece
        cdef list messages = None
        while pos < size:
            if not self.header_size:
                if not self.header_have:
                    if not self.rules.opened and not self.parts:
                        messages = self.walk_whole(data, size, &pos, messages)
                        if pos == size:
                            break
                    self.frame_offset = base + pos
                there = min(<Py_ssize_t>FW_WS_HEADER_SIZE - self.header_have, size - pos)
                memcpy(self.header + self.header_have, data + pos, there)
                header = fw_ws_check(&self.rules, self.header, self.header_have + there, &self.frame)
                if header < 0:
                    self.refuse_header(self.header_have + there)
                    break
                if header == 0:
                    self.header_have += there
                    return messages
                pos += header - self.header_have
                self.header_have = 0
                self.begin(header)
            piece = <Py_ssize_t>min(<uint64_t>(size - pos), self.frame.size - <uint64_t>self.have)
            messages = self.take_piece(data + pos, piece, messages)
            pos += piece
            if self.gate & FAILED or self._closed:
                break
        if not self.header_size and not self.header_have:
            self.frame_offset = self.received
        return messages

    @cython.final
    cdef list walk_whole(self, const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos, list messages):
        """The messages that stand whole in the chunk, one in each frame, as long as nothing else comes."""
        cdef PyObject *put = NULL if messages is None else <PyObject *>messages
        cdef Py_ssize_t end = pos[0] + fw_put_messages(&self.rules, data + pos[0], size - pos[0], self.guess, &put)
        if messages is None and put is not NULL:
            messages = <list>steal(put)
        if messages is not None:
            self.guess = len(messages)
        self.body.moved += end - pos[0]
        pos[0] = end
        return messages

    @cython.final
    cdef int begin(self, Py_ssize_t header) except -1:
        """A header is whole: what follows is payload."""
        cdef int opcode = self.frame.first & FW_OPCODE
        cdef bint known
        self.header_size = header
        self.have = 0
        if opcode & FW_CONTROL:
            return 0
        if not self.rules.opened:
            self.rules.compressed = self.frame.first & FW_RSV1
            if not self.parts:
                known = self.frame.first & FW_FIN and not self.rules.compressed
                fw_start_body(&self.body, <Py_ssize_t>self.frame.size if known else -1, 0)
            elif opcode == FW_TEXT:
                self.text_decoder = py._Text()
            self.rules.opened = opcode
        self.rules.done += self.frame.size
        return 0

    @cython.final
    cdef list take_piece(self, const uint8_t *data, Py_ssize_t size, list messages):
        """Bytes of the payload of the unfinished frame; perhaps its last ones, perhaps none."""
        cdef uint32_t key = fw_turn(self.frame.key, self.have)
        cdef bint last = <uint64_t>(self.have + size) == self.frame.size
        cdef bint final = last and self.frame.first & FW_FIN
        if self.frame.first & FW_CONTROL:
            fw_mask(self.control + self.have, data, size, key)
        elif self.parts or self.rules.compressed:
            messages = self.take_data(unmasked(data, size, key), final, messages)
        else:
            if size > self.body.capacity - self.body.have:
                fw_reserve(&self.body, self.body.have + size)
            fw_mask(<uint8_t *>bytes_data(self.body.bytes) + self.body.have, data, size, key)
            self.body.have += size
            self.body.moved += size
            self.check_text(size, final)
        if self.gate & FAILED:
            return messages
        self.have += size
        return self.finish_frame(messages) if last else messages

    @cython.final
    cdef list take_direct(self, Py_ssize_t size):
        """`size` bytes of the payload of the unfinished frame have been received where they stay."""
        cdef uint8_t *data
        cdef list messages = None
        cdef bint last
        self.gate |= TORN
        self.received += size
        self.body.have += size
        self.take_back()
        data = <uint8_t *>bytes_data(self.body.bytes) + self.body.have - size
        fw_mask(data, data, size, fw_turn(self.frame.key, self.have))
        self.have += size
        last = <uint64_t>self.have == self.frame.size
        self.check_text(size, last and self.frame.first & FW_FIN)
        if last and not self.gate & FAILED:
            messages = self.finish_frame(messages)
            self.frame_offset = self.received
        if messages is None:
            messages = fw_nothing(&spare)
        self.gate &= ~TORN
        if self.gate & FAILED and not messages:
            self.raise_error()
        return messages

    @cython.final
    cdef int check_text(self, Py_ssize_t size, bint final) except -1:
        """`size` more bytes of the message have come. May they be UTF-8, if they are text? Of the last ones the decoder
        will tell."""
        self.size += size
        if self.rules.opened == FW_TEXT and not final:
            if not fw_utf8_check(&self.text, <uint8_t *>bytes_data(self.body.bytes) + self.body.have - size, size):
                self.refuse(py.not_utf8(<object>self.text.start))
        return 0

    @cython.final
    cdef list take_data(self, bytes data, bint final, list messages):
        """Bytes of a message that is compressed, or handed out in parts; unmasked."""
        self.body.moved += len(data)
        if self.rules.compressed:
            data = self.decompressed(data, final)
            if data is None:
                return messages
        if not self.parts:
            fw_append(&self.body, <const uint8_t *>PyBytes_AS_STRING(data), len(data))
            self.check_text(len(data), final)
            return messages
        self.size += len(data)
        part = data
        if self.text_decoder is not None:
            part = py.caught(self.text_decoder.decode, data, final=final)
            if isinstance(part, py.Wrong):
                self.refuse(part)
                return messages
        return with_message(messages, py.Part(part, bool(final))) if part or final else messages

    @cython.final
    cdef bytes decompressed(self, bytes data, bint final):
        """What compressed data comes to; None if it is refused."""
        limit = <object>self.rules.limit
        room = limit - <object>self.size
        made = self.inflate.decompress(data, room, final=final)
        if made is None:
            self.refuse(py.Wrong(PayloadError, "the compressed data of a message is damaged"))
        elif len(made) > room:
            self.refuse(py.Wrong(FrameTooLarge, limit + 1, limit))
            made = None
        return made

    @cython.final
    cdef list finish_frame(self, list messages):
        """The last byte of a frame has come."""
        cdef int opcode = self.frame.first & FW_OPCODE
        cdef bytes payload
        if opcode & FW_CONTROL:
            payload = self.control[: self.frame.size]
            if opcode == FW_CLOSE:
                close = py.caught(py.close_of, payload)
                if isinstance(close, py.Wrong):
                    self.refuse(close)
                    return messages
                messages = with_message(messages, close)
                self._closed = True
                self.drop()
            else:
                messages = with_message(messages, (py.Ping if opcode == FW_PING else py.Pong)(payload))
        elif self.frame.first & FW_FIN:
            if not self.parts:
                message = self.finish_message()
                if message is None:
                    return messages
                messages = with_message(messages, message)
            self.end_message()
        self.header_size = 0
        return messages

    @cython.final
    cdef object finish_message(self):
        """The message; None if it is refused."""
        cdef PyObject *body
        cdef const uint8_t *data
        if self.rules.opened == FW_TEXT:
            data = <const uint8_t *>bytes_data(self.body.bytes)
            body = new_text(<const char *>data, self.body.have, NULL)
            if body is NULL:
                PyErr_Clear()
                if fw_utf8_check(&self.text, data + self.text.size, self.body.have - self.text.size):
                    if not self.text.left:
                        raise MemoryError()
                self.refuse(py.not_utf8(<object>self.text.start))
                return None
            return steal(body)
        return steal(fw_end_body(&self.body))

    @cython.final
    cdef inline bint direct(self) noexcept:
        """Whether what comes next can be received where it stays."""
        return (
            self.header_size
            and not self.frame.first & FW_CONTROL
            and not self.rules.compressed
            and not self.parts
            and self.frame.size > <uint64_t>FW_WINDOW_SIZE
        )

    @cython.final
    cdef Py_ssize_t missing_size(self) noexcept:
        """Bytes still to come in the part of the frame that is being received."""
        cdef Py_ssize_t least
        if self.header_size:
            return <Py_ssize_t>self.frame.size - self.have
        least = 6 if self.rules.masked else 2
        if self.header_have > 1:
            least = <Py_ssize_t>fw_ws_header_size(self.header[1])
        return least - self.header_have

    @cython.final
    cdef int refuse_header(self, Py_ssize_t there) except -1:
        """The reference says why."""
        cdef bytes data = self.header[:there]
        rules = py.Rules(
            bool(self.rules.masked),
            bool(self.rules.long_lengths),
            bool(self.rules.compression),
            <object>self.rules.frame_limit,
            <object>self.rules.limit,
            self.rules.opened,
            bool(self.rules.compressed),
            <object>self.rules.done,
        )
        wrong = py.caught(rules.read, data)
        if not isinstance(wrong, py.Wrong):
            raise SystemError(f"the cores disagree about the header {data!r}")
        self.fail(wrong.kind(*wrong.fields, <object>self.frame_offset, data))
        return 0

    @cython.final
    cdef int refuse(self, wrong) except -1:
        """The payload of the unfinished frame cannot be accepted."""
        cdef bytes head = self.header[: self.header_size]
        self.fail(wrong.kind(*wrong.fields, <object>self.frame_offset, head))
        return 0

    @cython.final
    cdef object incomplete(self):
        cdef bytes head
        if self.header_size:
            part, head = "payload", self.header[: self.header_size]
        elif self.header_have:
            part, head = "header", self.header[: self.header_have]
        else:
            return IncompleteFrame("message", <object>self.size, None, <object>self.frame_offset)
        received = <object>(self.received - self.frame_offset)
        return IncompleteFrame(part, received, <object>self.missing_size(), <object>self.frame_offset, head)


cdef class MessageEncoder:
    r"""Turns messages into WebSocket frames: ``str`` into text, bytes-like objects into binary messages.

    >>> encoder = MessageEncoder("server")
    >>> encoder.encode("hello")
    b'\x81\x05hello'
    >>> encoder.encode_many([b"one", "two"])
    b'\x82\x03one\x81\x03two'
    >>> encoder.close(1000, "bye")
    b'\x88\x05\x03\xe8bye'

    A client masks what it sends, each frame with a key of its own. A message over `max_size` is refused, and then
    nothing is written. An encoder is for one thread at a time; what it makes has to be sent in that order where it
    compresses, or sends in parts.

    Args:
        role: Who sends: a ``"server"`` or a ``"client"``.
        max_size: Most bytes in a message, before it is compressed. 16 MiB unless given; None lifts the limit.
        deflate: What was agreed on about compression; None if nothing was.
        mask_key: Called for each frame of a client; returns the four bytes of a key. The randomness of the operating
            system unless given.

    Raises:
        ValueError, TypeError: If an argument makes no sense.
    """

    cdef object __weakref__
    cdef object reference  # an encoder of the pure core, for everything but whole messages sent as they are
    cdef object _max_size
    cdef uint64_t limit
    cdef bint masks
    cdef bint plain  # there is no compression
    cdef bint opened  # a message is being sent in parts
    cdef object mask_key  # what the caller gave
    cdef bytes keys  # of the system's randomness
    cdef Py_ssize_t keys_used
    cdef int64_t keys_of  # which process they are for

    @cython.critical_section
    def __init__(self, role, *, max_size=DEFAULT_MAX_SIZE, deflate=None, mask_key=None):
        load_reference()
        reference = py.MessageEncoder(role, max_size=max_size, deflate=deflate, mask_key=mask_key)
        limit = py.check_limit("max_size", max_size)
        if self.reference is not None:
            raise RuntimeError("a MessageEncoder is made once")
        self.reference = reference
        self.limit = limit
        self._max_size = max_size
        self.masks = role == "client"
        self.plain = deflate is None
        self.mask_key = mask_key

    @property
    def role(self):
        """``"server"`` or ``"client"``: who sends."""
        return self.checked().role

    @property
    def max_size(self):
        """The limit of a message, as it was given."""
        return self._max_size

    @property
    def deflate(self):
        """What was agreed on about compression, as it was given."""
        return self.checked().deflate

    @cython.critical_section
    def encode(self, message, /, *, compress=True):
        """The frame of one message.

        Args:
            message: ``str`` for a text; any contiguous bytes-like object for anything else.
            compress: False leaves it as it is, even if compression was agreed on: for what is compressed already.

        Raises:
            FrameTooLarge: If it is over the limit.
            UnicodeEncodeError: If a text has surrogates in it, which UTF-8 has not.
            RuntimeError: While a message is sent in parts.
        """
        if self.opened or (compress and not self.plain):
            return self.checked().encode(message, compress=compress)
        self.checked()
        return self.encode_one(message)

    @cython.critical_section
    def encode_many(self, messages, /, *, compress=True):
        """The frames of many messages, one behind the other in one ``bytes``.

        Raises:
            FrameTooLarge, UnicodeEncodeError, RuntimeError: As `encode`, for the first message that cannot be sent;
                nothing is written.
        """
        if self.opened or (compress and not self.plain):
            return self.checked().encode_many(messages, compress=compress)
        cdef list items = []
        cdef bytearray opcodes = bytearray()
        self.checked()
        for message in messages:
            if self.opened:
                self.reference.encode(message)  # which says that it cannot be
            opcodes.append(FW_TEXT if isinstance(message, str) else FW_BINARY)
            if not is_plain(message):
                # What may be changed before the next is drawn is copied.
                message = (<str>message).encode() if isinstance(message, str) else flat(message)
            self.check_size(plain_size(message))
            items.append(message)
        return self.join(items, opcodes)

    @cython.critical_section
    def encode_parts(self, message, /, *, compress=True):
        """The frame in parts, for ``sock.sendmsg(parts)``: what a server sends uncompressed is never copied.

        Returns:
            The header and the payload: the very object, if it is sent as it is; it must not change until then.

        Raises:
            FrameTooLarge, UnicodeEncodeError, RuntimeError: As `encode`.
        """
        return self.checked().encode_parts(message, compress=compress)

    @cython.critical_section
    def encode_part(self, data, /, *, final=False):
        """A fragment of a message whose size need not be known. The first one tells text from anything else.

        Args:
            data: The same kind in all parts of a message.
            final: Whether it is the last part.

        Raises:
            TypeError: If the parts of a message are not of one kind.
            FrameTooLarge: If the message is over the limit; this part is not sent.
        """
        try:
            return self.checked().encode_part(data, final=final)
        finally:
            self.opened = self.reference is not None and self.reference._opened != 0

    def ping(self, payload=b"", /):
        """A ping, which the peer answers with a pong of the same payload; allowed between the parts of a message.

        Raises:
            ValueError: If the payload has more than 125 bytes.
        """
        return self.checked().ping(payload)

    def pong(self, payload=b"", /):
        """A pong: as `ping`."""
        return self.checked().pong(payload)

    def close(self, code=1005, reason="", /):
        """A close frame: nothing may be sent after it.

        Args:
            code: Why (section 7.4): 1000 to 1003, 1007 to 1014, 3000 to 4999; 1005 sends none.
            reason: For people who look for faults: at most 123 bytes of UTF-8.

        Raises:
            ValueError: If the code must not be sent, or the reason is too long, or there is a reason without a code.
        """
        return self.checked().close(code, reason)

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r}: its stream has one")

    def __repr__(self):
        return f"MessageEncoder({self.checked().role!r}, max_size={self._max_size})"

    @cython.final
    cdef object checked(self):
        """The reference."""
        if self.reference is None:
            raise RuntimeError("the MessageEncoder was not initialised")
        return self.reference

    @cython.final
    cdef object encode_one(self, message):
        cdef Py_buffer view
        cdef PyObject *frame = NULL
        if is_plain(message):
            self.frame(
                plain_data(message), plain_size(message), FW_TEXT if type(message) is str else FW_BINARY, &frame
            )
        elif isinstance(message, str):
            message = (<str>message).encode()
            self.frame(<const uint8_t *>PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), FW_TEXT, &frame)
        else:
            PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
            try:
                self.frame(start_of(&view), view.len, FW_BINARY, &frame)
            finally:
                PyBuffer_Release(&view)
        return steal(frame)

    @cython.final
    cdef int frame(self, const uint8_t *data, Py_ssize_t size, int opcode, PyObject **frame) except -1:
        """One frame, as a new reference."""
        cdef uint8_t key[4]
        cdef Py_ssize_t header
        self.check_size(size)
        if self.masks:
            self.next_key(key)
        header = frame_size(size, self.masks) - size
        frame[0] = PyBytes_FromStringAndSize(NULL, header + size)
        if frame[0] is NULL:
            raise MemoryError()
        write_frame(<uint8_t *>bytes_data(frame[0]), opcode, data, size, key if self.masks else NULL)
        return 0

    @cython.final
    cdef object join(self, list items, bytearray opcodes):
        """The frames of messages that nobody else can change, in lists that are nobody else's."""
        cdef Py_ssize_t total = 0, size, i
        cdef uint8_t key[4]
        cdef uint8_t *at
        cdef bytes joined
        for item in items:
            size = frame_size(plain_size(item), self.masks)
            if size > PY_SSIZE_T_MAX - total:
                raise MemoryError()
            total += size
        joined = <bytes>steal(PyBytes_FromStringAndSize(NULL, total))
        at = <uint8_t *>PyBytes_AS_STRING(joined)
        for i, item in enumerate(items):
            if self.masks:
                self.next_key(key)  # a caller's own code may run here, and has no way to any of these objects
            at += write_frame(
                at, opcodes[i], plain_data(item), plain_size(item), key if self.masks else NULL
            )
        return joined

    @cython.final
    cdef int check_size(self, Py_ssize_t size) except -1:
        if <uint64_t>size > self.limit:
            raise FrameTooLarge(size, <object>self.limit)
        return 0

    @cython.final
    cdef int next_key(self, uint8_t *key) except -1:
        cdef bytes made
        if self.mask_key is not None:
            made = py.checked_key(self.mask_key())
            memcpy(key, PyBytes_AS_STRING(made), 4)
            return 0
        if self.keys is None or self.keys_used == PyBytes_GET_SIZE(self.keys) or self.keys_of != process:
            self.keys = os.urandom(py.KEYS_SIZE)
            self.keys_used = 0
            self.keys_of = process
        memcpy(key, PyBytes_AS_STRING(self.keys) + self.keys_used, 4)
        self.keys_used += 4
        return 0


def mask(data, key, offset=0):
    r"""Mask or unmask: byte i XOR byte ``(offset + i) % 4`` of the key (RFC 6455, section 5.3).

    >>> mask(mask(b"hello", b"7\xfa!="), b"7\xfa!=")
    b'hello'

    Args:
        data: Any contiguous bytes-like object.
        key: Four bytes.
        offset: Where in the payload `data` begins.

    Raises:
        ValueError: If the key has not four bytes, or the offset is negative.
    """
    cdef Py_buffer source, keys
    cdef uint32_t turned = 0
    offset = index(offset)
    if offset < 0:
        raise ValueError(f"offset must be 0 or more, not {offset}")
    PyObject_GetBuffer(key, &keys, PyBUF_SIMPLE)
    try:
        if keys.len != 4:
            raise ValueError(f"key must have 4 bytes, not {keys.len}")
        memcpy(&turned, keys.buf, 4)
    finally:
        PyBuffer_Release(&keys)
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    try:
        return unmasked(start_of(&source), source.len, fw_turn(turned, <size_t>(offset & 3)))
    finally:
        PyBuffer_Release(&source)


cdef int64_t process = 0  # counts the forks that led to this one


def _forked():
    global process
    process += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


cdef bytes unmasked(const uint8_t *data, Py_ssize_t size, uint32_t key):
    cdef bytes made = <bytes>steal(PyBytes_FromStringAndSize(NULL, size))
    if size:  # what is empty is shared by all
        fw_mask(<uint8_t *>PyBytes_AS_STRING(made), data, size, key)
    return made


cdef list with_message(list messages, message):
    if messages is None:
        return [message]
    messages.append(message)
    return messages


cdef inline bint is_plain(message) noexcept:
    """Whether what will be sent lies ready in it, and nobody can change it."""
    return PyBytes_CheckExact(message) or (type(message) is str and PyUnicode_IS_ASCII(message))


cdef inline const uint8_t *plain_data(message) noexcept:
    return <const uint8_t *>PyBytes_AS_STRING(message) if PyBytes_CheckExact(message) else ascii_data(message)


cdef inline Py_ssize_t plain_size(message) noexcept:
    return PyBytes_GET_SIZE(message) if PyBytes_CheckExact(message) else PyUnicode_GET_LENGTH(message)


cdef inline Py_ssize_t frame_size(Py_ssize_t size, bint masks) noexcept:
    return size + (2 if size < 126 else 4 if size < 65536 else 10) + (4 if masks else 0)


cdef inline Py_ssize_t write_frame(
    uint8_t *to, int opcode, const uint8_t *data, Py_ssize_t size, const uint8_t *key
) noexcept:
    cdef uint32_t turned = 0
    cdef size_t header = fw_ws_write(to, FW_FIN | opcode, size, key)
    if key is NULL:
        fw_copy(to + header, data, size)
    else:
        memcpy(&turned, key, 4)
        fw_mask(to + header, data, size, turned)
    return <Py_ssize_t>header + size
