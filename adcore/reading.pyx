"""From a Request to feature numbers: the only place that touches the request's Python objects.

A wrong type raises TypeError and too many values raise ValueError; a value that the catalog never
mentions is simply no feature. Nothing here runs Python code of others or allocates an object that
the garbage collector tracks, so nobody can call the engine while its scratch is half filled.
"""

from cpython.dict cimport PyDict_Next
from cpython.exc cimport PyErr_Clear
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint32_t, uint8_t
from libc.stdio cimport snprintf
from libc.stdlib cimport qsort
from libc.string cimport strlen

from adcore.choosing cimport Context
from adcore.interning cimport BATCH_MAX, UNKNOWN, _enqueue, _feature, _resolve
from adcore.limits cimport (
    BLOCKED_MAX, CAPPED_HERE_MAX, CAPPED_MAX, REQUEST_KEYS_MAX, REQUEST_VALUES_MAX,
    VALUE_BYTES_MAX, WINNERS_MAX,
)
from adcore.request cimport Placement, Request
from adcore.tables cimport (
    KEY_SPACE_FIRST, SPACE_AD_TYPE, SPACE_BROWSER, SPACE_CATEGORY, SPACE_CITY, SPACE_CONNECTION,
    SPACE_COUNTRY, SPACE_DEVICE, SPACE_DOMAIN, SPACE_KEY, SPACE_KEYWORD, SPACE_LANGUAGE,
    SPACE_METRO, SPACE_OS, SPACE_PLACEMENT, SPACE_REGION, SPACE_SEGMENT, SPACE_SITE, SPACE_ZONE,
    Tables,
)

cdef extern from "Python.h":
    bint PyUnicode_Check(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    void* PyUnicode_DATA(object text)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size)
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1
    double PyLong_AsDouble(object number) except? -1.0
    char* PyOS_double_to_string(double number, char code, int precision, int flags, int* kind)
    int Py_DTSF_ADD_DOT_0

cdef extern from *:
    void _prefetch "__builtin_prefetch"(const void* place) noexcept nogil

cdef enum:
    TEXTS_AHEAD = 16  # of a list: fetched while those before them are read
    TEXT_OFFSET = 48  # where CPython has the bytes of an ASCII text: often on the next cache line

# 10**256 - 1 has 851 bits: a longer integer has too many digits to match, and is slow to write out.
cdef int DIGIT_BITS_MAX = 851


cdef int read_request(Context* context, const Tables* tables, Request request) except -1:
    context.batch.count = 0
    context.batch.word_count = 0
    context.feature_count = 0
    context.number_count = 0
    context.key_value_count = 0
    _read_text(context, tables, SPACE_COUNTRY, request.country)
    _read_text(context, tables, SPACE_REGION, request.region)
    _read_text(context, tables, SPACE_METRO, request.metro)
    _read_text(context, tables, SPACE_CITY, request.city)
    _read_text(context, tables, SPACE_DEVICE, request.device)
    _read_text(context, tables, SPACE_OS, request.os)
    _read_text(context, tables, SPACE_BROWSER, request.browser)
    _read_text(context, tables, SPACE_LANGUAGE, request.language)
    _read_text(context, tables, SPACE_DOMAIN, request.domain)
    _read_text(context, tables, SPACE_CONNECTION, request.connection)
    _read_texts(context, tables, SPACE_KEYWORD, request.keywords, "keywords")
    _read_texts(context, tables, SPACE_CATEGORY, request.categories, "categories")
    _read_texts(context, tables, SPACE_SEGMENT, request.segments, "segments")
    context.blocked_count = _read_ids(
        context.blocked, BLOCKED_MAX, request.blocked_creatives, "blocked_creatives")
    context.capped_count = _read_ids(
        context.capped, CAPPED_MAX, request.capped_line_items, "capped_line_items")
    if context.capped_count > 1:
        qsort(context.capped, context.capped_count, sizeof(int64_t), &_compare)
    _read_key_values(context, tables, request.key_values, 0)
    _flush(context, tables)
    return 0


