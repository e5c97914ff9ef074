/* What C can do: decodes a stream of frames, u32be, chunk by chunk.

       decode STREAM CHUNK_SIZE dropped|kept WARMUP PASSES       see ../README.md

   One copy: from the chunk into memory of its own for each payload, from malloc(). A frame that no chunk holds whole is
   put together in that memory. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HEADER_SIZE = 4, MAX_SIZE = 16 << 20 };

struct payload {
    uint32_t size;
    unsigned char data[];
};

struct decoder {
    unsigned char header[HEADER_SIZE]; /* the first `header_size` bytes of the next one */
    size_t header_size;
    struct payload *partial; /* its first `received` bytes; NULL between frames */
    size_t received;
};

typedef void handler(struct payload *);

static struct payload **all; /* what was kept */
static size_t count, capacity;
static uint32_t low, high; /* the two sums of Adler-32 */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static struct payload *new_payload(const unsigned char *header)
{
    uint32_t size;
    memcpy(&size, header, HEADER_SIZE);
    size = ntohl(size);
    if (size > MAX_SIZE) {
        fprintf(stderr, "decode: a frame of %u bytes\n", size);
        exit(1);
    }
    struct payload *it = malloc(sizeof *it + size);
    if (it == NULL)
        die("malloc");
    it->size = size;
    return it;
}

static inline size_t least(size_t one, size_t other)
{
    return one < other ? one : other;
}

/* Goes on with the frame that the chunk before has cut; gives how much of this one it took. */
static size_t resume(struct decoder *it, const unsigned char *chunk, size_t size, handler *handle)
{
    size_t taken = 0;
    if (it->partial == NULL) {
        taken = least(size, HEADER_SIZE - it->header_size);
        memcpy(it->header + it->header_size, chunk, taken);
        it->header_size += taken;
        if (it->header_size < HEADER_SIZE)
            return taken;
        it->partial = new_payload(it->header);
        it->header_size = it->received = 0;
    }
    size_t more = least(size - taken, it->partial->size - it->received);
    memcpy(it->partial->data + it->received, chunk + taken, more);
    it->received += more;
    if (it->received == it->partial->size) {
        handle(it->partial);
        it->partial = NULL;
    }
    return taken + more;
}

static inline void feed(struct decoder *it, const unsigned char *chunk, size_t size, handler *handle)
{
    size_t pos = it->partial || it->header_size ? resume(it, chunk, size, handle) : 0;
    while (size - pos >= HEADER_SIZE) {
        struct payload *payload = new_payload(chunk + pos);
        pos += HEADER_SIZE;
        if (payload->size > size - pos) {
            it->partial = payload;
            it->received = size - pos;
            memcpy(payload->data, chunk + pos, it->received);
            return;
        }
        memcpy(payload->data, chunk + pos, payload->size);
        pos += payload->size;
        handle(payload);
    }
    it->header_size = size - pos;
    memcpy(it->header, chunk + pos, it->header_size);
}

static void drop(struct payload *it)
{
    count++;
    __asm__ volatile("" : : "r"(it->data) : "memory"); /* somebody looked at it: the copy has to be made */
    free(it);
}

static void keep(struct payload *it)
{
    if (count == capacity) {
        capacity = capacity ? 2 * capacity : 1024;
        all = realloc(all, capacity * sizeof *all);
        if (all == NULL)
            die("realloc");
    }
    all[count++] = it;
}

static void sum(const unsigned char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        low = (low + data[i]) % 65521;
        high = (high + low) % 65521;
    }
}

/* The checksum of the frames that the payloads were. */
static void check(struct payload *it)
{
    uint32_t size = htonl(it->size);
    sum((unsigned char *)&size, sizeof size);
    sum(it->data, it->size);
    drop(it);
}

static uint64_t pass(const unsigned char *stream, size_t size, size_t chunk_size, handler *handle)
{
    struct decoder decoder = {.partial = NULL};
    struct timespec begin, end;
    count = 0;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (size_t pos = 0; pos < size; pos += chunk_size)
        feed(&decoder, stream + pos, least(chunk_size, size - pos), handle);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (handle == keep) {
        for (size_t i = 0; i < count; i++)
            free(all[i]);
        free(all);
        all = NULL;
        capacity = 0;
    }
    return (end.tv_sec - begin.tv_sec) * UINT64_C(1000000000) + end.tv_nsec - begin.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 6 || (strcmp(argv[3], "dropped") && strcmp(argv[3], "kept"))) {
        fprintf(stderr, "usage: decode STREAM CHUNK_SIZE dropped|kept WARMUP PASSES\n");
        return 2;
    }
    FILE *file = fopen(argv[1], "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        die(argv[1]);
    size_t size = ftell(file), chunk_size = strtoul(argv[2], NULL, 10);
    unsigned char *stream = malloc(size);
    rewind(file);
    if (stream == NULL || fread(stream, 1, size, file) != size)
        die(argv[1]);

    low = 1;
    pass(stream, size, chunk_size, check);
    printf("{\"count\": %zu, \"adler32\": %u, \"ns\": [", count, high << 16 | low);
    handler *handle = strcmp(argv[3], "kept") == 0 ? keep : drop;
    for (int i = atoi(argv[4]); i > 0; i--)
        pass(stream, size, chunk_size, handle);
    for (int i = 0; i < atoi(argv[5]); i++)
        printf("%s%ju", i ? ", " : "", (uintmax_t)pass(stream, size, chunk_size, handle));
    printf("]}\n");
    return 0;
}
