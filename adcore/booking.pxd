# Line items become records.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from adcore.tables cimport Settings, Line
from adcore.targeting cimport Rows
from adcore.vector cimport Vector

# A line item in the order of booking; its group is known when all are in rank order.
cdef struct Booked:
    Line line
    uint32_t priority
    uint32_t row_first      # in the order of booking
    uint32_t row_count

cdef struct Price:
    int64_t ecpm_micros
    int64_t price_micros
    uint32_t ppm            # turns an eCPM back into the rate's unit; 0: don't

cdef class Booking:
    cdef readonly bint second_price
    cdef readonly dict label_numbers
    cdef readonly dict zone_numbers
    cdef readonly dict schedule_numbers     # (hours, zone)
    cdef readonly dict settings_numbers         # the bytes of a Settings
    cdef Rows rows
    cdef Vector lines           # Booked
    cdef Vector ads             # Ad
    cdef Vector creatives       # Creative
    cdef Vector labels          # uint32
    cdef uint64_t lotteries[4]  # bit n: priority n is a lottery
    cdef dict line_numbers      # by id
    cdef dict priorities, campaigns, campaign_labels, advertisers
    cdef dict creatives_by_id, creative_numbers, label_firsts
    cdef object all_zones

    cdef uint32_t line_count(self) noexcept
    cdef bint lottery(self, uint32_t priority) noexcept nogil
    cdef int _book(self, object item) except -1
    cdef uint32_t _priority(self, object item) except? 0xFFFFFFFF
    cdef int _labels(self, object item, object campaign, Settings* settings) except -1
    cdef tuple _labels_of(self, object item, object campaign)
    cdef int _ads(self, object item) except -1
    cdef uint32_t _creative(self, object item, object creative_id) except? 0xFFFFFFFF
    cdef int _service(self, object item, object campaign, Settings* settings) except -1