cdef int read_placement(
    Context* context, const Tables* tables, Placement placement, Request request
) except -1:
    """Add the placement to a context that holds the request and nothing of another placement."""
    cdef int64_t[REQUEST_VALUES_MAX] zones
    cdef uint32_t zone_count, place
    cdef int64_t site = _id(placement.site, "site")
    cdef int64_t count = _id(placement.count, "count")
    if not 1 <= count <= WINNERS_MAX:
        raise ValueError(f"count: must be from 1 to {WINNERS_MAX}")
    context.wanted = <uint32_t> count
    context.floor_micros = _id(placement.floor_micros, "floor_micros")
    if context.floor_micros < 0:
        raise ValueError("floor_micros: must be from 0 to 2**63 - 1")
    if placement.name is None:
        raise TypeError("name: not text")
    _read_text(context, tables, SPACE_PLACEMENT, placement.name)
    if site > 0:
        _add_id(context, tables, SPACE_SITE, site)
    zone_count = _read_ids(zones, REQUEST_VALUES_MAX, placement.zones, "zones")
    for place in range(zone_count):
        _add_id(context, tables, SPACE_ZONE, zones[place])
    context.ad_type_count = _read_ids(
        context.ad_types, REQUEST_VALUES_MAX, placement.ad_types, "ad_types")
    for place in range(context.ad_type_count):
        _add_id(context, tables, SPACE_AD_TYPE, context.ad_types[place])
    context.capped_here_count = _read_ids(
        context.capped_here, CAPPED_HERE_MAX, placement.capped_line_items, "capped_line_items")
    _read_key_values(context, tables, placement.key_values, len(request.key_values))
    _flush(context, tables)
    return 0


cdef int _compare(const void* one, const void* other) noexcept nogil:
    cdef int64_t left = (<const int64_t*> one)[0]
    cdef int64_t right = (<const int64_t*> other)[0]
    return (left > right) - (left < right)


# -- features --------------------------------------------------------------------------------------


cdef void _flush(Context* context, const Tables* tables) noexcept nogil:
    """Look up what waits in the batch, and add what the catalog knows to the features."""
    context.feature_count += _resolve(
        &context.batch, tables, context.features + context.feature_count)


cdef inline void _add(
    Context* context, const Tables* tables, uint32_t space, const uint8_t* text, uint32_t size,
    bint folded
) noexcept nogil:
    if context.batch.count == BATCH_MAX:
        _flush(context, tables)
    _enqueue(&context.batch, tables, space, text, size, folded)


cdef inline void _add_id(
    Context* context, const Tables* tables, uint32_t space, int64_t number
) noexcept nogil:
    _add(context, tables, space, <const uint8_t*> &number, sizeof(int64_t), False)


cdef inline const uint8_t* _utf8(str text, uint32_t* size) noexcept:
    """Text as bytes, or NULL: it is no valid Unicode, or too long, and so matches nothing."""
    cdef Py_ssize_t length
    cdef const char* utf8
    if PyUnicode_IS_COMPACT_ASCII(text):
        # Its bytes lie in the object, as they are: no call, and a long list is read in a row.
        length = PyUnicode_GET_LENGTH(text)
        utf8 = <const char*> PyUnicode_DATA(text)
    else:
        utf8 = PyUnicode_AsUTF8AndSize(text, &length)
        if utf8 == NULL:
            PyErr_Clear()
            return NULL
    if length > VALUE_BYTES_MAX:
        return NULL
    size[0] = <uint32_t> length
    return <const uint8_t*> utf8


cdef inline void _add_text(
    Context* context, const Tables* tables, uint32_t space, str text, bint folded
) noexcept:
    cdef uint32_t size
    cdef const uint8_t* utf8 = _utf8(text, &size)
    if utf8 != NULL:
        _add(context, tables, space, utf8, size, folded)


cdef inline void _read_text(
    Context* context, const Tables* tables, uint32_t space, str text
) noexcept:
    if text is not None:
        _add_text(context, tables, space, text, True)


cdef inline Py_ssize_t _list_size(list values, Py_ssize_t size_max, str field) except -1:
    if values is None:
        raise TypeError(f"{field}: not a list")
    if PyList_GET_SIZE(values) > size_max:
        raise ValueError(f"{field}: more than {size_max} values")
    return PyList_GET_SIZE(values)


cdef int _read_texts(
    Context* context, const Tables* tables, uint32_t space, list values, str field
) except -1:
    cdef Py_ssize_t place
    cdef Py_ssize_t size = _list_size(values, REQUEST_VALUES_MAX, field)
    cdef const char* ahead
    cdef PyObject* text
    for place in range(size):
        if place + TEXTS_AHEAD < size:
            ahead = <const char*> PyList_GET_ITEM(values, place + TEXTS_AHEAD)
            _prefetch(ahead)
            _prefetch(ahead + TEXT_OFFSET)
        # Borrowed: nobody can change the list meanwhile, as no Python runs.
        text = PyList_GET_ITEM(values, place)
        if not PyUnicode_Check(<object> text):
            raise TypeError(f"{field}: not text")
        _add_text(context, tables, space, <str> text, True)
    return 0


cdef inline int64_t _id(object number, str field) except? -1:
    """Read a whole number; one beyond 64 bits becomes -1, which matches nothing."""
    cdef int overflow = 0
    cdef int64_t value
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{field}: not a whole number")
    value = PyLong_AsLongLongAndOverflow(number, &overflow)
    return -1 if overflow else value


