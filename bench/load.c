/* The load: keeps a fixed number of messages in flight to a server on 127.0.0.1, and checks every byte that comes back.

       load echo PORT --connections N --window W      W frames in flight on each connection, which gets them back
       load broadcast PORT --connections N --window W      one more connection sends, all N get every frame; a frame is
                                         sent when all have got the one that was sent W before it
       load idle PORT --connections N         each gets one frame back, then all are held until standard input ends

       --size BYTES          of a payload (32); in front of it a length of four bytes, big-endian
       --seconds S, --messages M            count until the first of the two is reached (1 s, no limit), after
       --warmup S                           that were not counted (0.2)
       --server PID                         say how busy that process was meanwhile
       --sleep                              do not spin: where there is no core for the load alone

   Prints a line of JSON: what was delivered, in which time, how busy the two processes were, and how long they had to
   wait for their cores (the longer of the two). One thread, epoll. It spins while it waits: asleep, it would add its
   own waking to every round trip, and the work of waking it to the server's. All connections send and expect the same
   stream, which is made once and stays in the cache: a frame costs a memcmp here, a read one recv() and one send(). */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HEADER_SIZE = 4,
    LEAST_PERIOD = 1024, /* frames until the stream begins anew */
    EVENT_COUNT = 1024,
    PATIENCE = 10,   /* seconds without a byte until the load gives up */
    LOT = 256,       /* connections opened before the first of them is served: less than any backlog */
    SPARE_COUNT = 16 /* descriptors that are no connections */
};

struct peer {
    int fd;
    bool stuck;                  /* the socket took no more: waiting for EPOLLOUT */
    uint64_t granted;            /* frames that may be sent */
    uint64_t sent, received;     /* bytes */
    uint64_t received_count;     /* frames */
};

static enum { ECHO, BROADCAST, IDLE } mode;
static size_t connections = 1, window = 1, payload_size = 32;
static double seconds = 1, warmup = 0.2;
static uint64_t messages = UINT64_MAX;
static pid_t server;
static bool sleeping;

static struct peer *peers; /* the sender of a broadcast is the last */
static size_t peer_count;
static int epoll;

static char *stream; /* two periods, so that no piece of it has to be put together */
static size_t frame_size, period_size;
static char *area;

static uint64_t delivered, expected; /* frames; equal when nothing is in flight */
static bool stopping;                /* what is in flight is waited for, and nothing granted */

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    exit(1);
}

static void check(bool good, const char *what)
{
    if (!good)
        die("%s: %s", what, strerror(errno));
}

static double now(clockid_t clock)
{
    struct timespec time;
    check(clock_gettime(clock, &time) == 0, "clock_gettime");
    return time.tv_sec + time.tv_nsec * 1e-9;
}

/* Seconds for which a process was ready, and something else had its core; 0 where the kernel does not count them. */
static double waited(pid_t process)
{
    char name[64];
    uintmax_t nanoseconds = 0;
    snprintf(name, sizeof name, "/proc/%jd/schedstat", (intmax_t)process);
    FILE *file = fopen(name, "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*s %ju", &nanoseconds) != 1)
        nanoseconds = 0;
    fclose(file);
    return nanoseconds * 1e-9;
}

static void make_stream(void)
{
    size_t period = window > LEAST_PERIOD ? window : LEAST_PERIOD;
    uint32_t noise = 1;
    frame_size = HEADER_SIZE + payload_size;
    period_size = period * frame_size;
    stream = malloc(2 * period_size);
    area = malloc(period_size);
    check(stream && area, "malloc");
    for (size_t i = 0; i < 2 * period_size; i++) {
        noise = noise * 1664525 + 1013904223;
        stream[i] = i < period_size ? (char)(noise >> 24) : stream[i - period_size];
    }
    uint32_t length = htonl(payload_size);
    for (size_t i = 0; i < 2 * period_size; i += frame_size)
        memcpy(stream + i, &length, HEADER_SIZE);
}

