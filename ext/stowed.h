/* The unfinished frame: what a decoder keeps of it between two chunks, and how it grows.
 *
 * Strategy. A header that is cut is collected beside the payload. Once it is whole, the payload is a `bytes` of its own
 * that is filled as it comes and handed out as it is. A slow stream spends its life here, in chunks of which none makes
 * more than one payload, so what they need is done without looking at anything else (fw_extend, fw_take).
 *
 * Rules:
 * - Nobody else has a reference to the `bytes` of a body but a window that is lent: it may be written to, and resized.
 *   As long as nothing is reserved it is the empty one, which all share.
 * - Nothing is reserved for bytes that have not begun to come, and never more than 64 KiB or twice what has.
 * - -1 says that there is no memory, with an exception set. The decoder is of no use then.
 * - Delimiters are not for here: where a frame of theirs ends is not known before its end has come.
 */
#ifndef FRAMEWIRE_STOWED_H
#define FRAMEWIRE_STOWED_H

#include "Python.h"
#include "wire.h"

#define FW_WINDOW_SIZE ((Py_ssize_t)64 * 1024)
#define FW_SHORT_BODY ((Py_ssize_t)256)
#define FW_HEADER_ROOM 24   /* enough for every header but that of a LengthField with a large offset */
#define FW_SHORT_REST 64    /* bytes, behind a payload or from the beginning, that are not worth a search for more */

/* The payload on its way. */
typedef struct {
    PyObject *bytes;       /* what has come of it */
    Py_ssize_t have;
    Py_ssize_t capacity;
    Py_ssize_t size;       /* of the whole payload; -1 where it is not known */
    int64_t moved;         /* bytes copied so far: the tests count them */
} fw_body;

/* What else belongs to the unfinished frame; once its header is whole, it has a body. */
typedef struct {
    uint8_t *header;       /* what has come of its header */
    Py_ssize_t header_have;
    Py_ssize_t missing;    /* bytes of the frame still to come behind its header */
    Py_ssize_t skip;       /* bytes at the front of these that are not part of the payload */
    Py_ssize_t quick;      /* fewer bytes than this are just more of the payload, if the gate is open */
    uint8_t header_room[FW_HEADER_ROOM];
} fw_stowed;

FW_FASTEST_BEGIN

/* What to reserve for a payload of `size` bytes (-1: not known) of which `needed` have come. The steps are halves of the
 * size, so that growing moves each byte at most once in all. */
static Py_ssize_t fw_room(Py_ssize_t size, Py_ssize_t needed)
{
    if (size < 0)
        return needed <= FW_SHORT_BODY ? FW_SHORT_BODY : needed <= FW_WINDOW_SIZE ? FW_WINDOW_SIZE : 2 * needed;
    while (size > FW_WINDOW_SIZE && (size + 1) / 2 >= needed)
        size = (size + 1) / 2;
    return size;
}

/* Make room for `needed` bytes of the payload, and some more. */
static int fw_reserve(fw_body *b, Py_ssize_t needed)
{
    Py_ssize_t capacity = fw_room(b->size, needed);
    if (!b->capacity) {
        PyObject *made = PyBytes_FromStringAndSize(NULL, capacity);
        if (made == NULL)
            return -1;
        Py_DECREF(b->bytes);
        b->bytes = made;
    } else if (_PyBytes_Resize(&b->bytes, capacity) < 0)
        return -1;
    b->capacity = capacity;
    b->moved += b->have;
    return 0;
}

/* A payload of `size` bytes (-1: not known), of which nothing has come but `coming` are here. */
FW_INLINE int fw_start_body(fw_body *b, Py_ssize_t size, Py_ssize_t coming)
{
    b->have = 0;
    b->capacity = coming > 0 ? fw_room(size, coming) : 0;
    b->size = size;
    b->bytes = PyBytes_FromStringAndSize(NULL, b->capacity);
    return b->bytes == NULL ? -1 : 0;
}

FW_INLINE int fw_append_to(fw_body *b, const uint8_t *data, Py_ssize_t size)
{
    if (size > b->capacity - b->have && fw_reserve(b, b->have + size) < 0)
        return -1;
    fw_copy((uint8_t *)PyBytes_AS_STRING(b->bytes) + b->have, data, (size_t)size);
    b->have += size;
    b->moved += size;
    return 0;
}

static int fw_append(fw_body *b, const uint8_t *data, Py_ssize_t size) { return fw_append_to(b, data, size); }

/* Nothing more comes: hand the payload out, as a new reference, without what was reserved and not used. NULL without
 * memory. */
static PyObject *fw_end_body(fw_body *b)
{
    PyObject *payload = b->bytes;
    if (b->have < b->capacity)
        _PyBytes_Resize(&payload, b->have);   /* frees and clears what it cannot resize */
    b->bytes = NULL;
    b->have = b->capacity = b->size = 0;
    return payload;
}

/* The header is whole, and is in `header`: what follows belongs to the payload, and `coming` bytes of that are here. */
FW_INLINE int fw_begin(const fw_format *f, fw_stowed *s, fw_body *b, size_t header, uint64_t body, Py_ssize_t coming)
{
    const Py_ssize_t read = (Py_ssize_t)header, rest = (Py_ssize_t)body, strip = f->strip < 0 ? read : f->strip;
    const Py_ssize_t size = read + rest - strip;
    s->header_have = read;
    s->missing = rest + f->trailer;
    s->skip = strip > read ? strip - read : 0;
    coming += read - strip;
    if (fw_start_body(b, size, coming < size ? coming : size) < 0)
        return -1;
    return strip < read ? fw_append_to(b, s->header + strip, read - strip) : 0;
}

