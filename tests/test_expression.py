"""Normalised targeting says the same as the expression, and a fault is named with its path."""

from itertools import product
from math import isinf

import pytest
from hypothesis import given
from hypothesis import strategies as st

import adcore
from adcore import normalising
from adcore.catalog import Expression
from adcore.expression import All, Among, Between, ExpressionError, Subject, Tree
from adcore.limits import (
    CHECKS_MAX,
    CONJUNCTIONS_MAX,
    EXPRESSION_DEPTH_MAX,
    PREDICATES_MAX,
    VALUES_MAX,
)
from adcore.normalising import Conjunction, normalise
from adcore.request import Placement, Request
from tests import oracle, worlds


def include(dimension: str, *values: int | str) -> Expression:
    return Expression(dimension=dimension, include=values)


def exclude(dimension: str, *values: int | str) -> Expression:
    return Expression(dimension=dimension, exclude=values)


def conjunction_holds(conjunction: Conjunction, request: Request, placement: Placement) -> bool:
    return all(predicate_holds(p, request, placement) for p in conjunction)


def predicate_holds(predicate: Among | Between, request: Request, placement: Placement) -> bool:
    """Ask the oracle about one predicate, written back as an expression."""
    subject = predicate.subject
    named = {"key": subject.key.decode()} if subject.key else {"dimension": subject.dimension}
    if isinstance(predicate, Between):
        at_least = None if isinf(predicate.at_least) else predicate.at_least
        below = None if isinf(predicate.below) else predicate.below
        leaf = Expression(**named, at_least=at_least, below=below)
        return oracle.holds(leaf, request, placement) != predicate.negated
    values = tuple(v.decode() if isinstance(v, bytes) else v for v in predicate.values)
    leaf = Expression(**named, include=values)
    return oracle.holds(leaf, request, placement) != predicate.negated


def tree_holds(tree: Tree, request: Request, placement: Placement) -> bool:
    if isinstance(tree, Among | Between):
        return predicate_holds(tree, request, placement)
    held = (tree_holds(member, request, placement) for member in tree.members)
    return all(held) if isinstance(tree, All) else any(held)


def conjunctions(expression: Expression | None) -> tuple[Conjunction, ...]:
    """Normalise what is no wider than rows can say."""
    assert normalise(expression).residual is None
    return normalise(expression).conjunctions


@given(worlds.expressions(), worlds.requests(), st.sampled_from((1, 2, CONJUNCTIONS_MAX)))
def test_normalised_says_the_same_as_the_expression(
    expression: Expression, request: Request, conjunctions_max: int
) -> None:
    """Also where it is too wide, which a low limit makes of nearly every expression."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalising, "CONJUNCTIONS_MAX", conjunctions_max)
        try:
            wanted = normalise(expression)
        except ExpressionError as error:
            assert "deeper" in error.message
            return
    assert len(wanted.conjunctions) <= conjunctions_max
    for placement in request.placements or [Placement("a")]:
        some = any(conjunction_holds(c, request, placement) for c in wanted.conjunctions)
        holds = oracle.holds(expression, request, placement)
        if wanted.residual is None:
            assert some == holds
        else:
            assert tree_holds(wanted.residual, request, placement) == holds
            assert some or not holds  # the row never rules out what the whole allows


def test_nothing_said_is_always_and_an_empty_any_is_never() -> None:
    assert conjunctions(None) == conjunctions(Expression(all=())) == ((),)
    assert conjunctions(Expression(any=())) == conjunctions(include("country")) == ()
    assert conjunctions(Expression(not_=Expression(any=()))) == ((),)
    assert conjunctions(Expression(dimension="country", exclude=())) == ((),)


def test_two_includes_of_one_dimension_are_one_conjunction() -> None:
    either = Expression(any=(include("country", "DE"), include("country", "at")))
    assert conjunctions(either) == ((Among(Subject("country"), frozenset({b"de", b"at"}), False),),)


def test_an_include_narrows_to_what_the_exclude_leaves() -> None:
    excludes_at = Expression(dimension="country", exclude=("AT",))
    both = Expression(all=(include("country", "DE", "AT"), excludes_at))
    assert conjunctions(both) == ((Among(Subject("country"), frozenset({b"de"}), False),),)
    assert conjunctions(Expression(all=(include("country", "AT"), excludes_at))) == ()


def test_two_segments_at_once_stay_two_predicates_but_two_countries_are_never() -> None:
    segments = Expression(all=(include("segment", "a"), include("segment", "b")))
    assert [len(one) for one in conjunctions(segments)] == [2]
    assert conjunctions(Expression(all=(include("country", "a"), include("country", "b")))) == ()


def test_either_exclude_is_always_of_a_country_but_not_of_a_segment() -> None:
    """One value can't be in two disjoint sets; two segments can."""

    def either(dimension: str) -> Expression:
        return Expression(any=(exclude(dimension, "a"), exclude(dimension, "b")))

    assert conjunctions(either("country")) == ((),)
    assert len(conjunctions(either("segment"))) == 2


