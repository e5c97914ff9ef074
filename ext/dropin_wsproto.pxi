# The compiled twin of ``framewire/dropin/_wsproto_py.py``, where strategy and rules stand. Included by ``_core_c.pyx``.
# What is particular here:
#
# - No Python code runs between the look at a header and its use, but an extension's: that meets `busy`, and what it
#   feeds waits behind the chunk in hand.
# - A payload is unmasked on its way to the memory of its final ``bytes``.

from libc.stdint cimport uint32_t

from websocket cimport *

cdef extern from "wire.h" nogil:
    uint64_t wsproto_load "fw_load"(const uint8_t *, int width, int little)

cdef extern from *:
    """
    /* type(values), for a type that is derived from tuple, without the call of its own __new__. */
    static inline PyObject *fw_tuple_of(PyObject *type, PyObject *arguments)
    {
        return PyTuple_Type.tp_new((PyTypeObject *)type, arguments, NULL);
    }
    """
    object wsproto_tuple "fw_tuple_of"(object, tuple)
    PyObject *wsproto_item "PyTuple_GET_ITEM"(tuple, Py_ssize_t)
    str wsproto_decode "PyUnicode_DecodeUTF8"(const char *, Py_ssize_t, const char *)
    bytearray wsproto_bytearray "PyByteArray_FromStringAndSize"(const char *, Py_ssize_t)
    uint8_t *wsproto_data "(uint8_t *)PyByteArray_AS_STRING"(bytearray)

cdef enum:
    WSPROTO_RSV = 0x70


cdef class WsprotoReader:
    """Turns chunks into the host's frames: `receive_bytes` takes, `process_buffer` gives one.

    A subclass has the methods ``_refused``, ``_inbound_header`` and ``_inbound_payload``.

    Args:
        client: Whether this is the client's end, to which nothing comes masked; to a server everything does.
        extensions: The host's extensions, in the order in which they are asked.
        frame: The host's ``Frame``, a tuple: opcode, payload, whether its frame is over, whether its message is.
        opcodes: The host's ``Opcode`` for each of the 16 values; None for those that are not allowed.
    """

    cdef public bint client
    cdef public object extensions
    cdef object frame
    cdef tuple opcodes
    cdef bytes data
    cdef Py_ssize_t pos
    cdef list pending  # chunks behind `data`
    cdef bint busy  # an extension is being asked, or __init__ has not been called
    cdef bint masked
    cdef int first  # byte of the header of the frame under way; -1: there is none
    cdef int opcode  # of its next part
    cdef uint32_t key  # for the next of its bytes
    cdef uint64_t left  # bytes of its payload that have not been delivered

    def __cinit__(self, *args, **kwargs):
        self.busy = True
        self.first = -1
        self.data = b""
        self.pending = []

    @cython.critical_section
    def __init__(self, client, extensions, frame, tuple opcodes not None):
        if self.frame is not None:
            raise RuntimeError("a decoder is made once")
        if not issubclass(frame, tuple) or len(opcodes) != 16:
            raise TypeError("frame must be a class derived from tuple, opcodes a tuple of 16")
        self.client = client
        self.extensions = extensions
        self.frame = frame
        self.opcodes = opcodes
        self.busy = False

    @cython.critical_section
    def receive_bytes(self, data):
        """Take a chunk of the stream."""
        if not PyBytes_CheckExact(data):
            data = b"" + data
        if self.pending or self.pos < PyBytes_GET_SIZE(self.data):
            self.pending.append(data)
        else:
            self.data = data
            self.pos = 0

    @cython.critical_section
    def process_buffer(self):
        """The next frame, or part of a data frame; None if more bytes are needed.

        Raises:
            ParseFailed: If the frame is not allowed; again by each further call.
        """
        payload = self.payload()
        return None if payload is None else self.deliver(payload, None)

    @cython.critical_section
    def process_message(self, messages):
        """As `process_buffer`; a frame of data has been through ``messages``, a ``MessageDecoder`` of the host."""
        payload = self.payload()
        if payload is None:
            return None
        if self.first & FW_CONTROL:
            return self.deliver(payload, None)
        opened = messages.opcode
        if opened is None:
            if self.opcode and not self.left and self.first >= FW_FIN:  # a message in one piece
                if self.opcode == FW_BINARY:
                    return self.deliver(payload, None)
                try:
                    return self.deliver(wsproto_decode(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), NULL), None)
                except UnicodeDecodeError:
                    pass  # the host has the words for it
        elif not self.opcode and messages.decoder is None:  # a further piece of a binary message
            if not self.left and self.first >= FW_FIN:
                messages.opcode = None
            return self.deliver(payload, opened)
        return messages.process_frame(self.deliver(payload, None))

    cdef object deliver(self, object payload, object opened):
        """The frame, or the part, with this payload; `opened` is the opcode of the message that it is a piece of."""
        cdef bint finished = not self.left, fin = self.first >= FW_FIN
        if opened is None:
            opened = <object>wsproto_item(self.opcodes, self.opcode)
        else:
            fin = fin and finished
        if finished:
            self.first = -1
        else:
            self.opcode = 0
        return wsproto_tuple(self.frame, ((opened, payload, finished, fin),))

    cdef bytes payload(self):
        """What there is of the payload of the frame under way; None if that is nothing yet."""
        cdef Py_ssize_t there
        cdef uint64_t size
        cdef bytes part
        cdef uint8_t *source
        if self.busy:
            raise RuntimeError("process_buffer() called from inside an extension")
        if self.first < 0:
            if PyBytes_GET_SIZE(self.data) - self.pos < FW_WS_HEADER_SIZE:
                self.join()
            if not self.begin():
                return None
        if <uint64_t>(PyBytes_GET_SIZE(self.data) - self.pos) < self.left:
            self.join()
        there = PyBytes_GET_SIZE(self.data) - self.pos
        size = min(<uint64_t>there, self.left)
        if size < self.left and (size == 0 or self.first & FW_CONTROL):
            return None
        if not self.masked and size == <uint64_t>PyBytes_GET_SIZE(self.data):
            part = self.data
        else:
            part = fresh_bytes(<Py_ssize_t>size)
            source = <uint8_t *>PyBytes_AS_STRING(self.data) + self.pos
            if self.masked:
                fw_mask(<uint8_t *>PyBytes_AS_STRING(part), source, size, self.key)
                self.key = fw_turn(self.key, size)
            else:
                memcpy(PyBytes_AS_STRING(part), source, size)
        self.pos += <Py_ssize_t>size
        self.left -= size
        if self.pos == PyBytes_GET_SIZE(self.data):
            self.data = b""
            self.pos = 0
            self.join()
        if self.extensions:
            self.busy = True
            try:
                part = self._inbound_payload(part, not self.left, self.first >= FW_FIN)
            finally:
                self.busy = False
        return part

    cdef bint begin(self) except -1:
        """Read a header; return whether it is whole."""
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(self.data) + self.pos
        cdef Py_ssize_t there = PyBytes_GET_SIZE(self.data) - self.pos
        cdef int first, second, code, head = 2
        cdef uint64_t size
        if there < 2:
            return False
        first = at[0]
        second = at[1]
        size = code = second & 0x7F
        if <object>wsproto_item(self.opcodes, first & FW_OPCODE) is None or (
            first & FW_CONTROL and (first < FW_FIN or code > FW_CONTROL_SIZE)
        ):
            return self.refuse(first, second, 0)
        if code > 125:
            head = 4 if code == 126 else 10
            if there < head:
                return False
            size = wsproto_load(at + 2, head - 2, 0)
            if size <= <uint64_t>(125 if code == 126 else 65535) or size >> 63:
                return self.refuse(first, second, size)
        if self.extensions:
            self.busy = True
            try:
                self._inbound_header(first, size)
            finally:
                self.busy = False
        elif first & WSPROTO_RSV:
            return self.refuse(first, second, size)
        if (second >= FW_MASKED) == self.client:
            return self.refuse(first, second, size)
        self.masked = second >= FW_MASKED
        if self.masked:
            if there < head + 4:
                return False
            memcpy(&self.key, at + head, 4)
            head += 4
        self.pos += head
        self.first = first
        self.opcode = first & FW_OPCODE
        self.left = size
        return True

    cdef bint refuse(self, int first, int second, uint64_t size) except -1:
        self._refused(first, second, size)
        return False  # whatever has been done meanwhile, the header must be read anew

    cdef int join(self) except -1:
        """Put what has come later behind `data`."""
        if self.pending:
            self.data = self.data[self.pos :] + b"".join(self.pending)
            self.pos = 0
            self.pending.clear()
        return 0

    def _refused(self, first, second, size):
        """Raise for a header that begins with these two bytes; the size is 0 if it is not known yet."""
        raise NotImplementedError

    def _inbound_header(self, first, size):
        """Ask the extensions for a header; raise if one of them refuses it."""
        raise NotImplementedError

    def _inbound_payload(self, payload, finished, fin):
        """What the extensions make of a part of a payload; `finished` if it is the last one of its frame."""
        raise NotImplementedError


