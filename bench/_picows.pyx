# A listener of picows in Cython, as its documentation advises where speed counts: no Python code runs for a frame.
# Built by limits.py against the picows that is installed; never a part of the package.

from picows.picows cimport WSFrame, WSListener, WSTransport


cdef class Taker(WSListener):
    """Keeps the payload of each frame."""

    cdef list payloads
    cdef bint text

    def __init__(self, list payloads, bint text):
        self.payloads = payloads
        self.text = text

    cpdef on_ws_connected(self, WSTransport transport):
        pass

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        self.payloads.append(frame.get_payload_as_utf8_text() if self.text else frame.get_payload_as_bytes())
