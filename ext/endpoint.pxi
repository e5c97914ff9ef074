# The compiled twin of ``framewire/_endpoint_py.py``, where strategy and rules stand. Included by ``_core_c.pyx``, for
# what it needs of the decoder. What is particular here:
#
# - System calls are made with the interpreter's lock held: none of them blocks, and to let go of it and take it back
#   costs as much as a small one. So nothing else can run between a look at the queue and its use.
# - What is received is parsed in memory that belongs to the loop (`Turn`) and is guarded while it is read: a garbage
#   collection in the middle of the parse can run anybody's code.
# - A compiled Decoder or Encoder is called below Python; any other object of their manner by its methods.

from cpython.bytearray cimport PyByteArray_AsString, PyByteArray_FromStringAndSize
from cpython.buffer cimport PyBUF_WRITABLE
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GetSlice
from libc.errno cimport EINTR, errno

from net cimport *

from os import strerror

cdef enum:
    READ_SIZE = 256 * 1024
    DIRECT_SIZE = 64 * 1024
    LARGE_SIZE = 64 * 1024
    MAX_BUFFERS = 64
    MAX_EVENTS = 1024

cdef enum:  # whether more can be sent
    OPEN = 0
    ENDING = 1
    GONE = 2

cdef enum:  # what became of bytes for one of many
    DONE = 0
    BEHIND = 1
    LEFT = 2

HAS_SOCKETS = FW_HAS_SOCKETS
HAS_EPOLL = FW_HAS_EPOLL


cdef object os_error():
    return OSError(errno, strerror(errno))


cdef list taken(list items):
    """What is in a list, which is empty then."""
    whole = PyList_GetSlice(items, 0, PY_SSIZE_T_MAX)
    PyList_SetSlice(items, 0, PY_SSIZE_T_MAX, NULL)
    return whole


@cython.final
cdef class Turn:
    """What a turn of the loop leaves to be done at its end, in two lists that stay the same objects."""

    cdef readonly list dirty
    cdef readonly list over
    cdef bytearray shared  # to receive into
    cdef uint8_t *memory  # which lies here
    cdef object window  # a view of it, which also keeps it there
    cdef bint lent

    def __cinit__(self):
        self.dirty = []
        self.over = []

    @cython.critical_section
    def take_dirty(self):
        return taken(self.dirty)

    @cython.critical_section
    def take_over(self):
        return taken(self.over)

    @cython.critical_section
    cdef uint8_t *lend(self) except NULL:
        """The memory to receive into, for one at a time: until `take_back`."""
        if self.lent:
            raise RuntimeError("a call from inside a call of the same loop, or from another thread")
        self.lent = True
        try:
            if self.memory is NULL:
                self.shared = PyByteArray_FromStringAndSize(NULL, READ_SIZE)
                self.window = memoryview(self.shared)
                self.memory = <uint8_t *>PyByteArray_AsString(self.shared)
        except BaseException:
            self.lent = False
            raise
        return self.memory

    @cython.critical_section
    cdef void take_back(self) noexcept:
        self.lent = False

    @cython.critical_section
    cdef int add_dirty(self, endpoint) except -1:
        self.dirty.append(endpoint)
        return 0

    @cython.critical_section
    cdef int add_over(self, endpoint) except -1:
        self.over.append(endpoint)
        return 0


