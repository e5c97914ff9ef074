/* WebSocket frames in C (RFC 6455, section 5): headers, masking, and the UTF-8 of text.
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +-+-+-+-+-------+-+-------------+-------------------------------+
 *     |F|R|R|R| opcode|M| 0..125      |  or 126, and 16 bits of size  |
 *     |I|S|S|S|  (4)  |A| = size      |  or 127, and 64 bits of size  |
 *     |N|V|V|V|       |S|             |                               |
 *     | |1|2|3|       |K|             | then, if MASK: 4 bytes of key |
 *     +-+-+-+-+-------+-+-------------+-------------------------------+
 *
 * Rules:
 * - Nothing outside the bytes that are given is read or written; they need not be aligned.
 * - A key is the four bytes as they stand in memory, never a number: `fw_turn` is the only one to know about byte order.
 * - Masking may be done in place: `to` is `from`, or they do not overlap.
 */
#ifndef FRAMEWIRE_WEBSOCKET_H
#define FRAMEWIRE_WEBSOCKET_H

#include "wire.h"

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define FW_VECTOR __m128i
#define FW_VECTOR_LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define FW_VECTOR_STORE(p, v) _mm_storeu_si128((__m128i *)(p), v)
#define FW_VECTOR_KEY(key) _mm_set1_epi32((int)(key))
#define FW_VECTOR_XOR(a, b) _mm_xor_si128(a, b)
#define FW_VECTOR_OR(a, b) _mm_or_si128(a, b)
#define FW_VECTOR_ASCII(v) (!_mm_movemask_epi8(v))
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define FW_VECTOR uint8x16_t
#define FW_VECTOR_LOAD(p) vld1q_u8(p)
#define FW_VECTOR_STORE(p, v) vst1q_u8(p, v)
#define FW_VECTOR_KEY(key) vreinterpretq_u8_u32(vdupq_n_u32(key))
#define FW_VECTOR_XOR(a, b) veorq_u8(a, b)
#define FW_VECTOR_OR(a, b) vorrq_u8(a, b)
#define FW_VECTOR_ASCII(v) (vmaxvq_u8(v) < 0x80)
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define FW_HAS_AVX2 1
#endif

FW_FAST_BEGIN

/* Masking (section 5.3): byte i of the payload XOR byte i mod 4 of the key. */

/* The key for what begins `offset` bytes further on. */
FW_INLINE uint32_t fw_turn(uint32_t key, size_t offset)
{
    uint8_t bytes[8];
    memcpy(bytes, &key, 4);
    memcpy(bytes + 4, &key, 4);
    memcpy(&key, bytes + (offset & 3), 4);
    return key;
}

FW_INLINE uint64_t fw_key64(uint32_t key) { return (uint64_t)key << 32 | key; }

/* Fewer than 16 bytes. What is left behind whole words is done by words that overlap, which are read before anything
 * is written: that keeps it right in place. */
FW_INLINE void fw_mask_few(uint8_t *to, const uint8_t *from, size_t size, uint32_t key)
{
    if (size >= 8) {
        uint64_t first, last;
        memcpy(&first, from, 8);
        memcpy(&last, from + size - 8, 8);
        first ^= fw_key64(key);
        last ^= fw_key64(fw_turn(key, size));
        memcpy(to, &first, 8);
        memcpy(to + size - 8, &last, 8);
    } else if (size >= 4) {
        uint32_t first, last;
        memcpy(&first, from, 4);
        memcpy(&last, from + size - 4, 4);
        first ^= key;
        last ^= fw_turn(key, size);
        memcpy(to, &first, 4);
        memcpy(to + size - 4, &last, 4);
    } else {
        uint8_t bytes[4];
        memcpy(bytes, &key, 4);
        for (size_t i = 0; i < size; i++)
            to[i] = from[i] ^ bytes[i];
    }
}

