"""What `Index.select` gives."""

cimport cython


@cython.final
@cython.auto_pickle(False)
@cython.freelist(64)
cdef class Win:
    """A line item that won a placement, with the ad to show and the price to pay."""

    def __init__(self):
        raise TypeError("made by Index.select")

    def __repr__(self):
        return (
            f"<Win line={self.line} ad={self.ad} line_item_id={self.line_item_id}"
            f" creative_id={self.creative_id} priority={self.priority}"
            f" ecpm_micros={self.ecpm_micros} clear_price_micros={self.clear_price_micros}>"
        )