cdef class Endpoint:
    """A non-blocking stream socket with a decoder, and the queue of what is to be sent.

    Args:
        turn: Where it says that it has something to send.
        decoder: For what comes in.
        encoder: For what goes out; one without state may be shared. None if the format can only be read.
        high_mark: Bytes in the queue above which `over` is set, until somebody unsets it.
    """

    cdef readonly Turn _turn
    cdef readonly object decoder
    cdef public object encoder
    cdef readonly object sock
    cdef public object failure
    cdef list chunks
    cdef Py_ssize_t first
    cdef Py_ssize_t offset
    cdef public Py_ssize_t high_mark
    cdef readonly Py_ssize_t unsent_size
    cdef readonly int64_t received_size
    cdef readonly int64_t received_count
    cdef readonly int64_t sent_size
    cdef readonly int64_t sent_count
    cdef int fd
    cdef public unsigned char mode
    cdef public bint ended
    cdef public bint blocked
    cdef public bint over
    cdef public bint attended
    cdef public bint in_order
    cdef public bint plain
    cdef public bint _listed

    def __cinit__(self, *args, **kwargs):
        self.fd = -1
        self.blocked = True
        self.plain = True

    @cython.critical_section
    def __init__(self, Turn turn not None, decoder not None, encoder, Py_ssize_t high_mark):
        if self._turn is not None:
            raise RuntimeError("an Endpoint is made once")
        self._turn = turn
        self.decoder = decoder
        self.encoder = encoder
        self.high_mark = high_mark

    @cython.critical_section
    def attach(self, sock):
        """Begin to use a connected socket, which is non-blocking."""
        cdef int fd = sock.fileno()
        self.fd = fd
        self.sock = sock
        self.blocked = False

    @cython.critical_section
    def detach(self):
        """Forget the socket and all that is unsent; the socket is not closed."""
        self.fd = -1
        self.mode = GONE
        self.drop_queue()
        self.sock = None

    @cython.critical_section
    def receive(self):
        """Receive once, at most 256 KiB.

        Returns:
            The payloads that are now whole. At the end of the stream, and after an error of the decoder, `ended` is
            set.

        Raises:
            OSError: If the connection is lost.
        """
        cdef Decoder decoder
        cdef Turn turn = self._turn
        cdef uint8_t *memory
        cdef ptrdiff_t n
        cdef list payloads
        self.check_initialised()
        if type(self.decoder) is not Decoder:
            return self.receive_any()
        decoder = <Decoder>self.decoder
        if decoder.body.bytes is not NULL and decoder.missing_size() >= DIRECT_SIZE:
            return self.receive_direct()
        memory = turn.lend()
        try:
            n = fw_recv(self.fd, memory, READ_SIZE)
            if n <= 0:
                if n == 0:
                    return self.parse(0, None)
                if fw_would_block(errno):
                    return []
                raise os_error()
            self.received_size += n
            if FW_ONE_THREAD and not decoder.gate and n < decoder.stowed.quick:
                fw_extend(&decoder.stowed, &decoder.body, memory, n)
                decoder.received += n
                return []
            with cython.critical_section(decoder):
                decoder.enter()
                try:
                    payloads = decoder.take(memory, n)
                finally:
                    decoder.leave()
        except FramingError:
            self.ended = True
            return []
        finally:
            turn.take_back()
        if decoder.gate:
            self.ended = True
        self.received_count += len(payloads)
        return payloads

    cdef list receive_direct(self):
        """Receive a part of a large payload where it stays."""
        cdef Py_buffer view
        cdef ptrdiff_t n
        cdef int error
        # Exported while it is written to: another thread can take it back, and then the memory stays for us.
        PyObject_GetBuffer(self.decoder.get_buffer(READ_SIZE), &view, PyBUF_WRITABLE)
        n = fw_recv(self.fd, view.buf, view.len)
        error = errno
        PyBuffer_Release(&view)
        if n < 0:
            if fw_would_block(error):
                return []
            raise OSError(error, strerror(error))
        return self.parse(n, None)

    cdef object receive_any(self):
        """Receive for a decoder that is not the compiled one."""
        cdef Turn turn = self._turn
        cdef uint8_t *memory
        cdef ptrdiff_t n
        if self.decoder.needed_size >= DIRECT_SIZE:
            return self.receive_direct()
        memory = turn.lend()
        try:
            n = fw_recv(self.fd, memory, READ_SIZE)
            if n < 0:
                if fw_would_block(errno):
                    return []
                raise os_error()
            return self.received(n, turn.window[:n])
        finally:
            turn.take_back()

    @cython.critical_section
    def received(self, n, chunk):
        """Parse `n` bytes that were received: those of `chunk`, or else into the decoder's window; 0 is the end."""
        self.check_initialised()
        return self.parse(n, chunk)

    cdef list parse(self, Py_ssize_t n, chunk):
        cdef list payloads
        self.received_size += n
        try:
            if not n:
                payloads = self.decoder.feed_eof()
                self.ended = True
            elif chunk is None:
                payloads = self.decoder.buffer_updated(n)
            else:
                payloads = self.decoder.feed(chunk)
        except FramingError:
            payloads = []
        if self.decoder.error is not None:
            self.ended = True
        self.received_count += len(payloads)
        return payloads

    @cython.critical_section
    def send(self, payload, /):
        """Queue the frame of one payload. It goes out at the end of this turn of the loop, or before.

        A ``bytes`` of 64 KiB or more is kept, not copied. Anything else is copied now, and may change afterwards. What
        is sent to a connection that is lost is dropped, as bytes on their way would be: `Handler.disconnected` tells.

        Raises:
            FrameTooLarge, ValueError: As `Encoder.encode`; nothing is queued.
            RuntimeError: After ``close`` and ``send_eof``.
        """
        self.check_writable()
        if PyBytes_CheckExact(payload) and PyBytes_GET_SIZE(payload) >= LARGE_SIZE:
            parts = self.encoder.encode_parts(payload)
            if self.mode != GONE and not self.in_order:
                self.list_once()  # not between the parts: to wait for another thread there would let its frames in
            for part in parts:
                if part:
                    self.put_bytes(part, 0)
            self.sent_count += 1
        else:
            self.put_bytes(self.encode_one(payload), 1)

    @cython.critical_section
    def send_many(self, payloads, /):
        """Queue the frames of many payloads, which are copied: all of them or, when one is refused, none.

        Raises:
            FrameTooLarge, ValueError, RuntimeError: As `send`.
        """
        self.check_writable()
        if not isinstance(payloads, list):
            payloads = list(payloads)
        self.put_bytes(self.encoder.encode_many(payloads), len(payloads))

    @cython.critical_section
    def write(self, data, /):
        """Queue bytes that are frames already.

        Raises:
            TypeError: If they are not ``bytes``, which nobody can change any more.
            RuntimeError: As `send`.
        """
        if not PyBytes_CheckExact(data):
            raise TypeError(f"write() takes bytes, not {type(data).__name__}")
        self.check_mode()
        self.put_bytes(data, 0)

    @cython.critical_section
    def put(self, bytes data not None, Py_ssize_t count):
        """Queue `data`, which holds `count` frames."""
        self.put_bytes(data, count)

    def put_in_order(self, data, count):
        """What `put` does if `in_order` is set; for a subclass."""
        raise NotImplementedError

    @cython.critical_section
    def append(self, bytes data not None, Py_ssize_t count):
        """Put `data` at the end of the queue, whatever `in_order` says."""
        self.append_bytes(data, count)

    @cython.critical_section
    def flush(self):
        """Send what is queued, as far as the socket takes it; return whether nothing is left (see also `failure`)."""
        return self.flush_plain()

    @cython.critical_section
    def unsent(self):
        """The buffers to send next, at most `MAX_BUFFERS`."""
        if self.chunks is None:
            return []
        buffers = self.chunks[self.first : self.first + MAX_BUFFERS]
        if self.offset:
            buffers[0] = memoryview(buffers[0])[self.offset :]
        return buffers

    @cython.critical_section
    def sent(self, Py_ssize_t n):
        """Forget the first `n` bytes of the queue; return whether that was all which `unsent` had given."""
        if self.chunks is None or not 0 <= n <= self.unsent_size:
            raise ValueError(f"n={n} bytes cannot have been sent of {self.unsent_size}")
        return self.forget_sent(n)

    @cython.critical_section
    def lose(self, error):
        """Note why nothing can be sent any more, and see to it that the loop hears of it."""
        self.failure = error
        self.mode = GONE
        self.drop_queue()
        self.list_once()

    @cython.critical_section
    def forget(self):
        """Drop what is unsent."""
        self.drop_queue()

    cdef bytes encode_one(self, payload):
        if type(self.encoder) is Encoder:
            return (<Encoder>self.encoder).encode_one(payload)
        return self.encoder.encode(payload)

    cdef void drop_queue(self) noexcept:
        self.chunks = None
        self.first = self.offset = self.unsent_size = 0

    cdef int check_initialised(self) except -1:
        if self._turn is None:
            raise RuntimeError("the Endpoint was not initialised")
        return 0

    cdef int check_writable(self) except -1:
        self.check_mode()
        if self.encoder is None:
            raise ValueError(f"{self.decoder.spec!r} can only be read")
        return 0

    cdef int check_mode(self) except -1:
        self.check_initialised()
        if self.mode == ENDING:
            raise RuntimeError("nothing can be sent after close() and send_eof()")
        return 0

    cdef int list_once(self) except -1:
        if not self._listed and self._turn is not None:
            self._listed = True
            self._turn.add_dirty(self)
        return 0

    cdef int put_bytes(self, bytes data, Py_ssize_t count) except -1:
        if self.in_order:
            self.put_in_order(data, count)
            return 0
        return self.append_bytes(data, count)

    cdef int append_bytes(self, bytes data, Py_ssize_t count) except -1:
        self.check_initialised()
        if self.mode == GONE or not PyBytes_GET_SIZE(data):
            return 0
        if self.chunks is None:
            self.chunks = [data]
        else:
            self.chunks.append(data)
        self.unsent_size += PyBytes_GET_SIZE(data)
        self.sent_count += count
        self.list_once()
        if self.unsent_size >= LARGE_SIZE or self.unsent_size > self.high_mark:
            if not self.blocked:
                self.flush_any()
            if self.unsent_size > self.high_mark and not self.over:
                self.over = True
                self._turn.add_over(self)
        return 0

    cdef bint flush_any(self) except -1:
        return self.flush_plain() if self.plain else self.flush()

    cdef bint flush_plain(self) except -1:
        cdef iovec buffers[MAX_BUFFERS]
        cdef Py_ssize_t i, count, size
        cdef ptrdiff_t n
        cdef PyObject *chunk
        if self.fd < 0 or not self.unsent_size:
            return not self.unsent_size
        while self.unsent_size:
            count = min(len(self.chunks) - self.first, MAX_BUFFERS)
            size = -self.offset
            for i in range(count):
                chunk = PyList_GET_ITEM(self.chunks, self.first + i)
                buffers[i].iov_base = bytes_data(chunk)
                buffers[i].iov_len = bytes_size(chunk)
                size += bytes_size(chunk)
            buffers[0].iov_base = <char *>buffers[0].iov_base + self.offset
            buffers[0].iov_len -= self.offset
            n = fw_send_buffers(self.fd, buffers, <int>count)
            if n < 0:
                if not fw_would_block(errno):
                    self.lose(os_error())
                    return True
                self.blocked = True
                return False
            self.forget_sent(n)
            if n < size:
                self.blocked = True
                return False
        self.blocked = False
        return True

    cdef int send_now(self, bytes data, Py_ssize_t count) except -1:
        """Send `data` if nothing is before it; return DONE, BEHIND, or LEFT as `send_to_all` has it."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef ptrdiff_t n = 0
        if self.unsent_size and not self.blocked:
            self.flush_any()
        if self.unsent_size or self.blocked:
            return BEHIND
        self.sent_count += count
        if self.plain:
            n = fw_send(self.fd, PyBytes_AS_STRING(data), size)
            if n == size:
                self.sent_size += n
                return DONE
            if n < 0 and not fw_would_block(errno):
                self.lose(os_error())
                return LEFT
        self.chunks = [data]
        self.unsent_size = size
        if not self.plain:
            return DONE if self.flush() and self.failure is None else LEFT
        self.blocked = True
        if n > 0:
            self.forget_sent(n)
        return LEFT

    cdef bint forget_sent(self, Py_ssize_t n) except -1:
        cdef Py_ssize_t last = min(self.first + MAX_BUFFERS, len(self.chunks)), size
        cdef bint done
        self.sent_size += n
        self.unsent_size -= n
        n += self.offset
        while self.first < last:
            size = bytes_size(PyList_GET_ITEM(self.chunks, self.first))
            if n < size:
                break
            n -= size
            self.first += 1
        self.offset = n
        done = self.first == last
        if not self.unsent_size:
            self.chunks = None
            self.first = 0
        elif self.first > MAX_BUFFERS and self.first > len(self.chunks) // 2:
            del self.chunks[: self.first]
            self.first = 0
        return done


def flush_all(list endpoints not None):
    """Flush those that a turn has left.

    Returns:
        Those that somebody must look after: not all is sent, or there is a `failure`, or they are `attended`.
    """
    cdef Endpoint endpoint
    cdef list left = []
    cdef bint done
    for item in endpoints:
        endpoint = <Endpoint?>item
        with cython.critical_section(endpoint):
            endpoint._listed = False
            done = not endpoint.unsent_size if endpoint.blocked else endpoint.flush_any()
            if not done or endpoint.failure is not None or endpoint.attended:
                left.append(endpoint)
    return left


def send_to_all(list endpoints not None, bytes data not None, Py_ssize_t count):
    """Send the same bytes, which are `count` frames, to each endpoint now.

    Returns:
        Those to which nothing was sent, because their socket is blocked or something is before it; and those that
        have begun, or failed, and must be looked after.
    """
    cdef Endpoint endpoint
    cdef list behind = [], left = []
    cdef int status
    for item in endpoints:
        endpoint = <Endpoint?>item
        with cython.critical_section(endpoint):
            if endpoint.mode != OPEN:
                continue
            status = endpoint.send_now(data, count)
        if status == BEHIND:
            behind.append(endpoint)
        elif status == LEFT:
            left.append(endpoint)
    return behind, left


cdef struct fw_watched:
    PyObject *key  # NULL: not watched
    PyObject *ready[4]  # (key, events) for each mask of events, made when it is first needed
    int events


@cython.final
cdef class EpollWaiter:
    """Waits for a selector whose keys it is told; makes no object for an event that has come before.

    Args:
        epfd: The descriptor of the epoll object, which stays its owner's.
    """

    cdef int epfd
    cdef fw_watched *watched
    cdef Py_ssize_t room

    def __init__(self, int epfd):
        self.epfd = epfd

    def __dealloc__(self):
        cdef Py_ssize_t fd
        for fd in range(self.room):
            self.drop(fd)
        PyMem_Free(self.watched)

    @cython.critical_section
    def keep(self, key):
        """Give this ``SelectorKey`` out for its descriptor from now on."""
        cdef Py_ssize_t fd = key.fd, room
        cdef int events = key.events
        cdef void *grown
        if fd < 0:
            raise ValueError(f"fd={fd} is no descriptor")
        if fd >= self.room:
            room = max(fd + 1, 2 * self.room, 64)
            grown = PyMem_Realloc(self.watched, room * sizeof(fw_watched))
            if grown is NULL:
                raise MemoryError
            self.watched = <fw_watched *>grown
            memset(self.watched + self.room, 0, (room - self.room) * sizeof(fw_watched))
            self.room = room
        self.drop(fd)
        Py_INCREF(<PyObject *>key)
        self.watched[fd].key = <PyObject *>key
        self.watched[fd].events = events

    @cython.critical_section
    def forget(self, Py_ssize_t fd):
        """Give nothing out for this descriptor."""
        if 0 <= fd < self.room:
            self.drop(fd)

    @cython.critical_section
    def wait(self, int timeout):
        """Wait so many milliseconds at most, -1 without a limit; return ``[(key, events), ...]``."""
        cdef epoll_event events[MAX_EVENTS]
        cdef int n, i, fd, mask, error
        cdef fw_watched *watched
        cdef list ready = []
        with nogil:
            n = fw_epoll_wait(self.epfd, events, MAX_EVENTS, timeout)
            error = errno
        if n < 0:
            if error != EINTR:
                raise OSError(error, strerror(error))
            PyErr_CheckSignals()
            return ready
        for i in range(n):
            fd = events[i].data.fd
            if fd >= self.room or self.watched[fd].key is NULL:
                continue
            watched = &self.watched[fd]
            mask = (2 if events[i].events & ~EPOLLIN else 0) | (1 if events[i].events & ~EPOLLOUT else 0)
            mask &= watched.events
            if watched.ready[mask] is NULL:
                item = (<object>watched.key, mask)
                watched = &self.watched[fd]  # a garbage collection may have changed it
                Py_INCREF(<PyObject *>item)
                Py_XDECREF(watched.ready[mask])
                watched.ready[mask] = <PyObject *>item
            ready.append(<object>watched.ready[mask])
        return ready

    cdef void drop(self, Py_ssize_t fd) noexcept:
        cdef fw_watched old = self.watched[fd]
        cdef int mask
        memset(&self.watched[fd], 0, sizeof(fw_watched))
        Py_XDECREF(old.key)
        for mask in range(4):
            Py_XDECREF(old.ready[mask])
