# The limits of the machine: compiled code that does what framewire must do at the least, knowing beforehand what
# framewire has to find out. Built by limits.py with the flags of the compiled core; never a part of the package.
#
# Nothing here checks anything: offsets and lengths are trusted, objects are taken for what they should be. Objects are
# handled as bare pointers, so that no reference is counted that need not be.

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy


cdef extern from *:
    """
    static inline uint32_t load_u32be(const char *p) {
        const unsigned char *b = (const unsigned char *)p;
        return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    static inline void store_u32be(char *p, uint32_t n) {
        p[0] = (char)(n >> 24), p[1] = (char)(n >> 16), p[2] = (char)(n >> 8), p[3] = (char)n;
    }
    """
    uint32_t load_u32be(const char*) nogil
    void store_u32be(char*, uint32_t) nogil


cdef extern from "Python.h":
    ctypedef struct PyObject
    list PyList_New(Py_ssize_t)
    void PyList_SET_ITEM(PyObject*, Py_ssize_t, PyObject*)
    PyObject* PyList_GET_ITEM(PyObject*, Py_ssize_t)
    PyObject* PyBytes_FromStringAndSize(const char*, Py_ssize_t) except NULL
    char* PyBytes_AS_STRING(PyObject*)
    Py_ssize_t PyBytes_GET_SIZE(PyObject*)
    void Py_DECREF(PyObject*)


cdef class Floor:
    """The payloads of a stream, made from offsets and lengths known beforehand."""

    cdef bytes stream
    cdef const int64_t[::1] offsets
    cdef const int64_t[::1] lengths

    def __init__(self, bytes stream, offsets, lengths):
        self.stream = stream
        self.offsets = offsets
        self.lengths = lengths

    def cut(self, Py_ssize_t first, Py_ssize_t last, /):
        """The payloads from `first` to before `last`, in one list of the right size."""
        cdef const char* data = PyBytes_AS_STRING(<PyObject*>self.stream)
        cdef const int64_t* offsets = &self.offsets[0]
        cdef const int64_t* lengths = &self.lengths[0]
        cdef list payloads = PyList_New(last - first)
        cdef Py_ssize_t i
        for i in range(first, last):
            PyList_SET_ITEM(<PyObject*>payloads, i - first, PyBytes_FromStringAndSize(data + offsets[i], lengths[i]))
        return payloads

    def copy_each(self):
        """Make every payload and drop it before the next; return how many bytes that were."""
        cdef const char* data = PyBytes_AS_STRING(<PyObject*>self.stream)
        cdef PyObject* payload
        cdef Py_ssize_t i, copied = 0
        for i in range(self.offsets.shape[0]):
            payload = PyBytes_FromStringAndSize(data + self.offsets[i], self.lengths[i])
            copied += PyBytes_GET_SIZE(payload)
            Py_DECREF(payload)
        return copied


def scan_u32be(bytes stream, Py_ssize_t pos, Py_ssize_t stop, /):
    """Hop over the frames whose headers stand whole before `stop`.

    Returns:
        Where the next frame begins (it can be past `stop`), the number of frames, and the sum of their lengths.
    """
    cdef const char* data = PyBytes_AS_STRING(<PyObject*>stream)
    cdef Py_ssize_t count = 0, total = 0, size
    while pos + 4 <= stop:
        size = load_u32be(data + pos)
        total += size
        count += 1
        pos += 4 + size
    return pos, count, total


def encode_u32be(list payloads, Py_ssize_t size, /):
    """The frames of all payloads in one ``bytes`` of that size."""
    cdef PyObject* run = PyBytes_FromStringAndSize(NULL, size)
    cdef char* to = PyBytes_AS_STRING(run)
    cdef PyObject* payload
    cdef Py_ssize_t i, length
    for i in range(len(payloads)):
        payload = PyList_GET_ITEM(<PyObject*>payloads, i)
        length = PyBytes_GET_SIZE(payload)
        store_u32be(to, <uint32_t>length)
        memcpy(to + 4, PyBytes_AS_STRING(payload), length)
        to += 4 + length
    result = <object>run
    Py_DECREF(run)
    return result


def fill(window, bytes source, Py_ssize_t pos, /):
    """As ``recv_into``: copy the bytes of `source` from `pos` on into `window`; return how many."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(window, &buffer, PyBUF_WRITABLE)
    cdef Py_ssize_t n = min(buffer.len, len(source) - pos)
    memcpy(buffer.buf, PyBytes_AS_STRING(<PyObject*>source) + pos, n)
    PyBuffer_Release(&buffer)
    return n


cdef class Nothing:
    """What a call costs: a method of one argument that returns None."""

    def feed(self, chunk, /):
        return None


cdef class Empty:
    """As `Nothing`, with a list of its own for each call."""

    def feed(self, chunk, /):
        return []