cdef uint32_t wsproto_key(bytes key) except? 0:
    cdef uint32_t value
    if PyBytes_GET_SIZE(key) != 4:
        raise ValueError(f"a masking key has 4 bytes, not {len(key)}")
    memcpy(&value, PyBytes_AS_STRING(key), 4)
    return value


def wsproto_frame(int first, payload, bytes key):
    """A frame: the first byte as given, the payload masked if there is a key."""
    cdef uint8_t header[FW_WS_HEADER_SIZE]
    cdef uint8_t *to
    cdef size_t head
    cdef Py_buffer view
    cdef uint32_t number = 0 if key is None else wsproto_key(key)
    cdef bytearray frame
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        head = fw_ws_write(header, <uint8_t>first, view.len, NULL if key is None else <uint8_t *>&number)
        frame = wsproto_bytearray(NULL, head + view.len)
        to = wsproto_data(frame)
        memcpy(to, header, head)
        if key is None:
            memcpy(to + head, view.buf, view.len)
        else:
            fw_mask(to + head, <const uint8_t *>view.buf, view.len, number)
    finally:
        PyBuffer_Release(&view)
    return frame


def wsproto_mask(data, bytes key not None):
    """The bytes XOR the four bytes of the key, over and over."""
    cdef uint32_t number = wsproto_key(key)
    cdef Py_buffer view
    cdef bytearray masked
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        masked = wsproto_bytearray(NULL, view.len)
        fw_mask(wsproto_data(masked), <const uint8_t *>view.buf, view.len, number)
    finally:
        PyBuffer_Release(&view)
    return masked
