/* Python objects made a frame at a time: the loops of the compiled core that touch every payload.
 *
 * They stand in C, and not beside their callers in Cython, because the rest is compiled to be small (FW_SMALL in wire.h)
 * and these are not. They look at exact bytes and lists only, whose lock the caller holds. Whatever makes a list can run
 * Python code, in a garbage collection or when the spare list goes: the caller's gate is shut, its state is whole.
 */
#ifndef FRAMEWIRE_OBJECTS_H
#define FRAMEWIRE_OBJECTS_H

#include "Python.h"
#include "websocket.h"
#include "wire.h"

#ifdef Py_GIL_DISABLED
#define FW_ONE_THREAD 0
#else
#define FW_ONE_THREAD 1   /* at a time: a reference count is a proof */
#endif

FW_FASTEST_BEGIN

/* bytes with these bytes, a new reference; NULL without memory (and then an exception is set). */
FW_INLINE PyObject *fw_new_bytes(const uint8_t *data, Py_ssize_t size)
{
    if (size < 8 || size > 64)   /* fw_copy has nothing to save there, and the shortest are shared */
        return PyBytes_FromStringAndSize((const char *)data, size);
    PyObject *made = PyBytes_FromStringAndSize(NULL, size);
    if (made != NULL)
        fw_copy((uint8_t *)PyBytes_AS_STRING(made), data, (size_t)size);
    return made;
}

/* An empty list, a new reference. The one given out last (`spare`) is given out again if nobody has kept it (zip() does
 * the same with its tuples): to make and free a list would be half of the cost of a short call. */
static PyObject *fw_nothing(PyObject **spare)
{
    PyObject *given = *spare;
    if (FW_ONE_THREAD && given != NULL && Py_REFCNT(given) == 1 && !PyList_GET_SIZE(given)) {
        Py_INCREF(given);
        return given;
    }
    given = PyList_New(0);
    if (FW_ONE_THREAD && given != NULL) {
        PyObject *before = *spare;
        Py_INCREF(given);
        *spare = given;
        Py_XDECREF(before);
    }
    return given;
}

/* A list of one payload, whose reference it steals. */
static PyObject *fw_only(PyObject *payload)
{
    PyObject *payloads = PyList_New(1);
    if (payloads == NULL)
        Py_DECREF(payload);
    else
        PyList_SET_ITEM(payloads, 0, payload);
    return payloads;
}

/* Put the payloads that lie at `count` places into a list that was made for `room` and holds `have`: behind those, and
 * behind the room too. How many it holds then, or -1 without memory. */
static Py_ssize_t fw_put_payloads(PyObject *payloads, Py_ssize_t have, Py_ssize_t room, const uint8_t *data,
                                  const int64_t *starts, const int64_t *lengths, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++, have++) {
        PyObject *payload = fw_new_bytes(data + starts[i], (Py_ssize_t)lengths[i]);
        if (payload == NULL)
            return -1;
        if (have < room)
            PyList_SET_ITEM(payloads, have, payload);
        else {
            int failed = PyList_Append(payloads, payload);
            Py_DECREF(payload);
            if (failed)
                return -1;
        }
    }
    return have;
}

/* Append to a list of our own, whose reference it steals. As long as there is room nothing is called. */
FW_INLINE int fw_put(PyObject *list, PyObject *owned)
{
    Py_ssize_t size = PyList_GET_SIZE(list);
    if (((PyListObject *)list)->allocated > size) {
        PyList_SET_ITEM(list, size, owned);
        Py_SET_SIZE((PyVarObject *)list, size + 1);
        return 0;
    }
    int failed = PyList_Append(list, owned);
    Py_DECREF(owned);
    return failed;
}

/* The frame of one payload, a new reference; None if the payload is not plainly in order, which is for the reference to
 * look at; NULL without memory. */
static PyObject *fw_new_frame(const fw_format *f, const uint8_t *payload, Py_ssize_t size)
{
    const Py_ssize_t header = fw_header_before(f, payload, size);
    if (header < 0) {
        Py_INCREF(Py_None);
        return Py_None;
    }
    PyObject *frame = PyBytes_FromStringAndSize(NULL, header + size + f->writes.size);
    if (frame != NULL && header + size + f->writes.size) {   /* else it is the empty bytes that all share */
        uint8_t *to = (uint8_t *)PyBytes_AS_STRING(frame);
        fw_write_around(f, to, header, size);
        fw_copy(to + header, payload, (size_t)size);
    }
    return frame;
}

#define FW_AHEAD 8   /* payloads that are asked for before they are written */
#define FW_FIRST_ROOM ((Py_ssize_t)64 * 1024)

/* The frames of the payloads in a list, one behind the other. 1 with a new reference in `result`; 0 if a payload is
 * not plainly in order, which is for the reference to look at; -1 without memory. */
