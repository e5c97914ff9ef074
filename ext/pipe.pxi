# The compiled twin of ``framewire/dropin/_pipe_py.py``, where strategy and rules stand. Included by ``_core_c.pyx``.
# What is particular here:
#
# - A small message takes one trip out of the interpreter's lock: its header and its body are read, or written, in one
#   go. Larger ones land in their final ``bytes`` object.
# - Every system call that leaves something to do is followed by a look at the signals: one that came while bytes were
#   being copied would otherwise wait for the peer.

from cpython.buffer cimport PyBUF_WRITABLE

cdef extern from *:
    """
    #ifdef _WIN32
    #define FW_HAS_PIPES 0
    #else
    #define FW_HAS_PIPES 1
    #include <unistd.h>
    #endif

    static inline ptrdiff_t fw_pipe_read(int fd, void *memory, size_t size)
    {
    #if FW_HAS_PIPES
        return read(fd, memory, size);
    #else
        (void)fd, (void)memory, (void)size;
        errno = ENOSYS;
        return -1;
    #endif
    }

    static inline ptrdiff_t fw_pipe_write(int fd, struct iovec *buffers, int count)
    {
    #if FW_HAS_PIPES
        return count == 1 ? write(fd, buffers[0].iov_base, buffers[0].iov_len) : writev(fd, buffers, count);
    #else
        (void)fd, (void)buffers, (void)count;
        errno = ENOSYS;
        return -1;
    #endif
    }
    """
    const bint FW_HAS_PIPES
    ptrdiff_t fw_pipe_read(int fd, void *memory, size_t size) nogil
    ptrdiff_t fw_pipe_write(int fd, iovec *buffers, int count) nogil

cdef enum:
    PIPE_HEADER = 12  # the longest
    PIPE_SHORT = 2048  # a body that is received through the stack
    PIPE_JOINED = 16384  # a body that is copied behind its header: as fast, and the kernel copies what is aligned
    PIPE_ROOM = 64 * 1024  # reserved before anything has come
    PIPE_STEP = 1 << 30  # most bytes in one read or write: some systems refuse 2 GiB

HAS_PIPES = FW_HAS_PIPES


cdef object pipe_error(int error):
    return OSError(error, strerror(error))


cdef inline uint64_t pipe_load(const uint8_t *at, int width) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(width):
        value = value << 8 | at[i]
    return value


cdef inline void pipe_store(uint8_t *at, uint64_t value, int width) noexcept nogil:
    cdef int i
    for i in range(width):
        at[i] = <uint8_t>(value >> 8 * (width - 1 - i))


cdef int pipe_fill(int fd, char *memory, Py_ssize_t size, Py_ssize_t *got) except -1:
    """Read until `size` bytes are there, `got` of which are already; return 0 if the stream ends before."""
    cdef ptrdiff_t n
    cdef int error
    while got[0] < size:
        with nogil:
            n = fw_pipe_read(fd, memory + got[0], min(size - got[0], PIPE_STEP))
            error = errno
        if n > 0:
            got[0] += n
            if got[0] == size:
                break
        elif n == 0:
            return 0
        elif error != EINTR:
            raise pipe_error(error)
        PyErr_CheckSignals()
    return 1


cdef bytes fresh_bytes(Py_ssize_t size):
    cdef PyObject *fresh = PyBytes_FromStringAndSize(NULL, size)
    if fresh is NULL:
        raise MemoryError
    whole = <bytes>fresh
    Py_DECREF(fresh)
    return whole


cdef inline uint64_t pipe_limit(maxlength) except? 0:
    return PY_SSIZE_T_MAX if maxlength is None or maxlength > PY_SSIZE_T_MAX else maxlength


