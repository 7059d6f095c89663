"""`Index`: a compiled catalog in memory, and the one way to ask it for winners."""

cimport cython
from cpython cimport array
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from adcore.checking cimport _mark, _unmark
from adcore.choosing cimport (
    OUTCOME_COUNT, Choice, Context, Winner, _ecpm, _fill, _forget_labels, _outcomes,
)
from adcore.limits cimport PLACEMENTS_MAX, REQUEST_FEATURES_MAX
from adcore.live cimport Live, live_at
from adcore.matching cimport WINDOW_WORDS_MAX, Cursor, _plan
from adcore.plan cimport NO_RANK, Directory, Plan, directory_of, plan_of
from adcore.reading cimport read_placement, read_request
from adcore.request cimport Placement, Request
from adcore.explaining cimport NO_DETAIL, TARGETING, _judge
from adcore.scanning cimport _differences, _matching_lines, _number_rows
from adcore.tables cimport (
    ADS, COLUMNS, FEATURES, KEY_SPACE_FIRST, LINES, ZONES, Feature, Line, _check, _open, _text,
    _tier,
)
from adcore.win cimport Win

import array
from typing import get_args

from adcore import tables
from adcore.catalog import Dimension
from adcore.reasons import Explanation, Reason, Verdict
from adcore.zones import zone_names

# What `_outcomes` counts, in its order.
OUTCOMES = tuple("won not_live targeting throttled capped floor label creative outranked".split())

# By space, as tables.pxd numbers them.
cdef list DIMENSIONS = sorted(
    get_args(Dimension), key=lambda name: getattr(tables, f"SPACE_{name.upper()}")
)


