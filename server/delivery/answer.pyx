"""The answer's bytes, compiled: in Python they were half of a decision's time.

An answer is what the loader prepared, with tokens in its holes, written into one buffer that the
worker keeps.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from adcore.win cimport Win

from server.delivery.sealing cimport _spell
from server.delivery.snapshot cimport Snapshot

import msgspec

from server.delivery.render import pricing_text
from server.delivery.tokens import TOKEN_CHARS, Served, placement_digest
from server.events.records import PREVIEW, Kind

DECISION_ID_BYTES = 14
"""Random; a served ad's 16-byte id is this, the placement's number and the ad's in it."""

cdef enum:
    ID_SIZE = 16
    ID_HEX = 2 * ID_SIZE
    HEAD_SIZE = 7
    PLACEMENT_SIZE = 8
    DESTINATION_SIZE = 16
    MESSAGE_SIZE = 92
    MAC_SIZE = 16
    TOKEN_SIZE = MESSAGE_SIZE + MAC_SIZE
    TOKEN_TEXT = 144
    ROOM_BYTES = 16_384  # an answer of ten ads; more is asked for when it is needed
    # What a request with many placements once needed is not kept for ever.
    ROOM_KEPT_BYTES_MAX = 1_048_576

if TOKEN_CHARS != TOKEN_TEXT:
    raise ImportError(f"a token has {TOKEN_CHARS} characters")

cdef object _json = msgspec.json.Encoder().encode
cdef const char* HEX = b"0123456789abcdef"


# -- what is signed: the layout is `tokens.SERVED`'s, which costs a tuple and its numbers as objects


cdef inline uint8_t* _put(uint8_t* to, uint64_t number, int size) noexcept nogil:
    """Write `number` in `size` bytes, the highest first; return the place after them."""
    cdef int place
    for place in range(size - 1, -1, -1):
        to[place] = <uint8_t> number
        number >>= 8
    return to + size


cdef int _write_message(
    uint8_t* to, bytes head, Moment moment, const uint8_t* ad_id, Win win, uint64_t site_id,
    bytes placement, unsigned int flags, bytes destination
) except -1:
    if len(head) != HEAD_SIZE or len(placement) != PLACEMENT_SIZE \
            or len(destination) != DESTINATION_SIZE:
        raise ValueError("a token's fields have wrong sizes")
    memcpy(to, PyBytes_AS_STRING(head), HEAD_SIZE)
    to = _put(to + HEAD_SIZE, moment.now_s, 4)
    memcpy(to, ad_id, ID_SIZE)
    to = _put(to + ID_SIZE, win.line_item_id, 8)
    to = _put(to, win.creative_id, 8)
    to = _put(to, site_id, 8)
    to = _put(to, win.clear_price_micros, 8)
    memcpy(to, PyBytes_AS_STRING(placement), PLACEMENT_SIZE)
    to = _put(to + PLACEMENT_SIZE, win.lease, 8)
    to = _put(to, flags, 1)
    memcpy(to, PyBytes_AS_STRING(destination), DESTINATION_SIZE)
    return 0


@cython.final
@cython.freelist(8)
cdef class Moment:
    """When and under which id a request is decided; a previewed ad is never billed."""

    def __init__(self, bytes decision_id not None, int64_t now_s, bint preview):
        if len(decision_id) != DECISION_ID_BYTES:
            raise ValueError(f"a decision id has {DECISION_ID_BYTES} bytes")
        self.decision_id = decision_id
        self.now_s = now_s
        self.flags = PREVIEW if preview else 0


