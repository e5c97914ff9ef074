/* The wire formats in C: the only part of the compiled core that knows their bytes. src/framewire/_wire.py is its twin.
 *
 * Strategy. fw_scan() walks a chunk from header to header and writes down where each payload lies; making Python
 * objects of them is left to the caller, in a second pass over a few hundred places at a time. So the walk is a short
 * loop over one cache line a frame, written once (fw_walk) and compiled once for each format that is worth it.
 *
 * Rules:
 * - `data + pos` is always the beginning of a frame, and nothing outside [data, data + size) is read.
 * - Bytes are read by shifts or memcpy, never through a wider pointer.
 * - A length is an unsigned 64-bit number until it has been compared with the limit; there is no addition before that.
 *   limit <= PTRDIFF_MAX / 2, so what passes can be added to a position.
 * - A reader says that something is wrong (FW_BAD), not what: the caller asks the twin, so both say the same.
 */
#ifndef FRAMEWIRE_WIRE_H
#define FRAMEWIRE_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER)
#define FW_INLINE static __forceinline
#define FW_RESTRICT __restrict
#define FW_UNLIKELY(x) (x)
#define FW_PREFETCH(p) ((void)0)
#else
#define FW_INLINE static inline __attribute__((always_inline))
#define FW_RESTRICT restrict
#define FW_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FW_PREFETCH(p) __builtin_prefetch(p)
#endif

/* What Cython makes of the rest is compiled for size (FW_SMALL, at its beginning): with -O3 it would be twice as large.
 * What stands between these is compiled for speed: FW_FASTEST what makes a Python object of each frame, and gains by it.
 * Only GCC can be told so. The flag on its command line is for speed: from that, and from nowhere else, it takes what an
 * instruction costs, and with -Os it would copy 32 bytes by `rep movs` in the fast parts too. */
#if defined(__GNUC__) && !defined(__clang__) && !defined(FRAMEWIRE_DEBUG)
#define FW_SMALL _Pragma("GCC optimize(\"Os\")")
#define FW_FAST_BEGIN _Pragma("GCC push_options") _Pragma("GCC optimize(\"O2\")")
#define FW_FASTEST_BEGIN _Pragma("GCC push_options") _Pragma("GCC optimize(\"O3\")")
#define FW_FAST_END _Pragma("GCC pop_options")
#else
#define FW_SMALL
#define FW_FAST_BEGIN
#define FW_FASTEST_BEGIN
#define FW_FAST_END
#endif

enum fw_status {
    FW_OK,
    FW_MORE,          /* what is there begins a frame, and not even its header is whole */
    FW_REST,          /* what is there begins a frame, and its header is whole */
    FW_FULL,          /* there is no room for another place */
    FW_BAD,           /* a header that is not allowed, or over the limit */
    FW_BAD_TRAILER,   /* a netstring without its comma */
    FW_NO_DELIMITER   /* no delimiter within the limit */
};

enum fw_kind {
    FW_ASCII,
    FW_LENGTH_FIELD,
    FW_VARINT,
    FW_NETSTRING,
    FW_FIXED_SIZE,
    FW_MULTIPROCESSING,
    FW_DELIMITED
};

typedef struct {
    const uint8_t *bytes;
    ptrdiff_t size;
} fw_delimiter;

typedef struct {
    int kind;
    int width;              /* of an ASCII or binary length; most bytes of a varint */
    int align;              /* of an ASCII length: '<', '>' or '0' */
    int little;             /* byte order of a binary length */
    int plain;              /* a binary length and nothing else */
    int bits;               /* of a varint */
    int trailer;            /* bytes behind a payload: 1 for a netstring */
    int keep;               /* the delimiter is part of the payload */
    uint64_t limit;         /* most bytes that may follow a header, or come before a delimiter */
    uint64_t plus, minus;   /* adjust, as two unsigned numbers; plus <= limit */
    size_t offset;          /* bytes before a binary length */
    size_t header_size;     /* bytes to the end of a binary length; bytes that are enough for any header */
    ptrdiff_t strip;        /* leading bytes that are not part of the payload; -1: the header */
    size_t size;            /* of every frame, where that is fixed */
    fw_delimiter *delimiters;   /* longest first */
    fw_delimiter writes;        /* what is written behind a payload */
    ptrdiff_t delimiter_count;
    ptrdiff_t longest;
    uint8_t *begins;        /* 256 flags: a delimiter begins with this byte */
} fw_format;

FW_FAST_BEGIN

