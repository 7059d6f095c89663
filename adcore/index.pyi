from array import array
from collections.abc import Sequence
from typing import final

from typing_extensions import Buffer

from adcore.live import Live
from adcore.plan import Plan
from adcore.reasons import Explanation, Verdict
from adcore.request import Request
from adcore.win import Win

OUTCOMES: tuple[str, ...]

@final
class Index:
    """A compiled catalog, immutable. It answers one request at a time, with the GIL held."""

    def __new__(cls, buffer: Buffer, checked: bool = False) -> Index: ...
    @staticmethod
    def attach(buffer: Buffer, *, checked: bool = False) -> Index:
        """Use a compiled catalog where it lies, such as a read-only mmap; the Index keeps it alive.

        Every number in it is checked, which reads all of it: 110 ms for a million rows. `checked`:
        the caller vouches for the bytes, that they are those of an Index made before on this
        machine; only their bounds are looked at, and corrupt ones may crash the process.
        ValueError if it is corrupt, of another format version, writable, or not aligned to 8 bytes.
        """
    @property
    def buffer(self) -> memoryview:
        """The compiled catalog: written to a file, another process can attach to it."""
    @property
    def nbytes(self) -> int: ...
    @property
    def line_count(self) -> int: ...
    @property
    def row_count(self) -> int: ...
    @property
    def ad_count(self) -> int: ...
    @property
    def seen(self) -> dict[str, int]:
        """What became of the rows that the last `select` looked at.

        `won`, `not_live`, `targeting`, `throttled`, `capped`, `floor`, `label`, `creative`,
        `outranked`: what the last one left out met its targeting, and others won. Rows after the
        last winner are not looked at.
        """
    def live(self, now_s: int, plan: Plan | None = None) -> Live:
        """Work out which rows may serve at this second; without a plan all stand as booked."""
    def plan(
        self,
        line_items: Sequence[int] | Buffer = (),
        *,
        rates_ppm: Sequence[int] | Buffer | None = None,
        multipliers_ppm: Sequence[int] | Buffer | None = None,
        probabilities_ppm: Sequence[int] | Buffer | None = None,
    ) -> Plan:
        """Say how line items stand, by id; those not named stand as booked.

        `rates_ppm`: the share of requests that a line item takes part in, 0 to 10^6; 0 stops it.
        `multipliers_ppm`: what its eCPM is raised or lowered to in the ranking, 0 to
        MULTIPLIER_PPM_MAX. `probabilities_ppm`: of a click or conversion, 0 to 10^6, in place of
        the booked one, which -1 leaves; of other rates it is left out of account. ValueError with
        the place.

        An `array("q")`, or a memoryview cast to "q", is read where it lies and without the GIL. Of
        several numbers for one line item the last one counts.
        """
    def matching(self, request: Request, live: Live) -> list[array[int]]:
        """For each placement the lines whose targeting the request meets, in rank order.

        Live ones only, without regard to creatives, floors and labels. Errors are `select`'s.
        """
    def scan(self, request: Request, live: Live) -> list[array[int]]:
        """The same, from reading each row as it was booked: what the index is held against."""
    def differences(self, request: Request, live: Live, word_first: int, word_count: int) -> int:
        """Count the rows on which both disagree, among 64 x `word_count` rows from a word on."""
    def replay(self, request: Request, live: Live, draw: int, times: int) -> int:
        """Read the request once, and plan and fill its first placement so many times over.

        For benchmarks: the time that one more takes is the kernel's alone, with what it reads in
        the caches. Returns the number of winners.
        """
    def explain(self, request: Request, live: Live, draw: int) -> list[Explanation]:
        """Give each placement's winners and why every other line item lost, as `select` decides.

        Reads every line item, 70 to 80 ns each: for people who ask, not for each request.
        """
    def verdict(self, rank: int, reason: int, detail: int) -> Verdict:
        """Put one entry of an Explanation in words."""
    def rank_of(self, line_item_id: int) -> int | None:
        """Find a line item's place in rank order: by priority, eCPM of an auction, position."""
    def select(self, request: Request, live: Live, draw: int) -> list[list[Win]]:
        """Give the winners of each placement, in order; `draw` is any number of 64 bits.

        TypeError for a wrong type in the request, ValueError for a number or a list out of bounds,
        or for a `live` of another Index.
        """