/* Up to some hundred bytes: sixteen at a time, without a call. */
FW_INLINE void fw_mask_short(uint8_t *to, const uint8_t *from, size_t size, uint32_t key)
{
    if (size < 16) {
        fw_mask_few(to, from, size, key);
        return;
    }
#ifdef FW_VECTOR
    const FW_VECTOR wide = FW_VECTOR_KEY(key);
    const FW_VECTOR last = FW_VECTOR_XOR(FW_VECTOR_LOAD(from + size - 16), FW_VECTOR_KEY(fw_turn(key, size)));
    for (size_t i = 0; i + 16 < size; i += 16)
        FW_VECTOR_STORE(to + i, FW_VECTOR_XOR(FW_VECTOR_LOAD(from + i), wide));
    FW_VECTOR_STORE(to + size - 16, last);
#else
    const uint64_t wide = fw_key64(key);
    uint64_t word, last;
    memcpy(&last, from + size - 8, 8);
    last ^= fw_key64(fw_turn(key, size));
    for (size_t i = 0; i + 8 < size; i += 8) {
        memcpy(&word, from + i, 8);
        word ^= wide;
        memcpy(to + i, &word, 8);
    }
    memcpy(to + size - 8, &last, 8);
#endif
}

enum { FW_MASK_WIDE = 256 };   /* bytes from which a call to the widest loop is worth it */

#ifdef FW_HAS_AVX2
__attribute__((target("avx2"), noinline)) static void fw_mask_avx2(
    uint8_t *to, const uint8_t *from, size_t size, uint32_t key)
{
    const __m256i wide = _mm256_set1_epi32((int)key);
    size_t i = 0;
    for (; i + 128 <= size; i += 128) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(from + i));
        __m256i b = _mm256_loadu_si256((const __m256i *)(from + i + 32));
        __m256i c = _mm256_loadu_si256((const __m256i *)(from + i + 64));
        __m256i d = _mm256_loadu_si256((const __m256i *)(from + i + 96));
        _mm256_storeu_si256((__m256i *)(to + i), _mm256_xor_si256(a, wide));
        _mm256_storeu_si256((__m256i *)(to + i + 32), _mm256_xor_si256(b, wide));
        _mm256_storeu_si256((__m256i *)(to + i + 64), _mm256_xor_si256(c, wide));
        _mm256_storeu_si256((__m256i *)(to + i + 96), _mm256_xor_si256(d, wide));
    }
    fw_mask_short(to + i, from + i, size - i, key);
}
#endif

static void fw_mask_long(uint8_t *to, const uint8_t *from, size_t size, uint32_t key)
{
    fw_mask_short(to, from, size, key);
}

#ifdef FW_HAS_AVX2
/* Whether the processor has AVX2, and the system keeps its registers (Intel's manual, volume 1, section 14.7.1). The
 * compiler's own __builtin_cpu_supports() brings a table of every processor with it, 5 KB. */
static int fw_can_avx2(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX))
        return 0;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    if ((a & 6) != 6)   /* XMM and YMM */
        return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}
#endif

/* The widest loop of this processor. Chosen once, when the module is loaded. */
static void (*fw_mask_wide)(uint8_t *, const uint8_t *, size_t, uint32_t) = fw_mask_long;

static void fw_choose_mask(void)
{
#ifdef FW_HAS_AVX2
    if (fw_can_avx2())
        fw_mask_wide = fw_mask_avx2;
#endif
}

/* Copy `size` bytes and mask or unmask them; `key` belongs to the first of them. */
FW_INLINE void fw_mask(uint8_t *to, const uint8_t *from, size_t size, uint32_t key)
{
    if (size < FW_MASK_WIDE)
        fw_mask_short(to, from, size, key);
    else
        fw_mask_wide(to, from, size, key);
}

/* Headers (section 5.2) */

enum { FW_FIN = 0x80, FW_RSV1 = 0x40, FW_RSV = 0x70, FW_OPCODE = 0x0F, FW_CONTROL = 0x08, FW_MASKED = 0x80 };
enum { FW_CONTINUATION = 0, FW_TEXT = 1, FW_BINARY = 2, FW_CLOSE = 8, FW_PING = 9, FW_PONG = 10 };
enum { FW_WS_HEADER_SIZE = 14, FW_CONTROL_SIZE = 125 };

typedef struct {
    uint8_t first;      /* FIN, RSV1-3, opcode */
    uint8_t masked;     /* not 0: there is a key */
    uint8_t size_code;  /* 0..125: the size; 126, 127: it stands behind, in 2 or 8 bytes */
    uint32_t key;       /* 0 if not masked */
    uint64_t size;      /* of the payload, all 64 bits of it */
} fw_ws_header;

