"""What must hold becomes an OR of at most CONJUNCTIONS_MAX ANDs, each a row of the index.

Simplifying on the way keeps ordinary bookings at one AND: `any` of two includes of one dimension is
one include of both sets. What would be more than rows can say, as an AND of ORs that multiplies out
to thousands, becomes one row that demands what follows from it, so that most requests are ruled out
as ever; the whole is the residual, checked for those that pass.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from adcore.catalog import Expression
from adcore.expression import (
    MULTI_VALUED,
    All,
    Among,
    Any,
    Between,
    ExpressionError,
    Predicate,
    Subject,
    Tree,
    Values,
    parse,
)
from adcore.limits import CHECKS_MAX, CONJUNCTIONS_MAX, PREDICATES_MAX, VALUES_MAX

Conjunction: TypeAlias = tuple[Predicate, ...]
_Dnf: TypeAlias = tuple[Conjunction, ...]

_TRUE: _Dnf = ((),)
_FALSE: _Dnf = ()


class _TooWideError(Exception):
    """The ANDs are too many, or one of them is too long."""


class Targeting(NamedTuple):
    """One of the conjunctions must hold, and the residual, if there is one, as well.

    No conjunction is never, an empty one is always.
    """

    conjunctions: tuple[Conjunction, ...]
    residual: Tree | None = None


def normalise(expression: Expression | None) -> Targeting:
    """Return what a line item demands; ExpressionError names the path to what is wrong."""
    tree = parse(expression)
    if isinstance(tree, bool):
        return Targeting(_TRUE if tree else _FALSE)
    try:
        return Targeting(_dnf(tree))
    except _TooWideError:
        checks = sum(1 for _ in _leaves(tree))
        if checks > CHECKS_MAX:
            raise ExpressionError(
                "",
                f"{checks} tests; at most {CHECKS_MAX} are allowed where an AND of ORs has"
                f" more than {CONJUNCTIONS_MAX} ways to hold",
            ) from None
        necessary = _necessary(tree)
        return Targeting(_FALSE) if necessary is None else Targeting((necessary,), tree)


# -- multiplying out -------------------------------------------------------------------------------


def _dnf(tree: Tree) -> _Dnf:
    if isinstance(tree, All):
        return _all_of([_dnf(member) for member in tree.members])
    if isinstance(tree, Any):
        return _any_of([_dnf(member) for member in tree.members])
    return ((tree,),)


def _all_of(parts: list[_Dnf]) -> _Dnf:
    """Multiply the parts out, bounded after each factor so that it can't explode on the way."""
    if not all(parts):
        return _FALSE
    # Most parts are one AND; taken together first, they are simplified once.
    whole = _narrow(tuple(p for part in parts if len(part) == 1 for p in part[0]))
    product = _FALSE if whole is None else (whole,)
    for part in parts:
        if len(part) == 1:
            continue
        joined = (_narrow((*left, *right)) for left in product for right in part)
        product = _distinct([conjunction for conjunction in joined if conjunction is not None])
    return product


def _any_of(parts: list[_Dnf]) -> _Dnf:
    """Unite the parts; bare predicates of one subject become one where logic allows."""
    conjunctions = [conjunction for part in parts for conjunction in part]
    bare = [c[0] for c in conjunctions if len(c) == 1 and isinstance(c[0], Among)]
    # Only an exclude can have become empty here, and then it always holds.
    merged: list[Conjunction] = [(p,) if p.values else () for p in _widen(bare)]
    merged += [c for c in conjunctions if len(c) != 1 or not isinstance(c[0], Among)]
    return _distinct(merged)


def _distinct(conjunctions: list[Conjunction]) -> _Dnf:
    """Drop an AND whose predicates include all of another AND's: the smaller one decides."""
    if len(conjunctions) <= 1:
        return tuple(conjunctions)
    kept: list[tuple[frozenset[Predicate], Conjunction]] = []
    for conjunction in sorted(conjunctions, key=len):  # stable, so the order stays reproducible
        predicates = frozenset(conjunction)
        if not any(smaller <= predicates for smaller, _ in kept):
            kept.append((predicates, conjunction))
            if len(kept) > CONJUNCTIONS_MAX:
                raise _TooWideError
    return tuple(conjunction for _, conjunction in kept)


