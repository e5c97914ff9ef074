# The limits of the machine: compiled code that does what framewire must do at the least, knowing beforehand what
# framewire has to find out. Built by limits.py with the flags of the compiled core; never a part of the package.
#
# Nothing here checks anything: offsets and lengths are trusted, objects are taken for what they should be. Objects are
# handled as bare pointers, so that no reference is counted that need not be.

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
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

    /* Copy and XOR: a loop over words that the compiler makes as wide as the processor, which is asked when the module
       is loaded. Neither vectors by hand nor those of AVX-512 were faster on 64 bytes or on 64 KiB. */
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
    __attribute__((target_clones("avx2", "default")))
    #endif
    static void mask_to(char *__restrict to, const char *__restrict from, size_t size, const char *key4) {
        uint64_t key, word;
        size_t i = 0;
        memcpy(&key, key4, 4);
        memcpy((char *)&key + 4, key4, 4);
        for (; i + 8 <= size; i += 8) {
            memcpy(&word, from + i, 8);
            word ^= key;
            memcpy(to + i, &word, 8);
        }
        for (; i < size; i++)
            to[i] = from[i] ^ key4[i & 3];
    }

    /* A header before its key; RFC 6455, section 5.2. Returns its size. */
    static inline size_t put_header(char *p, int first, size_t size, int masked) {
        size_t i, width = size < 126 ? 0 : size < 65536 ? 2 : 8;
        p[0] = (char)first;
        p[1] = (char)(masked << 7 | (width == 0 ? (int)size : width == 2 ? 126 : 127));
        for (i = 0; i < width; i++)
            p[2 + i] = (char)((uint64_t)size >> 8 * (width - 1 - i));
        return 2 + width;
    }
    """
    uint32_t load_u32be(const char*) nogil
    void store_u32be(char*, uint32_t) nogil
    void mask_to(char*, const char*, size_t, const char*) nogil
    size_t put_header(char*, int, size_t, bint) nogil


cdef extern from "Python.h":
    ctypedef struct PyObject
    list PyList_New(Py_ssize_t)
    void PyList_SET_ITEM(PyObject*, Py_ssize_t, PyObject*)
    PyObject* PyList_GET_ITEM(PyObject*, Py_ssize_t)
    PyObject* PyBytes_FromStringAndSize(const char*, Py_ssize_t) except NULL
    PyObject* PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*) except NULL
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


cdef class Unmasked(Floor):
    """As `Floor`, where the key is the four bytes before each payload."""

    def cut(self, Py_ssize_t first, Py_ssize_t last, /):
        cdef const char* data = PyBytes_AS_STRING(<PyObject*>self.stream)
        cdef const int64_t* offsets = &self.offsets[0]
        cdef const int64_t* lengths = &self.lengths[0]
        cdef list payloads = PyList_New(last - first)
        cdef PyObject* payload
        cdef Py_ssize_t i
        for i in range(first, last):
            payload = PyBytes_FromStringAndSize(NULL, lengths[i])
            mask_to(PyBytes_AS_STRING(payload), data + offsets[i], lengths[i], data + offsets[i] - 4)
            PyList_SET_ITEM(<PyObject*>payloads, i - first, payload)
        return payloads

    def copy_each(self):
        cdef const char* data = PyBytes_AS_STRING(<PyObject*>self.stream)
        cdef const int64_t* offsets = &self.offsets[0]
        cdef PyObject* payload
        cdef Py_ssize_t i, copied = 0
        for i in range(self.offsets.shape[0]):
            payload = PyBytes_FromStringAndSize(NULL, self.lengths[i])
            mask_to(PyBytes_AS_STRING(payload), data + offsets[i], self.lengths[i], data + offsets[i] - 4)
            copied += PyBytes_GET_SIZE(payload)
            Py_DECREF(payload)
        return copied


cdef class UnmaskedText(Floor):
    """As `Unmasked`, for text: unmasked into memory that is used again, and decoded by CPython."""

    cdef char* scratch

    def __init__(self, bytes stream, offsets, lengths):
        Floor.__init__(self, stream, offsets, lengths)
        self.scratch = <char*>malloc(max(lengths, default=0) + 1)
        if self.scratch is NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.scratch)

    def cut(self, Py_ssize_t first, Py_ssize_t last, /):
        cdef const char* data = PyBytes_AS_STRING(<PyObject*>self.stream)
        cdef list payloads = PyList_New(last - first)
        cdef Py_ssize_t i, offset, length
        for i in range(first, last):
            offset, length = self.offsets[i], self.lengths[i]
            mask_to(self.scratch, data + offset, length, data + offset - 4)
            PyList_SET_ITEM(<PyObject*>payloads, i - first, PyUnicode_DecodeUTF8(self.scratch, length, NULL))
        return payloads


def encode_messages(list payloads, Py_ssize_t size, int first, keys=None, /):
    """The frames of all payloads in one ``bytes`` of that size, masked if there are keys: four bytes for each."""
    cdef PyObject* run = PyBytes_FromStringAndSize(NULL, size)
    cdef char* to = PyBytes_AS_STRING(run)
    cdef const char* key = PyBytes_AS_STRING(<PyObject*>keys) if keys is not None else NULL
    cdef PyObject* payload
    cdef Py_ssize_t i, length
    for i in range(len(payloads)):
        payload = PyList_GET_ITEM(<PyObject*>payloads, i)
        length = PyBytes_GET_SIZE(payload)
        to += put_header(to, first, length, key is not NULL)
        if key is NULL:
            memcpy(to, PyBytes_AS_STRING(payload), length)
        else:
            memcpy(to, key, 4)
            to += 4
            mask_to(to, PyBytes_AS_STRING(payload), length, key)
            key += 4
        to += length
    result = <object>run
    Py_DECREF(run)
    return result


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