/* Move what belongs to the frame out of data[*pos:size], and *pos behind it. FW_OK: the frame is whole. */
FW_INLINE int fw_fill(fw_stowed *s, fw_body *b, const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos)
{
    Py_ssize_t at = *pos, stop = size - at < s->missing ? size : at + s->missing;
    const Py_ssize_t skipped = s->skip < stop - at ? s->skip : stop - at;
    s->missing -= stop - at;
    s->skip -= skipped;
    at += skipped;
    const Py_ssize_t left = b->size - b->have, wanted = stop - at < left ? stop - at : left;
    if (wanted && fw_append_to(b, data + at, wanted) < 0)
        return -1;
    *pos = stop;
    if (at + wanted < stop && data[at + wanted] != ',')
        return FW_BAD_TRAILER;
    if (!s->missing)
        return FW_OK;
    if (!s->skip) {
        const Py_ssize_t room = b->capacity - b->have + 1;
        s->quick = room < s->missing ? room : s->missing;
    }
    return FW_MORE;
}

/* Keep data[:size], which begins a frame and does not end it. `status` and the sizes are those of fw_scan(). */
static int fw_stow(const fw_format *f, fw_stowed *s, fw_body *b, int status, size_t header, uint64_t body,
                   const uint8_t *data, Py_ssize_t size)
{
    Py_ssize_t pos = (Py_ssize_t)header;
    if (status == FW_MORE) {
        fw_copy(s->header, data, (size_t)size);
        s->header_have = size;
        b->moved += size;
        return 0;
    }
    fw_copy(s->header, data, header);
    if (fw_begin(f, s, b, header, body, size - pos) < 0)
        return -1;
    return fw_fill(s, b, data, size, &pos) < 0 ? -1 : 0;
}

/* Go on with the frame that is stowed. As fw_fill(); FW_BAD: its header is not allowed, and as it was. */
FW_INLINE int fw_resume(
    const fw_format *f, fw_stowed *s, fw_body *b, const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos)
{
    *pos = 0;
    if (b->bytes == NULL) {
        const Py_ssize_t have = s->header_have, room = (Py_ssize_t)f->header_size - have;
        const Py_ssize_t more = size < room ? size : room;
        size_t header;
        uint64_t body;
        fw_copy(s->header + have, data, (size_t)more);
        b->moved += more;
        const int status = fw_read(f, s->header, (size_t)(have + more), &header, &body);
        if (status == FW_MORE)
            s->header_have = have + more;
        if (status != FW_OK)
            return status;
        *pos = (Py_ssize_t)header - have;
        if (fw_begin(f, s, b, header, body, size - *pos) < 0)
            return -1;
    }
    return fw_fill(s, b, data, size, pos);
}

/* Take a chunk as far as it makes no more than one payload (a new reference, else NULL).
 *
 * FW_MORE: it is used up; *pos is where in it the unfinished frame begins, -1 if that was before. FW_FULL: data[*pos:]
 * is for fw_scan(), because more than `most` bytes are left, or a whole frame, or a bad one. Else the frame is refused:
 * FW_BAD as fw_resume(), FW_BAD_TRAILER with *pos behind the trailer. */
static int fw_take(const fw_format *f, fw_stowed *s, fw_body *b, const uint8_t *data, Py_ssize_t size, Py_ssize_t most,
                   Py_ssize_t *pos, PyObject **payload)
{
    *payload = NULL;
    *pos = 0;
    if (b->bytes != NULL || s->header_have) {
        const int status = fw_resume(f, s, b, data, size, pos);
        if (status == FW_MORE)
            *pos = -1;
        if (status != FW_OK)
            return status;
        s->header_have = 0;
        *payload = fw_end_body(b);
        if (*payload == NULL)
            return -1;
    }
    const Py_ssize_t rest = size - *pos;
    if (!rest)
        return FW_MORE;
    if (rest > most)
        return FW_FULL;
    size_t header;
    uint64_t body;
    int status = fw_read(f, data + *pos, (size_t)rest, &header, &body);
    if (status == FW_OK && body + (uint64_t)f->trailer > (uint64_t)rest - header)
        status = FW_REST;
    else if (status != FW_MORE)
        return FW_FULL;
    if (fw_stow(f, s, b, status, header, body, data + *pos, rest) < 0) {
        Py_CLEAR(*payload);
        return -1;
    }
    return FW_MORE;
}

/* Most chunks of a slow stream are just more of the payload: fewer bytes than `quick`. The copy comes last, so that it
 * can be a jump, and nothing has to be saved. */
static void fw_extend(fw_stowed *s, fw_body *b, const uint8_t *data, Py_ssize_t size)
{
    uint8_t *to = (uint8_t *)PyBytes_AS_STRING(b->bytes) + b->have;
    b->have += size;
    b->moved += size;
    s->missing -= size;
    s->quick -= size;
    fw_copy(to, data, (size_t)size);
}

FW_FAST_END

#endif