static int fw_join(const fw_format *f, PyObject *payloads, PyObject **result)
{
    Py_ssize_t count = PyList_GET_SIZE(payloads), tail = f->writes.size, at = 0, capacity = 0;
    /* The common case needs no choice for each frame. */
    const int plain = f->kind == FW_LENGTH_FIELD && f->plain && f->width == 4;
    PyObject *frames = NULL;
    uint8_t *to = NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *payload = PyList_GET_ITEM(payloads, i);
        if (i + FW_AHEAD < count)
            FW_PREFETCH(PyList_GET_ITEM(payloads, i + FW_AHEAD));
        if (!PyBytes_CheckExact(payload))
            goto not_plain;
        const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(payload);
        Py_ssize_t size = PyBytes_GET_SIZE(payload), header;
        if (plain)
            header = (uint64_t)size <= f->limit ? 4 : -1;
        else
            header = fw_header_before(f, data, size);
        if (header < 0)
            goto not_plain;
        if (header + size + tail > capacity - at) {
            /* As much as all would take, were they like those so far; but the first may be the largest. (As numbers
             * that cannot wrap on any machine.) */
            double wanted = (double)(at + header + size + tail) / (double)(i + 1) * (double)count + 0.5;
            const double most = 9.0 * (double)(at + header + size + tail) + FW_FIRST_ROOM;
            capacity = at + header + size + tail;
            if (wanted > most)
                wanted = most;
            if (wanted > PY_SSIZE_T_MAX / 2)
                wanted = PY_SSIZE_T_MAX / 2;
            if (wanted > (double)capacity)
                capacity = (Py_ssize_t)wanted;
            if (frames == NULL)
                frames = PyBytes_FromStringAndSize(NULL, capacity);
            else
                _PyBytes_Resize(&frames, capacity);   /* frees and clears what it cannot resize */
            if (frames == NULL)
                return -1;
            to = (uint8_t *)PyBytes_AS_STRING(frames);
        }
        if (plain)
            fw_store(to + at, 4, f->little, (uint64_t)size);
        else
            fw_write_around(f, to + at, header, size);
        fw_copy(to + at + header, data, (size_t)size);
        at += header + size + tail;
    }
    if (frames == NULL)
        frames = PyBytes_FromStringAndSize(NULL, 0);
    else if (at < capacity)
        _PyBytes_Resize(&frames, at);
    *result = frames;
    return frames != NULL ? 1 : -1;
not_plain:
    Py_XDECREF(frames);
    return 0;
}

/* WebSocket messages */

/* The text whose UTF-8 was put into a str that is only good for ASCII; NULL if it is none. Takes the reference. */
static PyObject *fw_decoded(PyObject *text, Py_ssize_t size)
{
    PyObject *made = PyUnicode_DecodeUTF8((const char *)PyUnicode_1BYTE_DATA(text), size, NULL);
    Py_DECREF(text);
    return made;
}

/* A whole message, unmasked, a new reference; NULL if it is not UTF-8, or there is no memory: no exception is set. */
static PyObject *fw_new_message(int opcode, const uint8_t *data, Py_ssize_t size, uint32_t key)
{
    PyObject *made;
    if (opcode == FW_BINARY) {
        made = PyBytes_FromStringAndSize(NULL, size);
        if (made != NULL && size)
            fw_mask((uint8_t *)PyBytes_AS_STRING(made), data, (size_t)size, key);
    } else {
        made = PyUnicode_New(size, 127);
        if (made != NULL && size) {
            uint8_t *text = PyUnicode_1BYTE_DATA(made);
            fw_mask(text, data, (size_t)size, key);
            if (fw_skip_ascii(text, text + size) != text + size)
                made = fw_decoded(made, size);
        }
    }
    if (made == NULL)
        PyErr_Clear();
    return made;
}

/* Put the messages that stand whole in a chunk, one in each frame, into a list; without one into a new one, as soon as
 * there is any. Where they end: before the first frame that is anything else, or that there is no memory for. */
static Py_ssize_t fw_put_messages(const fw_ws_rules *rules, const uint8_t *data, Py_ssize_t size, Py_ssize_t guess,
                                  PyObject **messages)
{
    Py_ssize_t at = 0, room;
    while (at < size) {
        const uint8_t *p = data + at;
        uint64_t body;
        uint32_t key = 0;
        const size_t header = fw_ws_plain(rules, p, (size_t)(size - at), &body);
        if (!header)
            break;
        if (rules->masked)
            memcpy(&key, p + header - 4, 4);
        PyObject *message = fw_new_message(p[0] & FW_OPCODE, p + header, (Py_ssize_t)body, key);
        if (message == NULL)
            break;   /* the general way finds out what is wrong, and where */
        if (*messages == NULL) {
            room = (size - at) / 2;
            *messages = PyList_New((guess < room ? guess : room) + 1);
            if (*messages != NULL)
                Py_SET_SIZE((PyVarObject *)*messages, 0);
        }
        if (*messages == NULL)
            Py_DECREF(message);
        if (*messages == NULL || fw_put(*messages, message)) {
            PyErr_Clear();
            break;
        }
        at += (Py_ssize_t)header + (Py_ssize_t)body;
    }
    return at;
}

FW_FAST_END

#endif
