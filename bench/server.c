/* The limit of the servers: epoll, one thread, no handler between what comes and what goes.

       server echo|broadcast       prints its port on 127.0.0.1, then serves until it is killed

   Frames are a length of four bytes, big-endian, and a payload. echo sends each frame back to where it came from,
   broadcast to everybody else. Level-triggered: a ready connection gets one recv() a turn, and the frames that this
   completes go out as one run, with one send() for each receiver. There is one area to read into for all connections; a
   connection owns memory only while half a frame, or a run that its socket did not take, waits in it. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HEADER_SIZE = 4,
    READ_SIZE = 256 << 10,
    MAX_SIZE = 1 << 20,     /* of a payload */
    UNSENT_LIMIT = 4 << 20, /* a receiver that is further behind is dropped */
    EVENT_COUNT = 1024,
    BACKLOG = 4096,
};

struct bytes {
    char *data;
    size_t size, capacity;
};

struct connection {
    int fd;              /* -1: lost, to be freed after this turn, which may have an event for it yet */
    struct bytes tail;   /* the frame that has not come whole */
    struct bytes unsent; /* while there is any, nothing is read: who does not take answers asks no questions */
};

static bool broadcasting;
static int epoll;
static struct bytes area;
static struct connection **everyone;
static size_t count, capacity;
static bool some_lost;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void reserve(struct bytes *it, size_t wanted)
{
    if (wanted <= it->capacity)
        return;
    it->capacity = wanted;
    it->data = realloc(it->data, wanted);
    if (it->data == NULL)
        die("realloc");
}

static void append(struct bytes *it, const char *data, size_t size)
{
    reserve(it, it->size + size);
    memcpy(it->data + it->size, data, size);
    it->size += size;
}

static void release(struct bytes *it)
{
    free(it->data);
    *it = (struct bytes){0};
}

static void lose(struct connection *it)
{
    close(it->fd);
    it->fd = -1;
    some_lost = true;
}

static void free_the_lost(void)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct connection *it = everyone[i];
        if (it->fd >= 0) {
            everyone[kept++] = it;
            continue;
        }
        release(&it->tail);
        release(&it->unsent);
        free(it);
    }
    count = kept;
    some_lost = false;
}

static void watch(struct connection *it, int operation)
{
    struct epoll_event event = {.events = it->unsent.size ? EPOLLOUT : EPOLLIN, .data.ptr = it};
    if (epoll_ctl(epoll, operation, it->fd, &event) < 0)
        die("epoll_ctl");
}

/* How many bytes the socket took; -1 if the connection is lost. */
static ssize_t send_some(struct connection *to, const char *data, size_t size)
{
    ssize_t sent = send(to->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    lose(to);
    return -1;
}

static void send_run(struct connection *to, const char *run, size_t size)
{
    bool waiting = to->unsent.size > 0;
    ssize_t sent = waiting ? 0 : send_some(to, run, size);
    if (sent < 0 || (size_t)sent == size)
        return;
    append(&to->unsent, run + sent, size - sent);
    if (to->unsent.size > UNSENT_LIMIT)
        lose(to);
    else if (!waiting)
        watch(to, EPOLL_CTL_MOD);
}

static void send_unsent(struct connection *to)
{
    ssize_t sent = send_some(to, to->unsent.data, to->unsent.size);
    if (sent <= 0)
        return;
    to->unsent.size -= sent;
    if (to->unsent.size > 0) {
        memmove(to->unsent.data, to->unsent.data + sent, to->unsent.size);
        return;
    }
    release(&to->unsent);
    watch(to, EPOLL_CTL_MOD);
}

static void receive(struct connection *from)
{
    size_t size = from->tail.size;
    reserve(&area, size + READ_SIZE);
    ssize_t received = recv(from->fd, area.data + size, READ_SIZE, MSG_DONTWAIT);
    if (received <= 0) {
        if (received == 0 || (errno != EAGAIN && errno != EINTR))
            lose(from);
        return;
    }
    if (size > 0)
        memcpy(area.data, from->tail.data, size);
    size += received;

    size_t end = 0; /* of the last whole frame */
    while (size - end >= HEADER_SIZE) {
        uint32_t length;
        memcpy(&length, area.data + end, HEADER_SIZE);
        length = ntohl(length);
        if (length > MAX_SIZE) {
            lose(from);
            return;
        }
        if (size - end - HEADER_SIZE < length)
            break;
        end += HEADER_SIZE + length;
    }
    from->tail.size = 0;
    if (size > end)
        append(&from->tail, area.data + end, size - end);
    else if (from->tail.data != NULL)
        release(&from->tail);
    if (end == 0)
        return;
    if (!broadcasting) {
        send_run(from, area.data, end);
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (everyone[i] != from && everyone[i]->fd >= 0)
            send_run(everyone[i], area.data, end);
}

static void accept_all(int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *it = calloc(1, sizeof *it);
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            everyone = realloc(everyone, capacity * sizeof *everyone);
        }
        if (it == NULL || everyone == NULL)
            die("accept");
        it->fd = fd;
        everyone[count++] = it;
        watch(it, EPOLL_CTL_ADD);
    }
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        die("accept");
}

static int listen_somewhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, BACKLOG) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        die("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int argc, char **argv)
{
    if (argc != 2 || (strcmp(argv[1], "echo") && strcmp(argv[1], "broadcast"))) {
        fprintf(stderr, "usage: server echo|broadcast\n");
        return 2;
    }
    broadcasting = strcmp(argv[1], "broadcast") == 0;
    int listener = listen_somewhere();
    epoll = epoll_create1(0);
    struct epoll_event listening = {.events = EPOLLIN}; /* no connection: data.ptr is NULL */
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &listening) < 0)
        die("epoll");

    static struct epoll_event events[EVENT_COUNT];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENT_COUNT, -1);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct connection *it = events[i].data.ptr;
            if (it == NULL)
                accept_all(listener);
            else if (it->fd < 0)
                continue;
            else if (it->unsent.size > 0)
                send_unsent(it);
            else
                receive(it);
        }
        if (some_lost)
            free_the_lost();
    }
}
