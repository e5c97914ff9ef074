"""Cython's view of wire.h."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef extern from "wire.h" nogil:
    enum: FW_MORE, FW_FULL, FW_BAD, FW_BAD_TRAILER, FW_NO_DELIMITER
    enum: FW_ASCII, FW_LENGTH_FIELD, FW_VARINT, FW_NETSTRING, FW_FIXED_SIZE, FW_MULTIPROCESSING, FW_DELIMITED

    ctypedef struct fw_delimiter:
        const uint8_t *bytes
        Py_ssize_t size

    ctypedef struct fw_format:
        int kind, width, align, little, plain, bits, trailer, keep
        uint64_t limit, plus, minus
        size_t offset, header_size
        Py_ssize_t strip
        size_t size
        fw_delimiter *delimiters
        fw_delimiter writes
        Py_ssize_t delimiter_count, longest
        uint8_t *begins

    Py_ssize_t fw_header_missing(const fw_format *, Py_ssize_t there)
    Py_ssize_t fw_find(const fw_format *, const uint8_t *, Py_ssize_t start, Py_ssize_t end, int final, Py_ssize_t *size)
    Py_ssize_t fw_walk_delimited(
        const fw_format *, const uint8_t *, Py_ssize_t size, int final, Py_ssize_t *pos, Py_ssize_t *scanned,
        int64_t *starts, int64_t *lengths, Py_ssize_t room, int *status)
    Py_ssize_t fw_scan(
        const fw_format *, const uint8_t *, Py_ssize_t size, Py_ssize_t *pos, Py_ssize_t *scanned,
        int64_t *starts, int64_t *lengths, Py_ssize_t room, size_t *header, uint64_t *body, int *status)
    Py_ssize_t fw_header_size(const fw_format *, uint64_t size)
    Py_ssize_t fw_header_before(const fw_format *, const uint8_t *payload, Py_ssize_t size)
    void fw_write_header(const fw_format *, uint8_t *, Py_ssize_t header, uint64_t size)
    void fw_write_around(const fw_format *, uint8_t *frame, Py_ssize_t header, Py_ssize_t size)
    void fw_copy(uint8_t *to, const uint8_t *source, size_t size)
    void memcpy "fw_memcpy"(void *to, const void *source, size_t size)