static void raise_limit(void)
{
    struct rlimit limit;
    check(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    if (peer_count + SPARE_COUNT > limit.rlim_max)
        die("%zu connections need more than the %ju descriptors that the hard limit (ulimit -Hn) allows", peer_count,
            (uintmax_t)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
}

static void open_peer(struct peer *it, int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    /* A reset at the end leaves no TIME_WAIT behind: thousands for each run would use up the ports. */
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct timeval patience = {.tv_sec = PATIENCE};
    int on = 1;
    it->fd = socket(AF_INET, SOCK_STREAM, 0);
    check(it->fd >= 0, "socket");
    check(connect(it->fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    setsockopt(it->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(it->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(it->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void watch(struct peer *it, int operation)
{
    struct epoll_event event = {.events = it->stuck ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = it};
    check(epoll_ctl(epoll, operation, it->fd, &event) == 0, "epoll_ctl");
}

static void grant(struct peer *to, uint64_t until)
{
    expected += (until - to->granted) * (mode == BROADCAST ? connections : 1);
    to->granted = until;
}

/* What is granted is never more than a period ahead of what was sent. */
static void send_granted(struct peer *to)
{
    size_t size = to->granted * frame_size - to->sent;
    if (size == 0)
        return;
    ssize_t sent = send(to->fd, stream + to->sent % period_size, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    check(sent >= 0 || errno == EAGAIN, "send");
    to->sent += sent > 0 ? sent : 0;
    bool stuck = sent < (ssize_t)size;
    if (stuck != to->stuck) {
        to->stuck = stuck;
        watch(to, EPOLL_CTL_MOD);
    }
}

/* How many frames came whole. */
static size_t receive(struct peer *from, const struct peer *sender)
{
    ssize_t size = recv(from->fd, area, period_size, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN)
        return 0;
    check(size >= 0, "recv");
    size_t number = from - peers;
    if (size == 0)
        die("the server closed connection %zu after %ju bytes", number, (uintmax_t)from->received);
    if (from->received + size > sender->sent)
        die("more came on connection %zu than was sent: %ju bytes", number, (uintmax_t)(from->received + size));
    if (memcmp(area, stream + from->received % period_size, size) != 0)
        die("what came on connection %zu is not what was sent: %zd bytes after the first %ju", number, size,
            (uintmax_t)from->received);
    uint64_t before = from->received_count;
    from->received += size;
    from->received_count = from->received / frame_size;
    delivered += from->received_count - before;
    return from->received_count - before;
}

static void echo_turn(struct epoll_event *events, int ready)
{
    for (int i = 0; i < ready; i++) {
        struct peer *it = events[i].data.ptr;
        if (events[i].events & ~EPOLLOUT && receive(it, it) > 0 && !stopping)
            grant(it, it->received_count + window);
        send_granted(it);
    }
}

static void broadcast_turn(struct epoll_event *events, int ready)
{
    static uint64_t slowest; /* as many frames all receivers have */
    static size_t *standing; /* how many receivers have `slowest` frames, one more, ..., `window` more: a ring */
    struct peer *sender = &peers[connections];
    size_t ring = window + 1;
    if (standing == NULL) {
        standing = calloc(ring, sizeof *standing);
        check(standing != NULL, "calloc");
        standing[0] = connections;
    }
    for (int i = 0; i < ready; i++) {
        struct peer *it = events[i].data.ptr;
        if (it == sender) {
            if (events[i].events & ~EPOLLOUT)
                receive(it, &(struct peer){0}); /* nothing may come: this dies, and says why */
            continue;
        }
        standing[it->received_count % ring]--;
        receive(it, sender);
        standing[it->received_count % ring]++;
    }
    while (slowest < sender->granted && standing[slowest % ring] == 0)
        slowest++;
    if (!stopping)
        grant(sender, slowest + window);
    send_granted(sender);
}

static void run(int port)
{
    clockid_t server_clock = CLOCK_MONOTONIC;
    check(server == 0 || (errno = clock_getcpuclockid(server, &server_clock)) == 0, "the clock of the server");
    epoll = epoll_create1(0);
    check(epoll >= 0, "epoll_create1");
    /* Who connects last is accepted last: when the first message of a broadcast is read, all receivers are there. */
    for (size_t i = 0; i < peer_count; i++) {
        open_peer(&peers[i], port);
        watch(&peers[i], EPOLL_CTL_ADD);
    }
    for (size_t i = 0; i < peer_count; i++)
        if (mode == ECHO || i == connections) {
            grant(&peers[i], window);
            send_granted(&peers[i]);
        }

    static struct epoll_event events[EVENT_COUNT];
    double time = now(CLOCK_MONOTONIC), last = time; /* when something came */
    double begin = time + warmup, end = 0, spun = 0;
    double busy = 0, server_busy = 0, wait = 0, server_wait = 0;
    uint64_t count = 0;
    while (!stopping || delivered < expected) {
        int ready = epoll_wait(epoll, events, EVENT_COUNT, sleeping ? PATIENCE * 1000 : 0);
        check(ready >= 0 || errno == EINTR, "epoll_wait");
        (mode == ECHO ? echo_turn : broadcast_turn)(events, ready);
        double before = time;
        time = now(CLOCK_MONOTONIC);
        if (ready > 0)
            last = time;
        else if (time > last + PATIENCE)
            die("nothing came for %d s; %ju of %ju messages are missing", PATIENCE, (uintmax_t)(expected - delivered),
                (uintmax_t)expected);
        else
            spun += time - before;
        if (stopping || time < begin)
            continue;
        if (end == 0) { /* warm */
            begin = time;
            end = begin + seconds;
            count = delivered;
            spun = 0;
            busy = now(CLOCK_PROCESS_CPUTIME_ID);
            server_busy = now(server_clock);
            wait = waited(getpid());
            server_wait = waited(server);
        } else if (time >= end || delivered - count >= messages) {
            stopping = true;
            seconds = time - begin;
            count = delivered - count;
            busy = sleeping ? now(CLOCK_PROCESS_CPUTIME_ID) - busy : seconds - spun;
            server_busy = now(server_clock) - server_busy;
            wait = waited(getpid()) - wait;
            server_wait = waited(server) - server_wait;
        }
    }
    printf("{\"messages\": %ju, \"seconds\": %.6f, \"rate\": %.1f, \"load_busy\": %.3f", (uintmax_t)count, seconds,
           count / seconds, busy / seconds);
    if (server)
        printf(", \"server_busy\": %.3f", server_busy / seconds);
    printf(", \"waited\": %.3f}\n", (wait > server_wait ? wait : server_wait) / seconds);
}

static void hold(int port)
{
    for (size_t i = 0; i < connections; i += LOT) {
        struct peer *it, *stop = &peers[i + LOT < connections ? i + LOT : connections];
        for (it = &peers[i]; it < stop; it++) {
            open_peer(it, port);
            check(send(it->fd, stream, frame_size, MSG_NOSIGNAL) == (ssize_t)frame_size, "send");
        }
        for (it = &peers[i]; it < stop; it++) {
            ssize_t size = recv(it->fd, area, frame_size, MSG_WAITALL);
            check(size >= 0, "recv");
            if (size != (ssize_t)frame_size || memcmp(area, stream, size) != 0)
                die("what came on connection %zu is not what was sent: %zd bytes", (size_t)(it - peers), size);
        }
    }
    printf("{\"connections\": %zu}\n", connections);
    fflush(stdout);
    while (read(STDIN_FILENO, area, 1) > 0)
        ;
    for (size_t i = 0; i < connections; i++)
        if (recv(peers[i].fd, area, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN)
            die("the server did not keep connection %zu", i);
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"echo", "broadcast", "idle"};
    static const struct option options[] = {
        {"connections", required_argument, NULL, 'c'}, {"window", required_argument, NULL, 'w'},
        {"size", required_argument, NULL, 'b'},        {"seconds", required_argument, NULL, 's'},
        {"messages", required_argument, NULL, 'm'},    {"warmup", required_argument, NULL, 'u'},
        {"server", required_argument, NULL, 'p'},      {"sleep", no_argument, NULL, 'z'},
        {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 'c': connections = strtoul(optarg, NULL, 10); break;
        case 'w': window = strtoul(optarg, NULL, 10); break;
        case 'b': payload_size = strtoul(optarg, NULL, 10); break;
        case 's': seconds = strtod(optarg, NULL); break;
        case 'm': messages = strtoull(optarg, NULL, 10); break;
        case 'u': warmup = strtod(optarg, NULL); break;
        case 'p': server = atoi(optarg); break;
        case 'z': sleeping = true; break;
        default: return 2;
        }
    while (optind < argc && mode <= IDLE && strcmp(argv[optind], modes[mode]) != 0)
        mode++;
    if (argc - optind != 2 || mode > IDLE || connections == 0 || window == 0) {
        fprintf(stderr, "usage: load echo|broadcast|idle PORT [--connections N] [--window W] ... (see load.c)\n");
        return 2;
    }
    peer_count = connections + (mode == BROADCAST);
    peers = calloc(peer_count, sizeof *peers);
    check(peers != NULL, "calloc");
    make_stream();
    raise_limit();
    (mode == IDLE ? hold : run)(atoi(argv[optind + 1]));
    return 0;
}