@cython.final
cdef class _PipeMessage:
    """A message that does not come in one piece, as far as it has come."""

    cdef uint8_t head[PIPE_HEADER]
    cdef Py_ssize_t head_size
    cdef Py_ssize_t size  # of the body; -1: not known yet, or refused
    cdef Py_ssize_t got
    cdef char *data  # where the body is
    cdef PyObject *body  # owned, under construction; NULL: it goes to the caller's buffer
    cdef bytes begun  # what of the body had come before
    cdef bint refused
    cdef bint lost  # no memory to keep what has come

    def __cinit__(self, bytes partial not None):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(partial)
        self.head_size = min(size, 4)
        memcpy(self.head, PyBytes_AS_STRING(partial), self.head_size)
        if size > 4 and pipe_load(self.head, 4) == 0xFFFFFFFF:
            self.head_size = min(size, PIPE_HEADER)
            memcpy(self.head, PyBytes_AS_STRING(partial), self.head_size)
        self.size = -1
        self.begun = partial[self.head_size :]

    def __dealloc__(self):
        Py_XDECREF(self.body)

    cdef bint read(self, int fd, uint64_t limit, Py_buffer *target) except -1:
        """Receive the rest; return whether that is all of it, or else it is `refused` or the stream has ended."""
        cdef uint64_t size
        PyErr_CheckSignals()
        if not pipe_fill(fd, <char *>self.head, 4, &self.head_size):
            return False
        size = pipe_load(self.head, 4)
        if size == 0xFFFFFFFF:
            if not pipe_fill(fd, <char *>self.head, PIPE_HEADER, &self.head_size):
                return False
            size = pipe_load(self.head + 4, 8)
            self.refused = size > limit
        else:
            self.refused = size > 0x7FFFFFFF or size > limit
        if self.refused:
            return False
        self.size = <Py_ssize_t>size
        if target is not NULL and self.size <= target.len:
            self.data = <char *>target.buf
            self.take_begun()
            return pipe_fill(fd, self.data, self.size, &self.got)
        return self.read_body(fd)

    cdef bint read_body(self, int fd) except -1:
        cdef Py_ssize_t room = min(self.size, max(PIPE_ROOM, PyBytes_GET_SIZE(self.begun)))
        self.body = PyBytes_FromStringAndSize(NULL, room)
        if self.body is NULL:
            raise MemoryError
        self.data = bytes_data(self.body)
        self.take_begun()
        while pipe_fill(fd, self.data, room, &self.got):
            if room == self.size:
                return True
            room = self.size if room > self.size // 2 else 2 * room
            if _PyBytes_Resize(&self.body, room) < 0:
                self.lost = True  # it has freed what it could not grow
                raise MemoryError
            self.data = bytes_data(self.body)
        return False

    cdef void take_begun(self) noexcept:
        memcpy(self.data, PyBytes_AS_STRING(self.begun), PyBytes_GET_SIZE(self.begun))
        self.got = PyBytes_GET_SIZE(self.begun)
        self.begun = b""

    cdef bytes so_far(self):
        if self.lost:
            return None
        return (<char *>self.head)[: self.head_size] + (self.data[: self.got] if self.got else self.begun)

    cdef object result(self):
        if self.body is NULL:
            return self.size
        whole = <object>self.body
        Py_DECREF(self.body)
        self.body = NULL
        return whole


cdef object pipe_receive(keeper, int fd, uint64_t limit, bytes partial, Py_buffer *target):
    cdef _PipeMessage message
    cdef bint whole
    try:
        message = _PipeMessage(partial)
    except MemoryError:
        keeper._received_in_part(partial)
        raise
    try:
        keeper._resumed()
        whole = message.read(fd, limit, target)
    except BaseException:
        keeper._received_in_part(message.so_far())
        raise
    if whole:
        return message.result()
    if message.refused:
        return keeper._refused((<char *>message.head)[: message.head_size])
    return keeper._ended(message.head_size, message.got, message.size)