/* Bytes in the header that begins with these two. */
FW_INLINE size_t fw_ws_header_size(uint8_t second)
{
    unsigned code = second & 0x7F;
    return 2 + (code == 126 ? 2 : code == 127 ? 8 : 0) + (second & FW_MASKED ? 4 : 0);
}

/* Read a header of which `there` bytes are there; return its size, or 0 if it is not whole. Nothing is checked. */
FW_INLINE size_t fw_ws_read(const uint8_t *p, size_t there, fw_ws_header *header)
{
    if (there < 2)
        return 0;
    size_t size = fw_ws_header_size(p[1]);
    if (there < size)
        return 0;
    header->first = p[0];
    header->masked = p[1] & FW_MASKED;
    header->size_code = p[1] & 0x7F;
    header->size = header->size_code < 126 ? header->size_code
                   : header->size_code == 126 ? fw_load16be(p + 2) : fw_load64be(p + 2);
    header->key = 0;
    if (header->masked)
        memcpy(&header->key, p + size - 4, 4);
    return size;
}

/* What a header is checked against (the twin's Rules): the stream's own rules, and those of the message under way. */
typedef struct {
    int masked;             /* what comes must be masked, or must not be: FW_MASKED or 0 */
    int long_lengths;       /* lengths may stand in more bytes than they need */
    int compression;        /* RSV1 has a meaning */
    uint64_t frame_limit;   /* bytes in the payload of a frame */
    uint64_t limit;         /* bytes in a message; all three are far below 2^63 */
    uint64_t wire_limit;    /* bytes in a compressed message */
    int opened;             /* the opcode of a message of which not all fragments have come */
    int compressed;         /* whether it is */
    uint64_t done;          /* bytes of its payloads on the wire so far: at most the limit */
} fw_ws_rules;

FW_INLINE int fw_ws_first_is_wrong(const fw_ws_rules *rules, uint8_t first)
{
    unsigned opcode = first & FW_OPCODE, reserved = first & FW_RSV;
    if (opcode > FW_PONG || (opcode > FW_BINARY && opcode < FW_CLOSE))
        return 1;
    if (reserved && (reserved != FW_RSV1 || !rules->compression || (opcode != FW_TEXT && opcode != FW_BINARY)))
        return 1;
    if (opcode & FW_CONTROL)
        return !(first & FW_FIN);
    return (opcode == FW_CONTINUATION) != (rules->opened != 0);
}

/* Read a header and check it; return its size, 0 if it is not whole yet, or -1 as soon as it shows that it is wrong. */
static ptrdiff_t fw_ws_check(const fw_ws_rules *rules, const uint8_t *p, size_t there, fw_ws_header *header)
{
    if (!there)
        return 0;
    if (fw_ws_first_is_wrong(rules, p[0]))
        return -1;
    if (there < 2)
        return 0;
    unsigned code = p[1] & 0x7F;
    if ((p[1] & FW_MASKED) != rules->masked)
        return -1;
    uint64_t size = code;
    if (code > FW_CONTROL_SIZE) {
        size_t width = code == 126 ? 2 : 8;
        if (p[0] & FW_CONTROL)
            return -1;
        if (width == 8 && there > 2 && p[2] & 0x80 && !rules->long_lengths)
            return -1;
        if (there < 2 + width)
            return 0;
        size = fw_load(p + 2, (int)width, 0);
        if (size <= (width == 2 ? FW_CONTROL_SIZE : 0xFFFF) && !rules->long_lengths)
            return -1;
    }
    if (!(p[0] & FW_CONTROL)) {
        int compressed = rules->opened ? rules->compressed : p[0] & FW_RSV1;
        if (size > rules->frame_limit || size > (compressed ? rules->wire_limit : rules->limit) - rules->done)
            return -1;
    }
    return (ptrdiff_t)fw_ws_read(p, there, header);
}

/* The header of a data message that stands whole in these bytes, uncompressed and in one frame, and is allowed if no
 * other is under way: its size; or 0, and then it takes a closer look. */
