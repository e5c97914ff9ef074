# The compiled twin of ``framewire/dropin/_websockets_py.py``, where strategy and rules stand. Included by ``_core_c.pyx``.
# What is particular here:
#
# - The reader's bytearray is exported while frames are found in it: whatever Python code runs in between (a source of
#   keys, a finalizer), the bytes stay where they are.
# - A Frame is made without its ``__init__``, attribute by attribute, when it is no more than the host's own dataclass.

import secrets as _secrets

from libc.stdint cimport uint32_t

from websocket cimport *

from cpython.object cimport PyTypeObject

cdef extern from "wire.h" nogil:
    uint64_t host_load "fw_load"(const uint8_t *, int width, int little)

cdef extern from "Python.h":
    PyObject *host_new "PyBaseObject_Type.tp_new"(PyTypeObject *, object, PyObject *) except NULL
    bytearray host_bytearray "PyByteArray_FromStringAndSize"(const char *, Py_ssize_t)
    char *host_start "PyByteArray_AS_STRING"(bytearray)
    Py_ssize_t host_size "PyByteArray_GET_SIZE"(bytearray)
    int host_resize "PyByteArray_Resize"(bytearray, Py_ssize_t) except -1
    int host_delete "PySequence_DelSlice"(object, Py_ssize_t, Py_ssize_t) except -1
    long long host_number "PyLong_AsLongLongAndOverflow"(object, int *) except? -1

cdef enum host_look:  # what is at the beginning of some bytes
    HOST_WHOLE  # a frame
    HOST_PART  # less than that
    HOST_OTHER  # what the host reads itself: it knows what to raise

cdef struct host_found:
    uint64_t size  # of the payload
    Py_ssize_t header_size
    uint8_t first


cdef host_look host_find(const uint8_t *p, Py_ssize_t there, bint masked, bint extended, uint64_t limit,
                         host_found *found) noexcept nogil:
    """Look at a header, as far as it has come."""
    cdef uint8_t code
    cdef Py_ssize_t size
    found.header_size = 0
    if there < 2:
        return HOST_PART
    found.first = p[0]
    code = p[1] & 0x7F
    if (p[1] >= 0x80) != masked or (p[0] & 0x70 and not extended) or (p[0] & 0x0F) > 10 or 2 < (p[0] & 0x0F) < 8:
        return HOST_OTHER
    if p[0] & 0x08 and (code > 125 or p[0] < 0x80):
        return HOST_OTHER
    size = fw_ws_header_size(code)
    if there < size:
        return HOST_PART
    found.size = code if code < 126 else host_load(p + 2, 2 if code == 126 else 8, 0)
    if found.size > limit:
        return HOST_OTHER
    found.header_size = size + 4 * masked
    if there < found.header_size or <uint64_t>(there - found.header_size) < found.size:
        return HOST_PART
    return HOST_WHOLE


cdef object host_payload(const uint8_t *p, const host_found *found, bint masked):
    """A copy of the payload, without its mask."""
    cdef uint32_t key
    cdef bytes data
    p += found.header_size
    if not masked:
        return host_bytearray(<const char *>p, found.size)
    memcpy(&key, p - 4, 4)
    data = fresh_bytes(found.size)
    fw_mask(<uint8_t *>PyBytes_AS_STRING(data), p, found.size, key)
    return data


cdef int host_limit(max_size, uint64_t *limit) except -1:
    """Take a limit from Python; return 0 if it is none that a size can be compared with here."""
    cdef int overflow = 0
    cdef long long value
    limit[0] = <uint64_t>-1
    if max_size is None:
        return 1
    if type(max_size) is not int:
        return 0
    value = host_number(max_size, &overflow)
    if overflow > 0:
        return 1
    if value < 0:
        return 0
    limit[0] = value
    return 1