cdef int64_t _read_ids(
    int64_t* ids, Py_ssize_t size_max, list values, str field
) except -1:
    cdef Py_ssize_t size = _list_size(values, size_max, field)
    cdef Py_ssize_t place
    for place in range(size):
        ids[place] = _id(<object> PyList_GET_ITEM(values, place), field)
    return size


# -- key-values ------------------------------------------------------------------------------------


cdef int _read_key_values(
    Context* context, const Tables* tables, dict key_values, Py_ssize_t keys_before
) except -1:
    """Read the pairs; the limits hold for the request's and the placement's together."""
    cdef PyObject* key
    cdef PyObject* value
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t room = REQUEST_VALUES_MAX - context.key_value_count
    cdef Py_ssize_t place
    cdef uint32_t feature
    if key_values is None:
        raise TypeError("key_values: not a dict")
    if len(key_values) + keys_before > REQUEST_KEYS_MAX:
        raise ValueError(f"key_values: more than {REQUEST_KEYS_MAX} keys")
    while PyDict_Next(key_values, &position, &key, &value):
        if not isinstance(<object> key, str):
            raise TypeError("key_values: a key is not text")
        feature = _key_feature(tables, <str> key)
        if not isinstance(<object> value, list):
            room -= 1
            if room < 0:
                break
            _read_scalar(context, tables, feature, <object> value)
            continue
        room -= PyList_GET_SIZE(<object> value)
        if room < 0:
            break
        for place in range(PyList_GET_SIZE(<object> value)):
            _read_scalar(context, tables, feature, <object> PyList_GET_ITEM(<object> value, place))
    if room < 0:
        raise ValueError(f"key_values: more than {REQUEST_VALUES_MAX} values")
    context.key_value_count = <uint32_t> (REQUEST_VALUES_MAX - room)
    return 0


cdef inline uint32_t _key_feature(const Tables* tables, str key) noexcept:
    # Not in a batch: a key's values can be looked up only when it is known itself.
    cdef uint32_t size
    cdef const uint8_t* utf8 = _utf8(key, &size)
    return UNKNOWN if utf8 == NULL else _feature(tables, SPACE_KEY, utf8, size)


cdef int _read_scalar(
    Context* context, const Tables* tables, uint32_t key, object value
) except -1:
    """Add a value of one key as its text and, unless it is text or a boolean, as a number."""
    cdef uint32_t space = KEY_SPACE_FIRST + key
    if isinstance(value, str):
        if key != UNKNOWN:
            _add_text(context, tables, space, <str> value, False)
    elif isinstance(value, bool):
        if key != UNKNOWN:
            _add_ascii(context, tables, space, b"true" if value else b"false")
    elif isinstance(value, int):
        if key != UNKNOWN:
            _read_int(context, tables, key, value)
    elif isinstance(value, float):
        if key != UNKNOWN:
            _read_float(context, tables, key, <double> value)
    else:
        raise TypeError("key_values: a value is not text, a number or a boolean")
    return 0


cdef inline void _add_ascii(
    Context* context, const Tables* tables, uint32_t space, const char* text
) noexcept nogil:
    _add(context, tables, space, <const uint8_t*> text, <uint32_t> strlen(text), False)


cdef inline void _add_number(Context* context, uint32_t key, double value) noexcept nogil:
    context.numbers[context.number_count].key = key
    context.numbers[context.number_count].value = value
    context.number_count += 1


cdef int _read_int(Context* context, const Tables* tables, uint32_t key, object number) except -1:
    cdef char[24] digits
    cdef int overflow = 0
    cdef long long value = PyLong_AsLongLongAndOverflow(number, &overflow)
    if not overflow:
        snprintf(digits, sizeof(digits), b"%lld", value)
        _add_ascii(context, tables, KEY_SPACE_FIRST + key, digits)
        _add_number(context, key, <double> value)
        return 0
    if int.bit_length(number) <= DIGIT_BITS_MAX:
        _add_text(context, tables, KEY_SPACE_FIRST + key, int.__repr__(number), False)
        _add_number(context, key, PyLong_AsDouble(number))
    else:
        # Beyond every bound that a range can have, and perhaps beyond the doubles.
        _add_number(context, key, INFINITY if overflow > 0 else -INFINITY)
    return 0


cdef int _read_float(Context* context, const Tables* tables, uint32_t key, double number) except -1:
    cdef char* text = PyOS_double_to_string(number, b"r", 0, Py_DTSF_ADD_DOT_0, NULL)
    if text == NULL:
        raise MemoryError
    _add_ascii(context, tables, KEY_SPACE_FIRST + key, text)
    PyMem_Free(text)
    _add_number(context, key, number)
    return 0