# Never part of a cycle, and its buffer must not be cleared by a collection while it is in use.
@cython.no_gc
@cython.final
@cython.auto_pickle(False)
cdef class Index:
    """An immutable view of a compiled catalog, and the scratch of one request.

    The scratch keeps `select` from allocating, and is why one Index answers one request at a time:
    the GIL is held throughout, and a call from within a call is refused.
    """

    def __cinit__(self, buffer not None, bint checked=False):
        cdef const char* fault
        PyObject_GetBuffer(buffer, &self.view, PyBUF_SIMPLE)
        if not self.view.readonly:
            raise ValueError("compiled catalog: the buffer must be read-only")
        with nogil:
            fault = _open(&self.tables, <const uint8_t*> self.view.buf, self.view.len)
            if fault == NULL and not checked:
                fault = _check(&self.tables)
        if fault != NULL:
            raise ValueError(f"compiled catalog: {fault.decode()}")
        self._check_zones()
        self._allocate()

    cdef int _check_zones(self) except -1:
        cdef bytes names = self.tables.zones[:self.tables.counts[ZONES]]
        if not zone_names().issuperset(filter(None, names.decode("ascii", "replace").split("\n"))):
            raise ValueError("compiled catalog: an unknown time zone")
        return 0

    cdef int _allocate(self) except -1:
        cdef Choice* choice = <Choice*> PyMem_Calloc(1, sizeof(Choice))
        cdef size_t postings_max = \
            <size_t> REQUEST_FEATURES_MAX * (self.tables.posting_count_max + 1)
        if choice == NULL:
            raise MemoryError
        self.choice = choice
        choice.tables = &self.tables
        choice.labels_taken = <uint8_t*> PyMem_Calloc(self.tables.header.label_count + 1, 1)
        choice.candidates = <uint32_t*> PyMem_Malloc(
            (self.tables.counts[LINES] + 1) * sizeof(uint32_t))
        choice.matcher.postings = <uint32_t*> PyMem_Malloc(postings_max * sizeof(uint32_t))
        choice.matcher.cursors = <Cursor*> PyMem_Malloc(postings_max * sizeof(Cursor))
        choice.matcher.turned = <uint64_t*> PyMem_Malloc(
            (<size_t> self.tables.counts[COLUMNS] * min(
                <uint32_t> WINDOW_WORDS_MAX, self.tables.row_words) + 1) * sizeof(uint64_t))
        choice.asked = <uint64_t*> PyMem_Calloc(
            self.tables.counts[FEATURES] // 64 + 1, sizeof(uint64_t))
        if choice.labels_taken == NULL or choice.candidates == NULL \
                or choice.matcher.postings == NULL or choice.matcher.cursors == NULL \
                or choice.matcher.turned == NULL or choice.asked == NULL:
            raise MemoryError
        return 0

    def __dealloc__(self):
        if self.choice != NULL:
            PyMem_Free(self.choice.labels_taken)
            PyMem_Free(self.choice.candidates)
            PyMem_Free(self.choice.matcher.postings)
            PyMem_Free(self.choice.matcher.cursors)
            PyMem_Free(self.choice.matcher.turned)
            PyMem_Free(self.choice.asked)
            PyMem_Free(self.choice.held)
            PyMem_Free(self.choice)
        PyMem_Free(self.row_lines)
        PyBuffer_Release(&self.view)

    @staticmethod
    def attach(buffer, *, checked=False):
        return Index(buffer, checked)

    @property
    def buffer(self):
        return memoryview(<object> self.view.obj)

    @property
    def nbytes(self):
        return self.view.len

    @property
    def line_count(self):
        return self.tables.counts[LINES]

    @property
    def row_count(self):
        return self.tables.row_count

    @property
    def ad_count(self):
        return self.tables.counts[ADS]

    @property
    def seen(self):
        cdef int64_t[OUTCOME_COUNT] outcomes
        _outcomes(self.choice.seen, outcomes)
        return dict(zip(OUTCOMES, outcomes))

    def live(self, int64_t now_s, Plan plan=None):
        if plan is None:
            plan = self.plan()
        elif plan.index is not self:
            raise ValueError("plan: of another Index")
        return live_at(self, &self.tables, now_s, plan)

    def plan(
        self, line_items=(), *, rates_ppm=None, multipliers_ppm=None, probabilities_ppm=None
    ):
        if self.choice.held == NULL and not (multipliers_ppm is None and probabilities_ppm is None):
            self.choice.held = <uint32_t*> PyMem_Malloc(
                (self.tables.counts[LINES] + 1) * sizeof(uint32_t))
            if self.choice.held == NULL:
                raise MemoryError
        return plan_of(self, &self.tables, self._known() if len(line_items) else None, line_items,
                       rates_ppm, multipliers_ppm, probabilities_ppm)

    cdef Directory _known(self):
        if self.directory is None:
            self.directory = directory_of(&self.tables)
        return self.directory

    cpdef list select(self, Request request, Live live, uint64_t draw):
        # Lists are made before the scratch is touched: making one may run the garbage collector,
        # and with it anybody's code.
        cdef list answers = [[] for _ in self._placements(request, live)]
        self.busy = True
        try:
            self._select(request, live, draw, answers)
        finally:
            _forget_labels(self.choice)
            self.busy = False
        return answers

    def matching(self, Request request, Live live):
        return self._matching(request, live, False)

    def scan(self, Request request, Live live):
        return self._matching(request, live, True)

    def differences(self, Request request, Live live, uint32_t word_first, uint32_t word_count):
        cdef list placements = self._placements(request, live)
        cdef uint32_t number, differences = 0
        self.busy = True
        try:
            self._begin(request)
            for number in range(<uint32_t> len(placements)):
                self._prepare(request, live, number, True)
                # Not what is live: a stop from another thread would fall between index and scan.
                self.choice.matcher.plain[0] = live.due
                with nogil:
                    differences += _differences(self.choice, live.due, word_first, word_count)
        finally:
            self.busy = False
        return differences

    def replay(self, Request request, Live live, uint64_t draw, uint32_t times):
        cdef Choice* choice = self.choice
        cdef uint32_t _time
        if not len(self._placements(request, live)):
            raise ValueError("placements: none to fill")
        self.busy = True
        try:
            choice.context.draw = draw
            self._begin(request)
            self._prepare(request, live, 0, False)
            with nogil:
                for _time in range(times):
                    _forget_labels(choice)
                    memset(choice.seen, 0, sizeof(choice.seen))
                    _plan(&choice.matcher, &self.tables, live.bitmap,
                          choice.context.features, choice.context.feature_count, False)
                    _decide(choice)
            return choice.winner_count
        finally:
            _forget_labels(choice)
            self.busy = False

    def explain(self, Request request, Live live, uint64_t draw):
        placements = self._placements(request, live)
        cdef Py_ssize_t lines = self.tables.counts[LINES]
        cdef list reasons = [bytearray(lines) for _ in placements]
        cdef list details = [array.array("I", bytes(4 * lines)) for _ in placements]
        self.busy = True
        try:
            self._explain(request, live, draw, reasons, details)
        finally:
            _forget_labels(self.choice)
            self.busy = False
        return [
            Explanation(self, bytes(reasons[number]), details[number])
            for number in range(len(reasons))
        ]

    cdef int _explain(
        self, Request request, Live live, uint64_t draw, list reasons, list details
    ) except -1:
        cdef Choice* choice = self.choice
        cdef uint32_t number
        cdef uint8_t[::1] placement_reasons
        cdef uint32_t[::1] placement_details
        if not self.tables.counts[LINES]:
            return 0
        choice.context.draw = draw
        self._begin(request)
        for number in range(<uint32_t> len(reasons)):
            placement_reasons, placement_details = reasons[number], details[number]
            self._prepare(request, live, number, False)
            with nogil:
                _decide(choice)
                _judge(choice, live.bitmap, live.valid_from_s,
                       &placement_reasons[0], &placement_details[0])
        return 0

    def verdict(self, uint32_t rank, uint8_t reason, uint32_t detail):
        if rank >= self.tables.counts[LINES]:
            raise IndexError("no such rank")
        cdef const Line* line = &self.tables.lines[rank]
        dimension = by = None
        if reason == TARGETING and detail != NO_DETAIL:
            dimension = self._dimension(detail)
        elif detail < self.tables.counts[LINES]:
            by = self.tables.lines[detail].line_item_id
        elif detail != NO_DETAIL:
            raise IndexError("no such detail")
        return Verdict(
            line.line, line.line_item_id, _tier(&self.tables, line).priority, line.ecpm_micros,
            Reason(reason), dimension, by,
        )

    def rank_of(self, int64_t line_item_id):
        cdef uint32_t rank = self._known().rank(line_item_id)
        return None if rank == NO_RANK else rank

    cdef str _dimension(self, uint32_t space):
        cdef const Feature* key
        if space < <uint32_t> len(DIMENSIONS):
            return DIMENSIONS[space]
        if not 0 <= <int64_t> space - KEY_SPACE_FIRST < self.tables.counts[FEATURES]:
            raise IndexError("no such detail")
        key = &self.tables.features[space - KEY_SPACE_FIRST]
        return "key:" + _text(key, self.tables.texts)[:key.text_bytes].decode("utf-8", "replace")

    cdef list _placements(self, Request request, Live live):
        """Return the request's placements, if it may be answered now."""
        if request is None:
            raise TypeError("request: not a Request")
        if live is None:
            raise TypeError("live: not a Live")
        if live.index is not self:
            raise ValueError("live: of another Index")
        if self.busy:
            raise RuntimeError("called from within a call")
        if request.placements is None:
            raise TypeError("placements: not a list")
        if len(request.placements) > PLACEMENTS_MAX:
            raise ValueError(f"placements: more than {PLACEMENTS_MAX}")
        return request.placements

    cdef int _begin(self, Request request) except -1:
        """Read what all placements share."""
        cdef Context* context = &self.choice.context
        memset(self.choice.seen, 0, sizeof(self.choice.seen))
        read_request(context, &self.tables, request)
        self.shared_features = context.feature_count
        self.shared_numbers = context.number_count
        self.shared_key_values = context.key_value_count
        return 0

    cdef int _prepare(
        self, Request request, Live live, uint32_t number, bint to_the_end
    ) except -1:
        """Make the context and the plan those of one placement."""
        cdef Context* context = &self.choice.context
        cdef list placements = request.placements
        # Another thread may have changed it while the placement before was being filled.
        if placements is None or number >= <uint32_t> len(placements):
            raise ValueError("placements: changed meanwhile")
        placement = placements[number]
        if not isinstance(placement, Placement):
            raise TypeError("placements: not a Placement")
        context.feature_count = self.shared_features
        context.number_count = self.shared_numbers
        context.key_value_count = self.shared_key_values
        context.placement = number
        self.choice.standing = &live.plan.standing
        read_placement(context, &self.tables, <Placement> placement, request)
        _plan(&self.choice.matcher, &self.tables, live.bitmap,
              context.features, context.feature_count, to_the_end)
        return 0

    cdef int _select(self, Request request, Live live, uint64_t draw, list answers) except -1:
        cdef Choice* choice = self.choice
        cdef uint32_t number, winner
        choice.context.draw = draw
        self._begin(request)
        for number in range(<uint32_t> len(answers)):
            self._prepare(request, live, number, False)
            with nogil:
                _decide(choice)
            for winner in range(choice.winner_first, choice.winner_count):
                (<list> answers[number]).append(self._win(&choice.winners[winner]))
        return 0

    cdef int _know_lines(self) except -1:
        """Have the line of each row at hand, from the first full match on: servers never ask."""
        cdef uint32_t* row_lines
        if self.row_lines != NULL:
            return 0
        row_lines = <uint32_t*> PyMem_Malloc(
            (<size_t> self.tables.row_words * 64 + 1) * sizeof(uint32_t))
        if row_lines == NULL:
            raise MemoryError
        with nogil:
            _number_rows(&self.tables, row_lines)
        self.row_lines = row_lines
        return 0

    cdef list _matching(self, Request request, Live live, bint by_rows):
        cdef Choice* choice = self.choice
        cdef list answers = [array.array("I") for _ in self._placements(request, live)]
        cdef uint32_t number, count
        cdef array.array answer
        self._know_lines()
        self.busy = True
        try:
            self._begin(request)
            for number in range(<uint32_t> len(answers)):
                self._prepare(request, live, number, True)
                with nogil:
                    count = _matching_lines(choice, live.bitmap, self.row_lines, by_rows)
                answer = answers[number]
                array.resize(answer, count)
                memcpy(answer.data.as_uints, choice.candidates, count * sizeof(uint32_t))
        finally:
            self.busy = False
        return answers

    cdef Win _win(self, const Winner* winner):
        cdef const Line* line = &self.tables.lines[winner.rank]
        cdef Win win = Win.__new__(Win)
        win.line = line.line
        win.ad = winner.ad
        win.line_item_id = line.line_item_id
        win.creative_id = self.tables.creatives[self.tables.ads[winner.ad].creative].creative_id
        win.priority = _tier(&self.tables, line).priority
        win.ecpm_micros = _ecpm(self.choice, winner.rank)
        win.clear_price_micros = winner.clear_price_micros
        win.clear_ecpm_micros = winner.clear_ecpm_micros
        return win


cdef inline void _decide(Choice* choice) noexcept nogil:
    if choice.tables.checks_values:
        _mark(choice)
    _fill(choice)
    if choice.tables.checks_values:
        _unmark(choice)