cdef Py_ssize_t host_missing(bytearray buffer, const host_found *found) noexcept:
    """Bytes that the frame at the beginning lacks, as far as that is known: at least one."""
    cdef Py_ssize_t there = host_size(buffer)
    if found.header_size:
        # Not min() of the sum: with the largest lengths that would wrap.
        return found.header_size + <Py_ssize_t>min(found.size, <uint64_t>PY_SSIZE_T_MAX // 2) - there
    if there < 2:
        return 2 - there
    return fw_ws_header_size(<uint8_t>host_start(buffer)[1]) - there


cdef int host_append(bytearray buffer, const uint8_t *data, Py_ssize_t size, const host_found *found) except -1:
    """Add to the frame that begins the buffer, and have room for as much again, but no more than the frame needs: by
    itself a bytearray grows by an eighth, again and again."""
    cdef Py_ssize_t there = host_size(buffer)
    cdef Py_ssize_t room = there + size
    if found.header_size and room < PY_SSIZE_T_MAX // 4:
        room = max(room, min(there + host_missing(buffer, found), 2 * room))
    host_resize(buffer, room)
    if size:
        memcpy(host_start(buffer) + there, data, size)
    host_resize(buffer, there + size)
    return 0


cdef class WebsocketsFraming:
    """What ``websockets`` does with frames, for its classes.

    Args:
        frames: Its module of that name.
        protocol: Its module of that name.
        send_frame: What ``send_frame`` of a ``Protocol`` must be for `take_all` to answer a ping.
    """

    cdef object frame_class, server, recv_frame, send_frame
    cdef tuple opcodes

    def __cinit__(self, frames, protocol, send_frame):
        self.frame_class = frames.Frame
        known = {int(member): member for member in frames.Opcode}
        self.opcodes = tuple([known.get(value) for value in range(16)])
        self.server = protocol.SERVER
        self.recv_frame = protocol.Protocol.recv_frame
        self.send_frame = send_frame

    cdef object frame(self, cls, uint8_t first, data):
        cdef object frame
        cdef PyObject *fresh
        opcode = self.opcodes[first & 0x0F]
        if cls is not self.frame_class:
            return cls(opcode, data, first >= 0x80, first & 0x40 != 0, first & 0x20 != 0, first & 0x10 != 0)
        fresh = host_new(<PyTypeObject *>cls, (), NULL)
        frame = <object>fresh
        Py_DECREF(fresh)
        frame.opcode = opcode
        frame.data = data
        frame.fin = first >= 0x80
        frame.rsv1 = first & 0x40 != 0
        frame.rsv2 = first & 0x20 != 0
        frame.rsv3 = first & 0x10 != 0
        return frame

    def take(self, cls, reader, bint mask, max_size, bint extended):
        """Take one frame from the front of what a ``StreamReader`` holds.

        Args:
            cls: The class of the frame.
            reader: The ``StreamReader``.
            mask: Whether there must be a mask.
            max_size: Most bytes of payload, or None.
            extended: Whether reserved bits may be set.

        Returns:
            The frame; None if it is not whole yet; False if the host is to read what is there. Then nothing was taken.
        """
        cdef Py_buffer view
        cdef host_found found
        cdef host_look look
        cdef uint64_t limit
        buffer = reader.buffer
        if type(buffer) is not bytearray or not host_limit(max_size, &limit):
            return False
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
        try:
            look = host_find(<const uint8_t *>view.buf, view.len, mask, extended, limit, &found)
            if look == HOST_WHOLE:
                data = host_payload(<const uint8_t *>view.buf, &found, mask)
        finally:
            PyBuffer_Release(&view)
        if look == HOST_PART and not reader.eof:
            host_append(buffer, NULL, 0, &found)
            return None
        if look != HOST_WHOLE:
            return False
        host_delete(buffer, 0, found.header_size + found.size)
        return self.frame(cls, found.first, data)

    def take_all(self, protocol, data=b""):
        """Take every whole frame that a ``Protocol`` has received, and do with it what ``recv_frame`` does.

        Args:
            protocol: The ``Protocol``.
            data: What has just come; what is not taken of it goes into its reader's buffer.

        Returns:
            Whether to go on when more has come. If not, the host is to read what is there, and whatever follows.
        """
        cdef Py_buffer view
        cdef host_found found
        cdef host_look look
        cdef Py_ssize_t at = 0, size
        cdef bytearray buffer
        reader = protocol.reader
        plain = not reader.eof and type(reader.buffer) is bytearray
        if type(data) is not bytes or (data and not plain):
            reader.feed_data(data)
            data = b""
        if not plain:
            return False
        buffer = reader.buffer
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            while True:
                look = HOST_PART
                if host_size(buffer):
                    look = self.walk_buffer(protocol, buffer, &found)
                size = view.len - at
                if look == HOST_PART and host_size(buffer):
                    if not size:
                        break
                    size = min(size, host_missing(buffer, &found))  # what follows it need not be copied
                    host_append(buffer, <const uint8_t *>view.buf + at, size, &found)
                    at += size
                    continue
                if look == HOST_PART:
                    look = self.walk(protocol, <const uint8_t *>view.buf, view.len, &at, &found)
                    size = view.len - at
                if size:
                    host_append(buffer, <const uint8_t *>view.buf + at, size, &found)
                break
        except BaseException:  # an interrupt: nothing is lost
            found.header_size = 0
            host_append(buffer, <const uint8_t *>view.buf + at, view.len - at, &found)
            raise
        finally:
            PyBuffer_Release(&view)
        return look == HOST_PART

    cdef host_look walk_buffer(self, protocol, bytearray buffer, host_found *found) except *:
        cdef Py_buffer view
        cdef Py_ssize_t at = 0
        cdef host_look look
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
        try:
            look = self.walk(protocol, <const uint8_t *>view.buf, view.len, &at, found)
        finally:
            PyBuffer_Release(&view)
            if at:
                host_delete(buffer, 0, at)
        return look

    cdef host_look walk(self, protocol, const uint8_t *p, Py_ssize_t end, Py_ssize_t *at, host_found *found) except *:
        """Take the frames from `at` on, which moves behind them; tell what stands there then."""
        cdef uint64_t message_limit, fragment_limit, limit
        cdef bint masked, limited
        cdef int opcode
        cdef host_look look
        cdef list events
        found.header_size = 0
        if (
            protocol.extensions
            or protocol.debug
            or type(protocol.events) is not list
            or getattr(protocol.recv_frame, "__func__", None) is not self.recv_frame
            or not host_limit(protocol.max_message_size, &message_limit)
            or not host_limit(protocol.max_fragment_size, &fragment_limit)
        ):
            return HOST_OTHER
        masked = protocol.side is self.server
        limited = protocol.max_message_size is not None
        events = protocol.events
        current_size = protocol.current_size
        try:
            while True:
                limit = message_limit
                if limited and current_size is not None:
                    if <uint64_t>current_size > limit:
                        return HOST_OTHER
                    limit -= <uint64_t>current_size
                look = host_find(p + at[0], end - at[0], masked, False, min(limit, fragment_limit), found)
                if look != HOST_WHOLE:
                    return look
                opcode = found.first & 0x0F
                if opcode == FW_CLOSE or (opcode < FW_CLOSE and (opcode != 0) != (current_size is None)):
                    return HOST_OTHER
                data = host_payload(p + at[0], found, masked)
                frame = self.frame(self.frame_class, found.first, data)
                if opcode == FW_PING and not self.pong(protocol, data, not masked):
                    return HOST_OTHER
                if opcode < FW_CLOSE and (found.first < 0x80 or opcode == FW_CONTINUATION):
                    current_size = None if found.first >= 0x80 else (current_size or 0) + found.size
                    protocol.current_size = current_size
                events.append(frame)
                at[0] += found.header_size + found.size
        except Exception:
            return HOST_OTHER  # which will meet the same, and knows what to do

    cdef bint pong(self, protocol, data, bint mask) except -1:
        if getattr(protocol.send_frame, "__func__", None) is not self.send_frame:
            return False
        protocol.writes.append(self.serialize(self.frame(self.frame_class, 0x8A, data), mask, None))
        return True

    def serialize(self, frame, bint mask, extensions):
        """What a frame is on the wire; None if the host is to write it, or to say why it cannot be written."""
        cdef uint8_t header[FW_WS_HEADER_SIZE]
        cdef const uint8_t *key = NULL
        cdef uint32_t value = 0
        cdef Py_ssize_t header_size
        cdef Py_buffer view
        cdef bytes random, whole
        cdef int first
        if type(frame) is not self.frame_class:
            return None
        first = host_first(frame)
        data = frame.data
        if type(data) is not bytes and type(data) is not bytearray:
            if type(data) is not memoryview or not data.c_contiguous or data.nbytes != len(data):
                return None
        if first < 0 or first & 0x70 or (first & 0x08 and (len(data) > 125 or first < 0x80)):
            return None
        if extensions:
            for extension in extensions:
                frame = extension.encode(frame)
            first = host_first(frame)
            data = frame.data
            if first < 0:
                raise ValueError(f"invalid opcode: {frame.opcode!r}")
        if mask:
            random = bytes(_secrets.token_bytes(4))
            if len(random) != 4:
                raise ValueError("mask must contain 4 bytes")
            key = <const uint8_t *>PyBytes_AS_STRING(random)
            memcpy(&value, key, 4)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            header_size = fw_ws_write(header, <uint8_t>first, view.len, key)
            whole = fresh_bytes(header_size + view.len)
            to = <uint8_t *>PyBytes_AS_STRING(whole)
            memcpy(to, header, header_size)
            if mask:
                fw_mask(to + header_size, <const uint8_t *>view.buf, view.len, value)
            else:
                memcpy(to + header_size, view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        return whole


cdef int host_first(frame) except -2:
    """The first byte of a frame; -1 if its opcode does not fit in."""
    cdef int overflow = 0
    cdef long long value
    opcode = frame.opcode
    if not isinstance(opcode, int):
        return -1
    value = host_number(opcode, &overflow)
    if overflow or not 0 <= value < 16:
        return -1
    return (
        (0x80 if frame.fin else 0)
        | (0x40 if frame.rsv1 else 0)
        | (0x20 if frame.rsv2 else 0)
        | (0x10 if frame.rsv3 else 0)
        | <int>value
    )


cdef const uint8_t *host_borrow(obj, Py_buffer *view) except NULL:
    if not isinstance(obj, (bytes, bytearray, memoryview)):
        raise TypeError(f"expected a bytes-like object, {type(obj).__name__} found")
    PyObject_GetBuffer(bytes(obj) if type(obj) is memoryview and not obj.c_contiguous else obj, view, PyBUF_SIMPLE)
    return <const uint8_t *>view.buf


def websockets_apply_mask(data, mask):
    """``websockets.frames.apply_mask``: `data` XOR `mask`, repeated. Both are bytes, bytearray or memoryview."""
    cdef Py_buffer source, key
    cdef uint32_t value
    cdef bytes whole
    from_ = host_borrow(data, &source)
    try:
        key_from = host_borrow(mask, &key)
        try:
            if key.len != 4:
                raise ValueError("mask must contain 4 bytes")
            memcpy(&value, key_from, 4)
        finally:
            PyBuffer_Release(&key)
        whole = fresh_bytes(source.len)
        fw_mask(<uint8_t *>PyBytes_AS_STRING(whole), from_, source.len, value)
    finally:
        PyBuffer_Release(&source)
    return whole