FW_INLINE size_t fw_ws_plain(const fw_ws_rules *rules, const uint8_t *p, size_t there, uint64_t *size)
{
    size_t header = 2;
    if (there < 2 || (unsigned)p[0] - (FW_FIN | FW_TEXT) > 1 || (p[1] & FW_MASKED) != rules->masked)
        return 0;
    *size = p[1] & 0x7F;
    if (*size > FW_CONTROL_SIZE) {
        int width = *size == 126 ? 2 : 8;
        header += (size_t)width;
        if (there < header)
            return 0;
        *size = fw_load(p + 2, width, 0);
        if (*size <= (width == 2 ? FW_CONTROL_SIZE : 0xFFFF) && !rules->long_lengths)
            return 0;
    }
    if (*size > rules->limit || *size > rules->frame_limit)
        return 0;
    if (rules->masked)
        header += 4;
    return there >= header && *size <= there - header ? header : 0;
}

/* Write a header; return its size. A client gives the four bytes of its key. */
FW_INLINE size_t fw_ws_write(uint8_t *p, uint8_t first, uint64_t size, const uint8_t *key)
{
    uint8_t masked = key ? FW_MASKED : 0;
    size_t at = 2;
    p[0] = first;
    if (size < 126) {
        p[1] = (uint8_t)(masked | size);
    } else if (size < 65536) {
        p[1] = masked | 126;
        fw_store(p + 2, 2, 0, size);
        at = 4;
    } else {
        p[1] = masked | 127;
        fw_store(p + 2, 8, 0, size);
        at = 10;
    }
    if (key) {
        memcpy(p + at, key, 4);
        at += 4;
    }
    return at;
}

/* Text (RFC 3629) */

typedef struct {
    int64_t size;        /* bytes of the text so far */
    int64_t start;       /* where in it the character begins that is not whole, or is wrong */
    uint8_t left;        /* bytes of that character that are still to come */
    uint8_t low, high;   /* between which the next of them must be */
} fw_utf8;

FW_INLINE const uint8_t *fw_skip_ascii(const uint8_t *p, const uint8_t *end)
{
#ifdef FW_VECTOR
    while (end - p >= 16 && FW_VECTOR_ASCII(FW_VECTOR_LOAD(p)))
        p += 16;
#endif
    while (p < end && *p < 0x80)
        p++;
    return p;
}

/* Skip characters of two and three bytes, of which the text in most alphabets is made, as far as four bytes are there. */
FW_INLINE const uint8_t *fw_skip_pairs_and_triples(const uint8_t *p, const uint8_t *end)
{
    while (end - p >= 4) {
        uint32_t c = (uint32_t)fw_load32le(p);
        if ((c & 0xC0E0) == 0x80C0 && c & 0x1E) {
            p += 2;
        } else if ((c & 0xC0C0F0) == 0x8080E0) {
            uint32_t where = c & 0x200F;
            if (where == 0 || where == 0x200D)   /* E0 80..9F, ED A0..BF: see below */
                break;
            p += 3;
        } else {
            break;
        }
    }
    return p;
}

/* Go on with a text; return whether it may still be UTF-8. */
static int fw_utf8_check(fw_utf8 *text, const uint8_t *data, size_t size)
{
    const uint8_t *p = data, *end = data + size;
    unsigned left = text->left, low = text->low, high = text->high;
    for (;;) {
        for (; left && p < end; p++, left--) {
            if (*p < low || *p > high)
                return 0;
            low = 0x80;
            high = 0xBF;
        }
        if (!left) {
            p = fw_skip_ascii(p, end);
            const uint8_t *wide = fw_skip_pairs_and_triples(p, end);
            if (wide != p) {
                p = wide;
                continue;
            }
        }
        if (p == end)
            break;
        text->start = text->size + (p - data);
        if (*p < 0xC2 || *p > 0xF4)
            return 0;
        left = *p >= 0xF0 ? 3 : *p >= 0xE0 ? 2 : 1;
        low = *p == 0xE0 ? 0xA0 : *p == 0xF0 ? 0x90 : 0x80;    /* no longer spelling of what is shorter */
        high = *p == 0xED ? 0x9F : *p == 0xF4 ? 0x8F : 0xBF;   /* no surrogates, nothing over U+10FFFF */
        p++;
    }
    text->size += (int64_t)size;
    text->left = (uint8_t)left;
    text->low = (uint8_t)low;
    text->high = (uint8_t)high;
    return 1;
}

FW_FAST_END

#endif
