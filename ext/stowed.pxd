"""Cython's view of stowed.h."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t

from wire cimport fw_format

cdef extern from "stowed.h":
    enum: FW_WINDOW_SIZE, FW_HEADER_ROOM, FW_SHORT_BODY, FW_SHORT_REST

    ctypedef struct fw_body:
        PyObject *bytes
        Py_ssize_t have, capacity, size
        int64_t moved

    ctypedef struct fw_stowed:
        uint8_t *header
        Py_ssize_t header_have, missing, skip, quick
        uint8_t *header_room

    int fw_reserve(fw_body *, Py_ssize_t needed) except -1
    int fw_start_body(fw_body *, Py_ssize_t size, Py_ssize_t coming) except -1
    int fw_append(fw_body *, const uint8_t *, Py_ssize_t size) except -1
    PyObject *fw_end_body(fw_body *) except NULL
    int fw_stow(
        const fw_format *, fw_stowed *, fw_body *, int status, size_t header, uint64_t body,
        const uint8_t *, Py_ssize_t size) except -1
    int fw_take(
        const fw_format *, fw_stowed *, fw_body *, const uint8_t *, Py_ssize_t size, Py_ssize_t most,
        Py_ssize_t *pos, PyObject **payload) except -1
    void fw_extend(fw_stowed *, fw_body *, const uint8_t *, Py_ssize_t size)