def test_ids_are_numbers_however_written_and_keys_keep_their_case() -> None:
    assert conjunctions(include("site", 7, "7")) == (
        (Among(Subject("site"), frozenset({7}), False),),
    )
    [[predicate]] = conjunctions(Expression(key="Kind", include=("A", 5)))
    assert predicate == Among(Subject("key_value", b"Kind"), frozenset({b"A", b"5"}), False)


def nested(depth: int) -> Expression:
    expression = include("country", "DE")
    for _ in range(depth):
        expression = Expression(not_=expression)
    return expression


def ors(count: int) -> Expression:
    """`count` conjunctions, as no two can be merged."""
    return Expression(any=tuple(Expression(key=f"k{n}", include=("x",)) for n in range(count)))


def ands(count: int) -> Expression:
    return Expression(all=tuple(Expression(key=f"k{n}", include=("x",)) for n in range(count)))


DE = include("country", "DE")
TOO_MANY = tuple(map(str, range(VALUES_MAX + 1)))


@pytest.mark.parametrize(
    ("expression", "path", "message"),
    [
        (Expression(), "", "exactly one of all, any, not, dimension, key; has 0"),
        (Expression(all=(), any=()), "", "has 2"),
        (Expression(all=(DE, Expression())), "all[1]", "has 0"),
        (Expression(all=(DE, nested(1)), include=("x",)), "include", "beside it"),
        (Expression(not_=DE, below=1.0), "below", "beside it"),
        (Expression(dimension="country"), "", "exactly one of include, exclude"),
        (Expression(key="k", include=("a",), exclude=("b",)), "", "exactly one of include, excl"),
        (Expression(key="k", include=("a",), below=2.0), "", "exactly one of include, exclude"),
        (Expression(dimension="country", below=2.0), "", "needs a key"),
        (Expression(key="k", at_least=2.0, below=2.0), "", "empty range"),
        (Expression(key="k", at_least=float("nan")), "at_least", "finite"),
        (Expression(key="k", below=float("inf")), "below", "finite"),
        (Expression(key="\ud800", include=("a",)), "key", "surrogates"),
        (include("planet", "earth"), "dimension", "no such dimension"),  # not from a decoder
        (include("country", "DE", ""), "include[1]", "0 bytes"),
        (include("country", "x" * 257), "include[0]", "257 bytes"),
        (include("country", "\ud800"), "include[0]", "surrogates"),
        (include("country", True), "include[0]", "not text"),
        (include("site", 0), "include[0]", "not an id"),
        (include("site", "07"), "include[0]", "not an id"),
        (include("zone", 2**63), "include[0]", "not an id"),
        (Expression(any=(Expression(not_=include("site", "x")),)), "any[0].not.include[0]", "id"),
        (include("country", *TOO_MANY), "include", "4097 values"),
        (nested(EXPRESSION_DEPTH_MAX + 1), ".".join(["not"] * EXPRESSION_DEPTH_MAX), "deeper"),
        (ors(VALUES_MAX + 1), "any", "4097 expressions"),
        (Expression(all=(ors(CHECKS_MAX), DE)), "", "4097 tests; at most 4096"),
    ],
)
def test_a_fault_is_named_with_its_path(expression: Expression, path: str, message: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        normalise(expression)
    assert raised.value.path == path
    assert message in raised.value.message


def test_the_limits_themselves_are_allowed() -> None:
    assert len(conjunctions(nested(EXPRESSION_DEPTH_MAX))) == 1
    assert len(conjunctions(ors(CONJUNCTIONS_MAX))) == CONJUNCTIONS_MAX
    assert [len(one) for one in conjunctions(ands(PREDICATES_MAX))] == [PREDICATES_MAX]
    assert len(conjunctions(include("country", *TOO_MANY[:-1]))) == 1


def test_a_product_becomes_a_check_before_it_explodes() -> None:
    """Sixteen to the power of eight conjunctions would not fit into memory."""
    factors = tuple(
        Expression(any=tuple(Expression(key=f"{a}{b}", include=("x",)) for b in range(16)))
        for a in "abcdefgh"
    )
    wide = normalise(Expression(all=(*factors, DE)))
    assert wide.conjunctions == ((Among(Subject("country"), frozenset({b"de"}), False),),)
    assert isinstance(wide.residual, All)
    assert len(wide.residual.members) == 9


def test_what_is_too_wide_still_demands_what_all_its_ways_share() -> None:
    ways = tuple(
        Expression(all=(include("country", c), exclude("os", "a", f"os{n}"), ors(2)))
        for n, c in enumerate(["DE", "AT", "CH"] * 6)
    )
    [row] = normalise(Expression(any=ways)).conjunctions
    assert set(row) == {
        Among(Subject("country"), frozenset({b"de", b"at", b"ch"}), False),
        Among(Subject("os"), frozenset({b"a"}), True),
    }


@pytest.mark.parametrize("wide", [ors(CONJUNCTIONS_MAX + 1), ands(PREDICATES_MAX + 1)])
def test_what_is_too_wide_and_constant_is_a_constant(wide: Expression) -> None:
    assert normalise(wide).residual is not None
    never, always = Expression(any=()), Expression(all=())
    assert conjunctions(Expression(all=(wide, never))) == ()
    assert conjunctions(Expression(any=(wide, always))) == ((),)
    impossible = (include("country", "a"), include("country", "b"), wide)
    assert conjunctions(Expression(all=impossible)) == ()


def test_the_same_expression_gives_the_same_conjunctions_in_the_same_order() -> None:
    pairs = [
        Expression(all=(include("country", c), include("os", o))) for c, o in product("ab", "xy")
    ]
    first, second = (conjunctions(Expression(any=tuple(pairs))) for _ in range(2))
    assert first == second
    assert [sorted(p.subject.dimension for p in c) for c in first] == [["country", "os"]] * 4


# -- read straight from the record, or normalised --------------------------------------------------

ADULT = Expression(key="age", at_least=18.0)
YOUNG = Expression(key="age", below=35.0)
NEAR = Expression(key="km", at_least=-0.5, below=7.5)


def compiled(targeting: Expression) -> bytes:
    return bytes(adcore.compile(worlds.catalog_of(worlds.item(1, targeting=targeting))).buffer)


@pytest.mark.parametrize(
    "members",
    [
        (ADULT,),
        (YOUNG, NEAR),
        (include("os", "a", "b"), NEAR, exclude("city", "c"), YOUNG),
        (ADULT, YOUNG),
        (ADULT, ADULT),
        (ADULT, Expression(key="age", include=("20", "30"))),
        (Expression(key="age", exclude=("20",)), ADULT),
        (ADULT, exclude("os")),
    ],
)
def test_a_simple_and_gives_the_rows_that_normalising_gives(
    members: tuple[Expression, ...],
) -> None:
    straight = Expression(all=members)
    assert compiled(straight) == compiled(Expression(not_=Expression(not_=straight)))
    if len(members) == 1:
        assert compiled(members[0]) == compiled(straight)


def test_a_range_beside_what_never_holds_is_no_row() -> None:
    never = Expression(all=(ADULT, include("os"), NEAR))
    assert adcore.compile(worlds.catalog_of(worlds.item(1, targeting=never))).row_count == 0


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (Expression(key="age", at_least=1.0, below=1.0), "empty range"),
        (Expression(key="age", at_least=float("nan")), "at_least: not a finite number"),
        (Expression(key="age", below=float("inf")), "below: not a finite number"),
        (Expression(dimension="os", below=1.0), "a range needs a key"),
        (Expression(key="", below=1.0), "key: 0 bytes long"),
        (Expression(key="age"), "needs exactly one of include, exclude or a range"),
    ],
)
def test_a_range_that_is_none_is_named(leaf: Expression, message: str) -> None:
    for targeting in (leaf, Expression(all=(NEAR, leaf))):
        with pytest.raises(adcore.layout.LayoutError, match=message):
            compiled(targeting)
