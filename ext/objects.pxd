"""Cython's view of objects.h."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t

from websocket cimport fw_ws_rules
from wire cimport fw_format

cdef extern from "objects.h":
    bint FW_ONE_THREAD
    list fw_nothing(PyObject **spare)
    list fw_only(PyObject *payload)
    Py_ssize_t fw_put_payloads(
        PyObject *payloads, Py_ssize_t have, Py_ssize_t room,
        const uint8_t *, const int64_t *starts, const int64_t *lengths, Py_ssize_t count)
    bytes fw_new_frame(const fw_format *, const uint8_t *payload, Py_ssize_t size)
    int fw_join(const fw_format *, list payloads, PyObject **result) except -1
    Py_ssize_t fw_put_messages(
        const fw_ws_rules *, const uint8_t *, Py_ssize_t size, Py_ssize_t guess, PyObject **messages)
