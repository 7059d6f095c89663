"""Steps over frames whose bytes are known to be whole, without looking into their records."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from crc32c import crc32c

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint32_t frame_u32(const uint8_t *from) {
        uint32_t value;
        memcpy(&value, from, 4);
        return __builtin_bswap32(value);
    }
    static inline uint64_t frame_u64(const uint8_t *from) {
        uint64_t value;
        memcpy(&value, from, 8);
        return __builtin_bswap64(value);
    }
    """
    uint32_t frame_u32(const uint8_t* at) noexcept nogil
    uint64_t frame_u64(const uint8_t* at) noexcept nogil

cdef enum:
    PREFIX = 8      # length and CRC
    HEAD = 25       # with epoch, sequence and kind
    SEQUENCE = 16   # where it stands in a frame
    RECORD_MAX = 65_536


def walk(bytes frames not None, uint64_t previous):
    """Return the last frame's number.

    ValueError unless there is one, all are whole, and their numbers grow from above `previous`.
    """
    cdef const uint8_t* at = <const uint8_t*> PyBytes_AS_STRING(frames)
    cdef Py_ssize_t rest = PyBytes_GET_SIZE(frames)
    cdef Py_ssize_t size
    cdef uint64_t number
    if rest == 0:
        raise ValueError("no frame")
    while rest:
        if rest < HEAD:
            raise ValueError("a frame is cut")
        size = PREFIX + <Py_ssize_t> frame_u32(at)
        if size < HEAD or size > HEAD + RECORD_MAX or size > rest:
            raise ValueError("a frame has an impossible length")
        number = frame_u64(at + SEQUENCE)
        if number <= previous:
            raise ValueError("frames are out of order")
        previous = number
        at += size
        rest -= size
    return previous


def split(bytes frames not None):
    """Return [(kind, record)] of frames that `walk` has passed."""
    cdef const uint8_t* at = <const uint8_t*> PyBytes_AS_STRING(frames)
    cdef const uint8_t* end = at + PyBytes_GET_SIZE(frames)
    cdef Py_ssize_t size
    cdef list found = []
    while at < end:
        size = PREFIX + <Py_ssize_t> frame_u32(at)
        found.append((at[HEAD - 1], (<const char*> at)[HEAD:size]))
        at += size
    return found


def scan(bytes content not None, Py_ssize_t start, Py_ssize_t size_min):
    """Return [(sequence, record, where the frame ends)] of whole frames from the offset `start`.

    As `server.events.frames.Frames` finds them, CRC and all; but no more once they take `size_min`.
    """
    cdef const uint8_t* bytes_ = <const uint8_t*> PyBytes_AS_STRING(content)
    cdef Py_ssize_t total = PyBytes_GET_SIZE(content), first = start, size
    cdef const uint8_t* at
    cdef list found = []
    if start < 0:
        raise ValueError("an offset before the content")
    while total - start >= HEAD and start - first < size_min:
        at = bytes_ + start
        size = PREFIX + <Py_ssize_t> frame_u32(at)
        if size < HEAD or size > HEAD + RECORD_MAX or size > total - start:
            break
        crc = crc32c(content[start + PREFIX:start + size], crc32c(content[start:start + 4]))
        if crc != frame_u32(at + 4):
            break
        found.append((frame_u64(at + SEQUENCE), content[start + HEAD:start + size], start + size))
        start += size
    return found
