cdef extern from "net.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    union fw_epoll_data "epoll_data_t":
        int fd
    struct epoll_event:
        unsigned events
        fw_epoll_data data
    const bint FW_HAS_SOCKETS
    const bint FW_HAS_EPOLL
    unsigned EPOLLIN
    unsigned EPOLLOUT
    ptrdiff_t fw_recv(int fd, void *memory, size_t size)
    ptrdiff_t fw_send(int fd, const void *data, size_t size)
    ptrdiff_t fw_send_buffers(int fd, iovec *buffers, int count)
    bint fw_would_block(int error)
    int fw_epoll_wait(int epfd, epoll_event *events, int room, int timeout)