def _fold(
    predicates: Iterable[Among], merge: Callable[[Values, Values], Values]
) -> dict[Subject, Values]:
    """One set for each subject, in the order in which subjects appear."""
    folded: dict[Subject, Values] = {}
    for subject, values, _ in predicates:
        folded[subject] = merge(folded[subject], values) if subject in folded else values
    return folded


def _widen(predicates: list[Among]) -> Iterator[Among]:
    """Simplify an OR: includes of one subject unite; excludes share, where there is one value."""
    included = _fold((p for p in predicates if not p.negated), frozenset.union)
    yield from (Among(subject, values, False) for subject, values in included.items())
    single = [p for p in predicates if p.negated and p.subject.dimension not in MULTI_VALUED]
    for subject, values in _fold(single, frozenset.intersection).items():
        # Two excludes without a common value: whatever the request says, one of them holds.
        yield Among(subject, values, True)
    yield from (p for p in predicates if p.negated and p.subject.dimension in MULTI_VALUED)


def _narrow(predicates: Conjunction) -> Conjunction | None:
    """Simplify an AND to at most one exclude a subject, or to None if it can never hold."""
    if len({predicate.subject for predicate in predicates}) == len(predicates):
        _limit(predicates)
        return predicates
    among = [p for p in predicates if isinstance(p, Among)]
    excluded = _fold((p for p in among if p.negated), frozenset.union)
    single = [p for p in among if not p.negated and p.subject.dimension not in MULTI_VALUED]
    several = [p for p in among if not p.negated and p.subject.dimension in MULTI_VALUED]
    included = [
        Among(s, values, False) for s, values in _fold(single, frozenset.intersection).items()
    ]
    kept: dict[Predicate, None] = {}
    for subject, values, _ in included + several:
        left = values - excluded.get(subject, frozenset())
        if not left:
            return None
        kept[Among(subject, left, False)] = None
    for predicate in included:
        # A request has one value here: inside the include it is outside the exclude.
        excluded.pop(predicate.subject, None)
    kept.update({Among(subject, values, True): None for subject, values in excluded.items()})
    kept.update({p: None for p in predicates if isinstance(p, Between)})
    _limit(kept)
    return tuple(kept)


def _limit(predicates: Collection[Predicate]) -> None:
    if len(predicates) > PREDICATES_MAX:
        raise _TooWideError


# -- what is too wide ------------------------------------------------------------------------------


def _leaves(tree: Tree) -> Iterator[Predicate]:
    if isinstance(tree, All | Any):
        for member in tree.members:
            yield from _leaves(member)
    else:
        yield tree


def _necessary(tree: Tree) -> Conjunction | None:
    """Return predicates that hold whenever the tree does, or None if it never can."""
    if isinstance(tree, All):
        demanded = [_necessary(member) for member in tree.members]
        if None in demanded:
            return None
        every = [predicate for part in demanded for predicate in part or ()]
        # Any of them may be left out: what is not demanded here is checked later.
        return _narrow(tuple(every[:PREDICATES_MAX]))
    if isinstance(tree, Any):
        ways = [way for way in map(_necessary, tree.members) if way is not None]
        return _narrow(tuple(_shared(ways))[:PREDICATES_MAX]) if ways else None
    return (tree,)


def _shared(ways: list[Conjunction]) -> Iterator[Predicate]:
    """Yield what every one of the ANDs demands: includes united, and what all of them exclude."""
    first, *others = ways
    for predicate in first:
        if isinstance(predicate, Between):
            if all(predicate in other for other in others):
                yield predicate
            continue
        values = predicate.values
        for other in others:
            alike = [
                p.values
                for p in other
                if isinstance(p, Among) and p[::2] == predicate[::2]  # subject and negated
            ]
            if not alike:
                break
            # Of several includes, where a request has several values, any one will do.
            values = values & alike[0] if predicate.negated else values | min(alike, key=len)
        else:
            if 0 < len(values) <= VALUES_MAX:
                yield Among(predicate.subject, values, predicate.negated)