def pipe_recv(keeper, int fd, maxlength=None, bytes partial not None=b""):
    """Receive the next message, and no byte behind it.

    Args:
        keeper: Is told of what is not a message: see `Keeper`.
        fd: Where to read.
        maxlength: Most bytes in its body; None is no limit.
        partial: What an interrupted call has left.
    """
    cdef uint8_t head[4]
    cdef char body[PIPE_SHORT]
    cdef char *at
    cdef bytes whole
    cdef ptrdiff_t have = 0, n = 0
    cdef uint64_t size = 0, limit = pipe_limit(maxlength)
    cdef int error = 0
    if not PyBytes_GET_SIZE(partial):
        with nogil:
            have = fw_pipe_read(fd, head, 4)
            error = errno
            if have == 4:
                size = pipe_load(head, 4)
                if 0 < size <= PIPE_SHORT and size <= limit:
                    n = fw_pipe_read(fd, body, size)
        if have == 4 and <uint64_t>n == size:
            return body[:n]
        if have < 0 and error != EINTR:
            raise pipe_error(error)
        at = body
        try:
            if have == 4 and PIPE_SHORT < size <= PIPE_ROOM and size <= limit:
                whole = fresh_bytes(size)
                at = bytes_data(<PyObject *>whole)
                with nogil:
                    n = fw_pipe_read(fd, at, size)
                if <uint64_t>n == size:
                    return whole
            partial = (<char *>head)[: max(have, 0)] + at[: max(n, 0)]
        except MemoryError:
            keeper._received_in_part(None)
            raise
    return pipe_receive(keeper, fd, limit, partial, NULL)


def pipe_recv_into(keeper, int fd, buffer, bytes partial not None=b""):
    """Receive the next message into `buffer`; return its size, or, if it is larger than that, the message itself."""
    cdef uint8_t head[4]
    cdef ptrdiff_t have = 0, n = 0
    cdef uint64_t size = 0
    cdef int error = 0
    cdef Py_buffer target
    PyObject_GetBuffer(buffer, &target, PyBUF_WRITABLE)
    try:
        if not PyBytes_GET_SIZE(partial):
            with nogil:
                have = fw_pipe_read(fd, head, 4)
                error = errno
                if have == 4:
                    size = pipe_load(head, 4)
                    if 0 < size <= 0x7FFFFFFF and size <= <uint64_t>target.len:
                        n = fw_pipe_read(fd, target.buf, size)
            if have == 4 and <uint64_t>n == size:
                return n
            if have < 0 and error != EINTR:
                raise pipe_error(error)
            try:
                partial = (<char *>head)[: max(have, 0)]
                if n > 0:
                    partial += (<char *>target.buf)[:n]
            except MemoryError:
                keeper._received_in_part(None)
                raise
        return pipe_receive(keeper, fd, PY_SSIZE_T_MAX, partial, &target)
    finally:
        PyBuffer_Release(&target)


def pipe_send(keeper, int fd, data):
    """Send one message, whose body is `data`, with a single write if the system takes it."""
    cdef uint8_t memory[PIPE_HEADER + PIPE_JOINED]
    cdef iovec buffers[2]
    cdef iovec *first = buffers
    cdef Py_buffer view
    cdef Py_ssize_t done = 0, total, ahead = 4  # what goes out of `memory`
    cdef ptrdiff_t n
    cdef int error = 0
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if view.len > 0x7FFFFFFF:
            ahead = PIPE_HEADER
            pipe_store(memory, 0xFFFFFFFF, 4)
            pipe_store(memory + 4, <uint64_t>view.len, 8)
        else:
            pipe_store(memory, <uint64_t>view.len, 4)
        total = ahead + view.len
        if view.len <= PIPE_JOINED:
            memcpy(memory + ahead, view.buf, view.len)
            ahead = total
        while True:
            if done < ahead:
                buffers[0].iov_base = memory + done
                buffers[0].iov_len = ahead - done
                buffers[1].iov_base = view.buf
                buffers[1].iov_len = min(total - ahead, PIPE_STEP)
            else:
                first = &buffers[1]
                buffers[1].iov_base = <char *>view.buf + (done - ahead)
                buffers[1].iov_len = min(total - done, PIPE_STEP)
            with nogil:
                n = fw_pipe_write(fd, first, 2 if done < ahead < total else 1)
                error = errno
            if n >= 0:
                done += n
                if done == total:
                    return
            elif error != EINTR:
                if done and fw_would_block(error):
                    keeper._sent_in_part()
                raise pipe_error(error)
            try:
                PyErr_CheckSignals()
            except BaseException:
                if done:
                    keeper._sent_in_part()
                raise
    finally:
        PyBuffer_Release(&view)