@cython.final
cdef class Writer:
    """Writes the answers of one worker, one at a time: the buffer is its own."""

    def __init__(self, keyring not None, str base_url not None):
        self.key = keyring.current
        self.shown_head = keyring.head(0)
        self.click_head = keyring.head(Kind.CLICK)
        self.impression_head = keyring.head(Kind.IMPRESSION)
        self.sign_event = keyring.sign_event
        self.base_url = base_url.encode()

    def __dealloc__(self):
        PyMem_Free(self.room)

    cpdef bytes write(self, asked, list wins, Snapshot snapshot, Moment moment):
        """The JSON of Kevel's answer: an array where `count` was asked, null for no ad.

        `wins` is what `Index.select` gave for `asked`, or empty without a snapshot: then every
        placement gets no ad.
        """
        cdef list won, placements = asked.placements
        cdef Py_ssize_t number, pick
        cdef bint pricing = bool(asked.include_pricing_data)
        self._begin(asked.user, snapshot, moment)
        for number in range(len(placements)):
            placement = placements[number]
            won = <list> wins[number] if wins else []
            if number:
                self._add(b",")
            self._add(_json(placement.div_name))
            many = placement.count is not None
            self._add(b":[" if many else b":" if won else b":null")
            for pick in range(len(won)):
                if pick:
                    self._add(b",")
                self._add_ad(won[pick], placement, snapshot, moment, (number << 8) | pick)
                if pricing:
                    self._add_pricing(won[pick], snapshot)
                self._add(b"}")
            if many:
                self._add(b"]")
        self._add(b"}}")
        return PyBytes_FromStringAndSize(self.room, self.used)

    cdef int _begin(self, user, Snapshot snapshot, Moment moment) except -1:
        self.used = 0
        if self.size > ROOM_KEPT_BYTES_MAX:
            PyMem_Free(self.room)
            self.room, self.size = NULL, 0
        self._add(b'{"user":{')
        if user is not None and user.key is not None:
            self._add(b'"key":')
            self._add(_json(user.key))
        self._add(b'},"decisionId":"')
        self._add_hex(<const uint8_t*> PyBytes_AS_STRING(moment.decision_id), ID_SIZE - 2)
        generation = 0 if snapshot is None else snapshot.generation
        self._add(b'","generation":%d,"decisions":{' % generation)
        return 0

    cdef int _add_ad(
        self, Win win, placement, Snapshot snapshot, Moment moment, unsigned int place
    ) except -1:
        template = snapshot.template(win.ad)
        cdef list pieces = template.pieces, holes = template.holes
        cdef char[TOKEN_TEXT] click, impression
        cdef uint8_t[TOKEN_SIZE] token
        cdef uint8_t[ID_SIZE] ad_id
        memcpy(ad_id, PyBytes_AS_STRING(moment.decision_id), ID_SIZE - 2)
        ad_id[ID_SIZE - 2] = <uint8_t> (place >> 8)
        ad_id[ID_SIZE - 1] = <uint8_t> place
        cdef bytes digest = placement_digest(placement.div_name)
        cdef uint64_t site_id = placement.site_id or 0
        cdef unsigned int flags = moment.flags | <unsigned int> template.flags
        _write_message(
            token, self.shown_head, moment, ad_id, win, site_id, digest, flags,
            template.destination)
        # As `Keyring.sign_shown` has it: one HMAC, its halves for the two kinds.
        cdef bytes mac = self.key.mac(PyBytes_FromStringAndSize(<char*> token, MESSAGE_SIZE))
        self._seal(token, self.click_head, PyBytes_AS_STRING(mac) + MAC_SIZE, click)
        self._seal(token, self.impression_head, PyBytes_AS_STRING(mac), impression)
        cdef Py_ssize_t at
        cdef int hole
        for at in range(len(holes)):
            self._add(<bytes> pieces[at])
            hole = holes[at]
            if hole == 0:  # render.CLICK
                self._append(click, TOKEN_TEXT)
            elif hole == 1:  # render.IMPRESSION
                self._append(impression, TOKEN_TEXT)
            else:  # render.CACHEBUSTER
                self._add_hex(ad_id, ID_SIZE)
        self._add(<bytes> pieces[len(holes)])
        if placement.event_ids:
            self._add_events(placement.event_ids, Served(
                moment.now_s, PyBytes_FromStringAndSize(<char*> ad_id, ID_SIZE), win.line_item_id,
                win.creative_id, site_id, win.clear_price_micros, digest, win.lease, flags))
        else:
            self._add(b',"events":[]')
        return 0

    cdef void _seal(self, uint8_t* token, bytes head, const char* mac, char* text):
        """Make a signed message, whose head and MAC are of the kind asked, into a token's text."""
        memcpy(token, PyBytes_AS_STRING(head), HEAD_SIZE)
        memcpy(token + MESSAGE_SIZE, mac, MAC_SIZE)
        _spell(token, TOKEN_SIZE, text)

    cdef int _add_events(self, list event_ids, served) except -1:
        cdef bytes separator = b',"events":['
        for event_id in event_ids:
            self._add(b'%b{"id":%d,"url":"%b/e.gif?e=%b"}' % (
                separator, event_id, self.base_url, self.sign_event(served, event_id)))
            separator = b","
        self._add(b"]")
        return 0

    cdef int _add_pricing(self, Win win, Snapshot snapshot) except -1:
        template = snapshot.template(win.ad)
        if win.clear_price_micros == template.price_micros:
            self._add(template.pricing)
        else:
            self._add(pricing_text(
                template.rate_type, template.price_micros,
                win.clear_price_micros, win.ecpm_micros))
        return 0

    # -- the buffer

    cdef int _add(self, bytes piece) except -1:
        return self._append(PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))

    cdef int _append(self, const char* piece, Py_ssize_t size) except -1:
        if self.used + size > self.size:
            self._grow(self.used + size)
        memcpy(self.room + self.used, piece, size)
        self.used += size
        return 0

    cdef int _add_hex(self, const uint8_t* raw, Py_ssize_t size) except -1:
        cdef char[ID_HEX] text
        cdef Py_ssize_t at
        for at in range(size):
            text[2 * at] = HEX[raw[at] >> 4]
            text[2 * at + 1] = HEX[raw[at] & 15]
        return self._append(text, 2 * size)

    cdef int _grow(self, Py_ssize_t wanted) except -1:
        cdef Py_ssize_t size = max(wanted, 2 * self.size, ROOM_BYTES)
        cdef char* room = <char*> PyMem_Realloc(self.room, size)
        if room == NULL:
            raise MemoryError
        self.room, self.size = room, size
        return 0