/* memcpy, and for a size that is not known always the C library's: in the small parts GCC would write `rep movsb` for it,
 * which is slow to begin. */
#if defined(__GNUC__)
static __attribute__((noinline)) void fw_memcpy_call(void *to, const void *from, size_t size) { memcpy(to, from, size); }
#define fw_memcpy(to, from, size) \
    (__builtin_constant_p(size) ? (void)memcpy(to, from, size) : fw_memcpy_call(to, from, size))
#else
#define fw_memcpy(to, from, size) ((void)memcpy(to, from, size))
#endif

/* Numbers */

FW_INLINE uint64_t fw_load16be(const uint8_t *p) { return (uint64_t)p[0] << 8 | p[1]; }
FW_INLINE uint64_t fw_load16le(const uint8_t *p) { return (uint64_t)p[1] << 8 | p[0]; }
FW_INLINE uint64_t fw_load32be(const uint8_t *p) { return (uint64_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
FW_INLINE uint64_t fw_load32le(const uint8_t *p) { return (uint64_t)p[3] << 24 | p[2] << 16 | p[1] << 8 | p[0]; }
FW_INLINE uint64_t fw_load64be(const uint8_t *p) { return fw_load32be(p) << 32 | fw_load32be(p + 4); }
FW_INLINE uint64_t fw_load64le(const uint8_t *p) { return fw_load32le(p + 4) << 32 | fw_load32le(p); }

FW_INLINE uint64_t fw_load(const uint8_t *p, int width, int little)
{
    uint64_t value = 0;
    for (int i = 0; i < width; i++)
        value = value << 8 | p[little ? width - 1 - i : i];
    return value;
}

FW_INLINE void fw_store(uint8_t *p, int width, int little, uint64_t value)
{
    for (int i = 0; i < width; i++, value >>= 8)
        p[little ? i : width - 1 - i] = (uint8_t)value;
}

FW_INLINE int fw_first_byte(uint64_t mask)   /* index of the lowest byte with a bit set; mask != 0 */
{
#if defined(__GNUC__)
    return __builtin_ctzll(mask) >> 3;
#else
    int i = 0;
    while (!(mask >> (8 * i) & 0xFF))
        i++;
    return i;
#endif
}

#define FW_EACH(byte) ((uint64_t)0x0101010101010101 * (byte))

/* The first byte of eight (first in memory = lowest here) that is no digit, 8 if all are. */
FW_INLINE int fw_digit_count(uint64_t word)
{
    uint64_t x = word ^ FW_EACH('0');   /* a digit is 0..9 now; the rest is above */
    uint64_t other = (((x & FW_EACH(0x7F)) + FW_EACH(0x76)) | x) & FW_EACH(0x80);
    return other ? fw_first_byte(other) : 8;
}

/* Eight digits as a number, by pairs, fours and eights. The first in memory is the most significant. */
FW_INLINE uint64_t fw_eight_digits(uint64_t word)
{
    word &= FW_EACH(0x0F);
    word = word * 10 + (word >> 8);
    return ((word & 0x000000FF000000FF) * 0x000F424000000064 + (word >> 16 & 0x000000FF000000FF) * 0x0000271000000001)
           >> 32;
}

/* More digits behind `value`. False if one is no digit, or if 64 bits are not enough. */
FW_INLINE int fw_digits(const uint8_t *p, const uint8_t *end, uint64_t *value)
{
    uint64_t v = *value;
    for (; p < end; p++) {
        unsigned digit = *p - '0';
        if (digit > 9 || v > (UINT64_MAX - digit) / 10)
            return 0;
        v = v * 10 + digit;
    }
    *value = v;
    return 1;
}

FW_INLINE int fw_all(const uint8_t *p, const uint8_t *end, uint8_t byte)
{
    for (; p < end; p++)
        if (*p != byte)
            return 0;
    return 1;
}

/* A decimal length of `width` bytes. False if it is not one. */
FW_INLINE int fw_ascii(const uint8_t *p, int width, int align, uint64_t *value)
{
    const uint8_t *end = p + width, *digits = p, *digits_end = end;
    *value = 0;
    if (align == '<') {
        if (width >= 8) {   /* a word at a time: most lengths have less than eight digits */
            uint64_t word = fw_load64le(p);
            int count = fw_digit_count(word);
            if (count < 8) {
                if (count == 0 || (word ^ FW_EACH(' ')) >> (8 * count))
                    return 0;
                *value = fw_eight_digits((word ^ FW_EACH('0')) << (8 * (8 - count)));
                return fw_all(p + 8, end, ' ');
            }
            *value = fw_eight_digits(word);
            digits = p + 8;
            while (digits < digits_end && digits_end[-1] == ' ')
                digits_end--;
            return fw_digits(digits, digits_end, value);
        }
        while (digits < digits_end && digits_end[-1] == ' ')
            digits_end--;
    }
    else if (align == '>') {
        while (digits < digits_end && *digits == ' ')
            digits++;
    }
    return digits < digits_end && fw_digits(digits, digits_end, value);
}

/* Headers. A reader is given what is there from the beginning of a frame, and says how large the header is and how many
 * bytes follow it (without a trailer). */

typedef int (*fw_reader)(const fw_format *f, const uint8_t *p, size_t there, size_t *header, uint64_t *body);

#define FW_PLAIN(NAME, WIDTH, LOAD)                                                                                    \
    FW_INLINE int NAME(const fw_format *f, const uint8_t *p, size_t there, size_t *header, uint64_t *body)             \
    {                                                                                                                  \
        if (there < (WIDTH))                                                                                           \
            return FW_MORE;                                                                                            \
        *header = (WIDTH);                                                                                             \
        *body = LOAD(p);                                                                                               \
        return FW_UNLIKELY(*body > f->limit) ? FW_BAD : FW_OK;                                                         \
    }

#define FW_LOAD8(p) (*(p))
FW_PLAIN(fw_read8, 1, FW_LOAD8)
FW_PLAIN(fw_read16be, 2, fw_load16be)
FW_PLAIN(fw_read16le, 2, fw_load16le)
FW_PLAIN(fw_read32be, 4, fw_load32be)
FW_PLAIN(fw_read32le, 4, fw_load32le)
FW_PLAIN(fw_read64be, 8, fw_load64be)
FW_PLAIN(fw_read64le, 8, fw_load64le)

FW_INLINE int fw_read_length_field(
    const fw_format *f, const uint8_t *p, size_t there, size_t *header, uint64_t *body)
{
    if (there < f->header_size)
        return FW_MORE;
    uint64_t length = fw_load(p + f->offset, f->width, f->little);
    if (length < f->minus || length - f->minus > f->limit - f->plus)
        return FW_BAD;
    *header = f->header_size;
    *body = length - f->minus + f->plus;
    return f->strip > 0 && f->header_size + *body < (size_t)f->strip ? FW_BAD : FW_OK;
}

FW_INLINE int fw_read_ascii(const fw_format *f, const uint8_t *p, size_t there, size_t *header, uint64_t *body)
{
    if (there < (size_t)f->width)
        return FW_MORE;
    *header = f->width;
    return fw_ascii(p, f->width, f->align, body) && *body <= f->limit ? FW_OK : FW_BAD;
}

FW_INLINE int fw_read_ascii10(const fw_format *f, const uint8_t *p, size_t there, size_t *header, uint64_t *body)
{
    if (there < 10)
        return FW_MORE;
    *header = 10;
    return fw_ascii(p, 10, '<', body) && *body <= f->limit ? FW_OK : FW_BAD;
}

FW_INLINE int fw_read_varint(const fw_format *f, const uint8_t *p, size_t there, size_t *header, uint64_t *body)
{
    uint64_t value = 0;
    for (int i = 0; i < f->width; i++) {
        if ((size_t)i == there)
            return FW_MORE;
        uint64_t group = p[i];
        value |= (group & 0x7F) << (7 * i);
        if (group < 0x80) {
            int lost = i == 9 && group > 1;   /* the tenth group has room for one bit of 64 */
            *header = i + 1;
            *body = value;
            return lost || (f->bits == 32 && value >> 32) || value > f->limit ? FW_BAD : FW_OK;
        }
    }
    return FW_BAD;
}

FW_INLINE int fw_read_netstring(const fw_format *f, const uint8_t *p, size_t there, size_t *header, uint64_t *body)
{
    uint64_t value = 0;
    int fits = 1;
    for (size_t i = 0; i < there; i++) {
        if (p[i] == ':' && i > 0) {
            *header = i + 1;
            *body = value;
            return fits && value <= f->limit ? FW_OK : FW_BAD;
        }
        if (p[i] < '0' || p[i] > '9' || i == 20 || (i == 1 && p[0] == '0'))
            return FW_BAD;
        fits = fits && fw_digits(p + i, p + i + 1, &value);
    }
    return FW_MORE;
}

FW_INLINE int fw_read_fixed_size(const fw_format *f, const uint8_t *p, size_t there, size_t *header, uint64_t *body)
{
    (void)p;
    (void)there;
    *header = 0;
    *body = f->size;
    return FW_OK;
}

FW_INLINE int fw_read_multiprocessing(
    const fw_format *f, const uint8_t *p, size_t there, size_t *header, uint64_t *body)
{
    if (there < 4)
        return FW_MORE;
    *header = 4;
    *body = fw_load32be(p);
    if (*body == 0xFFFFFFFF) {
        if (there < 12)
            return FW_MORE;
        *header = 12;
        *body = fw_load64be(p + 4);
    }
    else if (*body > 0x7FFFFFFF)
        return FW_BAD;
    return *body > f->limit ? FW_BAD : FW_OK;
}

/* Any header. */
static inline int fw_read(const fw_format *f, const uint8_t *p, size_t there, size_t *header, uint64_t *body)
{
    switch (f->kind) {
    case FW_ASCII:
        return fw_read_ascii(f, p, there, header, body);
    case FW_VARINT:
        return fw_read_varint(f, p, there, header, body);
    case FW_NETSTRING:
        return fw_read_netstring(f, p, there, header, body);
    case FW_FIXED_SIZE:
        return fw_read_fixed_size(f, p, there, header, body);
    case FW_MULTIPROCESSING:
        return fw_read_multiprocessing(f, p, there, header, body);
    default:
        if (f->plain && f->width == 4)
            return f->little ? fw_read32le(f, p, there, header, body) : fw_read32be(f, p, there, header, body);
        return fw_read_length_field(f, p, there, header, body);
    }
}

/* Bytes that a header cut short is missing, at the least; 0 if nothing tells. */
static inline ptrdiff_t fw_header_missing(const fw_format *f, ptrdiff_t there)
{
    switch (f->kind) {
    case FW_ASCII:
        return f->width - there;
    case FW_LENGTH_FIELD:
        return (ptrdiff_t)f->header_size - there;
    case FW_FIXED_SIZE:
        return (ptrdiff_t)f->size;
    case FW_MULTIPROCESSING:
        return (there < 4 ? 4 : 12) - there;
    default:
        return 0;
    }
}

/* Delimiters. The first that begins in data[start:end]: where, and its size. Size 0 means that there is none, and that
 * none can begin before that place; unless this is the final data, one may have begun there whose end is to come. */
static inline ptrdiff_t fw_find(
    const fw_format *f, const uint8_t *data, ptrdiff_t start, ptrdiff_t end, int final, ptrdiff_t *size)
{
    *size = 0;
    if (f->delimiter_count == 1) {
        const fw_delimiter *only = f->delimiters;
        while (start < end) {
            const uint8_t *p = (const uint8_t *)memchr(data + start, only->bytes[0], (size_t)(end - start));
            if (p == NULL)
                return end;
            ptrdiff_t at = p - data, left = end - at;
            if (left >= only->size) {
                if (only->size == 1 || memcmp(p, only->bytes, (size_t)only->size) == 0) {
                    *size = only->size;
                    return at;
                }
            }
            else if (!final && memcmp(p, only->bytes, (size_t)left) == 0)
                return at;
            start = at + 1;
        }
        return end;
    }
    for (ptrdiff_t at = start; at < end; at++) {
        if (!f->begins[data[at]])
            continue;
        ptrdiff_t left = end - at;
        for (ptrdiff_t i = 0; i < f->delimiter_count; i++) {   /* longest first */
            const fw_delimiter *one = f->delimiters + i;
            if (one->size > left ? !final && memcmp(data + at, one->bytes, (size_t)left) == 0
                                 : memcmp(data + at, one->bytes, (size_t)one->size) == 0) {
                *size = one->size > left ? 0 : one->size;
                return at;
            }
        }
    }
    return end;
}

static inline ptrdiff_t fw_walk_delimited(
    const fw_format *f, const uint8_t *data, ptrdiff_t size, int final, ptrdiff_t *pos, ptrdiff_t *scanned,
    int64_t *starts, int64_t *lengths, ptrdiff_t room, int *status)
{
    ptrdiff_t begin = *pos, from = *scanned > begin ? *scanned : begin, found, n = 0;
    *status = FW_FULL;
    while (n < room) {
        from = fw_find(f, data, from, size, final, &found);
        if ((uint64_t)(from - begin) > f->limit) {
            *status = FW_NO_DELIMITER;
            break;
        }
        if (!found) {
            *status = FW_MORE;
            break;
        }
        starts[n] = begin;
        lengths[n] = from - begin + (f->keep ? found : 0);
        n++;
        begin = from += found;
    }
    *pos = begin;
    *scanned = from;
    return n;
}

/* The walk from header to header. With `read` and the rest known to the compiler, one tight loop a format. `alike`: a
 * header of so many bytes is compared with the last one; 0: that is not worth it. */
FW_INLINE ptrdiff_t fw_walk(
    fw_reader read, size_t alike, int stripped, int trailer, const fw_format *FW_RESTRICT f, const uint8_t *FW_RESTRICT data,
    ptrdiff_t size, ptrdiff_t *FW_RESTRICT pos, int64_t *FW_RESTRICT starts, int64_t *FW_RESTRICT lengths,
    ptrdiff_t room, size_t *FW_RESTRICT header_size, uint64_t *FW_RESTRICT body_size, int *FW_RESTRICT status)
{
    size_t at = (size_t)*pos, before = at, end = (size_t)size, header = 0;
    uint64_t body = 0;
    ptrdiff_t n = 0;
    int now = FW_FULL;
    while (n < room) {
        /* Where frames are alike, the processor guesses that this header is the last one again and goes ahead; else it has
         * to read each before it knows where the next is, which for digits is long. (For binary lengths a wrong guess
         * costs more than a right one saves.) */
        if (!(alike && header == alike && end - at >= alike && memcmp(data + at, data + before, alike) == 0)) {
            now = read(f, data + at, end - at, &header, &body);
            if (FW_UNLIKELY(now != FW_OK))
                break;
        }
        before = at;
        size_t rest = end - at - header;
        if (FW_UNLIKELY(trailer ? body >= rest : body > rest)) {
            now = FW_REST;
            break;
        }
        size_t stop = at + header + (size_t)body;
        if (trailer && data[stop] != ',') {
            now = FW_BAD_TRAILER;
            break;
        }
        /* A header cannot be loaded before the one in front of it is read, and the processor does not look beyond a
         * page by itself: ask for what lies ahead. */
        FW_PREFETCH(data + stop + 2048);
        size_t start = stripped ? at + (size_t)f->strip : at + header;
        starts[n] = (int64_t)start;
        lengths[n] = (int64_t)(stop - start);
        n++;
        at = stop + (size_t)trailer;
        now = FW_FULL;
    }
    *pos = (ptrdiff_t)at;
    *header_size = header;
    *body_size = body;
    *status = now;
    return n;
}

/* Where the payloads lie that stand whole in data[*pos:size], `room` of them at most: how many. *pos is moved to the
 * first frame that is not whole (or not allowed, or for which there was no room), *status says which of these, *header
 * and *body are its sizes if it has a header that is whole, and *scanned is up to where it was searched for its
 * delimiter. */
static inline ptrdiff_t fw_scan(
    const fw_format *f, const uint8_t *data, ptrdiff_t size, ptrdiff_t *pos, ptrdiff_t *scanned, int64_t *starts,
    int64_t *lengths, ptrdiff_t room, size_t *header, uint64_t *body, int *status)
{
#define FW_WALK(READ, ALIKE, STRIPPED, TRAILER)                                                                        \
    return fw_walk(READ, ALIKE, STRIPPED, TRAILER, f, data, size, pos, starts, lengths, room, header, body, \
                   status)
    switch (f->kind) {
    case FW_DELIMITED:
        return fw_walk_delimited(f, data, size, 0, pos, scanned, starts, lengths, room, status);
    case FW_ASCII:
        if (f->width == 10 && f->align == '<')
            FW_WALK(fw_read_ascii10, 10, 0, 0);
        FW_WALK(fw_read_ascii, 0, 0, 0);
    case FW_VARINT:
        FW_WALK(fw_read_varint, 0, 0, 0);
    case FW_NETSTRING:
        FW_WALK(fw_read_netstring, 0, 0, 1);
    case FW_FIXED_SIZE:
        FW_WALK(fw_read_fixed_size, 0, 0, 0);
    case FW_MULTIPROCESSING:
        FW_WALK(fw_read_multiprocessing, 0, 0, 0);
    default:
        if (f->strip >= 0)
            FW_WALK(fw_read_length_field, 0, 1, 0);
        if (!f->plain)
            FW_WALK(fw_read_length_field, 0, 0, 0);
        switch (f->width * 2 + f->little) {
        case 2:
            FW_WALK(fw_read8, 0, 0, 0);
        case 4:
            FW_WALK(fw_read16be, 0, 0, 0);
        case 5:
            FW_WALK(fw_read16le, 0, 0, 0);
        case 8:
            FW_WALK(fw_read32be, 0, 0, 0);
        case 9:
            FW_WALK(fw_read32le, 0, 0, 0);
        case 16:
            FW_WALK(fw_read64be, 0, 0, 0);
        case 17:
            FW_WALK(fw_read64le, 0, 0, 0);
        default:
            FW_WALK(fw_read_length_field, 0, 0, 0);
        }
    }
#undef FW_WALK
}

/* Writing */

/* memcpy, without a call for the sizes that most messages have: by moves that overlap. */
FW_INLINE void fw_copy(uint8_t *to, const uint8_t *from, size_t size)
{
#define FW_TWICE(N) (memcpy(to, from, (N)), memcpy(to + size - (N), from + size - (N), (N)))
    if (size > 64)
        fw_memcpy(to, from, size);
    else if (size >= 16) {
        if (size > 32)
            FW_TWICE(32);
        else
            FW_TWICE(16);
    }
    else if (size >= 8)
        FW_TWICE(8);
    else if (size >= 4)
        FW_TWICE(4);
    else if (size) {
        to[0] = from[0];
        to[size / 2] = from[size / 2];
        to[size - 1] = from[size - 1];
    }
#undef FW_TWICE
}

/* Bytes in the header of a payload of `size` bytes, or -1 if no such payload can be sent. */
static inline ptrdiff_t fw_header_size(const fw_format *f, uint64_t size)
{
    ptrdiff_t n;
    if (size > f->limit || size < f->plus)
        return -1;
    switch (f->kind) {
    case FW_ASCII:
        return f->width;
    case FW_LENGTH_FIELD:
        return (ptrdiff_t)f->header_size;
    case FW_VARINT:
        for (n = 1; size >= 0x80; size >>= 7)
            n++;
        return n;
    case FW_NETSTRING:
        for (n = 2; size >= 10; size /= 10)
            n++;
        return n;
    case FW_FIXED_SIZE:
        return size == f->size ? 0 : -1;
    case FW_MULTIPROCESSING:
        return size <= 0x7FFFFFFF ? 4 : 12;
    default:
        return 0;
    }
}

/* The same for a payload that is at hand; -1 too if it is for the reference to say what is wrong with it, or right. */
FW_INLINE ptrdiff_t fw_header_before(const fw_format *f, const uint8_t *payload, ptrdiff_t size)
{
    ptrdiff_t found;
    if (f->kind == FW_DELIMITED && (f->keep || fw_find(f, payload, 0, size, 0, &found) < size))
        return -1;
    return fw_header_size(f, (uint64_t)size);
}

/* The header of a payload of `size` bytes, in the `header` bytes that fw_header_size() gave. */
static inline void fw_write_header(const fw_format *f, uint8_t *p, ptrdiff_t header, uint64_t size)
{
    uint8_t *end = p + header;
    switch (f->kind) {
    case FW_ASCII: {
        uint8_t digits[20], *first = digits + 20;
        do
            *--first = (uint8_t)('0' + size % 10);
        while (size /= 10);
        ptrdiff_t count = digits + 20 - first;
        memset(p, f->align == '0' ? '0' : ' ', (size_t)header);
        memcpy(f->align == '<' ? p : end - count, first, (size_t)count);
        break;
    }
    case FW_LENGTH_FIELD:
        memset(p, 0, f->offset);
        fw_store(p + f->offset, f->width, f->little, size + f->minus - f->plus);
        break;
    case FW_VARINT:
        for (; size >= 0x80; size >>= 7)
            *p++ = (uint8_t)(size | 0x80);
        *p = (uint8_t)size;
        break;
    case FW_NETSTRING:
        *--end = ':';
        while (end > p) {
            *--end = (uint8_t)('0' + size % 10);
            size /= 10;
        }
        break;
    case FW_MULTIPROCESSING:
        if (header == 4)
            fw_store(p, 4, 0, size);
        else {
            fw_store(p, 4, 0, 0xFFFFFFFF);
            fw_store(p + 4, 8, 0, size);
        }
        break;
    default:
        break;
    }
}

/* What stands around a payload of `size` bytes. */
static inline void fw_write_around(const fw_format *f, uint8_t *frame, ptrdiff_t header, ptrdiff_t size)
{
    fw_write_header(f, frame, header, (uint64_t)size);
    if (f->writes.size)
        memcpy(frame + header + size, f->writes.bytes, (size_t)f->writes.size);
}

FW_FAST_END

#endif
