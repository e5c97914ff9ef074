/* System calls on non-blocking sockets, and the wait for many of them.
 *
 * Every call returns what the system call does; errno tells why it failed. Where a system has none of it (Windows, or
 * no epoll), FW_HAS_SOCKETS and FW_HAS_EPOLL say so, and the calls fail with ENOSYS. */

#ifndef FW_NET_H
#define FW_NET_H

#include <errno.h>
#include <stddef.h>

#ifdef _WIN32
#define FW_HAS_SOCKETS 0
struct iovec { void *iov_base; size_t iov_len; };
#else
#define FW_HAS_SOCKETS 1
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#endif

#if defined(__linux__)
#define FW_HAS_EPOLL 1
#include <sys/epoll.h>
#else
#define FW_HAS_EPOLL 0
struct epoll_event { unsigned events; union { int fd; } data; };
#define EPOLLIN 1u
#define EPOLLOUT 4u
#endif

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Python ignores SIGPIPE anyway */
#endif

static inline ptrdiff_t fw_recv(int fd, void *memory, size_t size)
{
#if FW_HAS_SOCKETS
    ptrdiff_t n;
    do {
        n = recv(fd, memory, size, 0);
    } while (n < 0 && errno == EINTR);
    return n;
#else
    (void)fd, (void)memory, (void)size;
    errno = ENOSYS;
    return -1;
#endif
}

static inline ptrdiff_t fw_send(int fd, const void *data, size_t size)
{
#if FW_HAS_SOCKETS
    ptrdiff_t n;
    do {
        n = send(fd, data, size, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n;
#else
    (void)fd, (void)data, (void)size;
    errno = ENOSYS;
    return -1;
#endif
}

static inline ptrdiff_t fw_send_buffers(int fd, struct iovec *buffers, int count)
{
#if FW_HAS_SOCKETS
    struct msghdr message = {0};
    ptrdiff_t n;
    if (count == 1)
        return fw_send(fd, buffers[0].iov_base, buffers[0].iov_len);
    message.msg_iov = buffers;
    message.msg_iovlen = count;
    do {
        n = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n;
#else
    (void)fd, (void)buffers, (void)count;
    errno = ENOSYS;
    return -1;
#endif
}

static inline int fw_would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK;
}

static inline int fw_epoll_wait(int epfd, struct epoll_event *events, int room, int timeout)
{
#if FW_HAS_EPOLL
    return epoll_wait(epfd, events, room, timeout);
#else
    (void)epfd, (void)events, (void)room, (void)timeout;
    errno = ENOSYS;
    return -1;
#endif
}

#endif
