"""Cython's view of websocket.h."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "websocket.h" nogil:
    enum: FW_FIN, FW_RSV1, FW_OPCODE, FW_CONTROL, FW_MASKED
    enum: FW_CONTINUATION, FW_TEXT, FW_BINARY, FW_CLOSE, FW_PING, FW_PONG
    enum: FW_WS_HEADER_SIZE, FW_CONTROL_SIZE

    ctypedef struct fw_ws_header:
        uint8_t first, masked, size_code
        uint32_t key
        uint64_t size

    ctypedef struct fw_ws_rules:
        int masked, long_lengths, compression
        uint64_t frame_limit, limit, wire_limit
        int opened, compressed
        uint64_t done

    ctypedef struct fw_utf8:
        int64_t size, start
        uint8_t left, low, high

    uint32_t fw_turn(uint32_t key, size_t offset)
    void fw_choose_mask()
    void fw_mask(uint8_t *to, const uint8_t *source, size_t size, uint32_t key)
    size_t fw_ws_header_size(uint8_t second)
    size_t fw_ws_read(const uint8_t *, size_t there, fw_ws_header *)
    Py_ssize_t fw_ws_check(const fw_ws_rules *, const uint8_t *, size_t there, fw_ws_header *)
    size_t fw_ws_plain(const fw_ws_rules *, const uint8_t *, size_t there, uint64_t *size)
    size_t fw_ws_write(uint8_t *, uint8_t first, uint64_t size, const uint8_t *key)
    const uint8_t *fw_skip_ascii(const uint8_t *, const uint8_t *end)
    int fw_utf8_check(fw_utf8 *, const uint8_t *, size_t size)
