"""A targeting expression is read: into tests combined by AND and OR, or a fault with its path.

Tests are total: a request without the dimension fails an include or a range and passes an exclude.
So the expression is classical logic, `not` moves down to the leaves, and `not include` is
`exclude`. What is always or never true is taken out on the way.
"""

from math import isfinite
from typing import NamedTuple, TypeAlias, get_args

from adcore.catalog import Dimension, Expression
from adcore.limits import EXPRESSION_DEPTH_MAX, VALUE_BYTES_MAX, VALUES_MAX

KEY_VALUE = "key_value"
"""The dimension of every free key-value; `Subject.key` says which key."""

ID_DIMENSIONS = frozenset({"site", "zone", "ad_type"})
MULTI_VALUED = frozenset({"zone", "ad_type", "keyword", "category", "segment", KEY_VALUE})
"""A request may have several values here, so two includes do not narrow to what they share."""

_DIMENSIONS = frozenset(get_args(Dimension))
FOLDED = _DIMENSIONS - ID_DIMENSIONS
"""Text without regard to ASCII case."""
_FORMS = ("all", "any", "not_", "dimension", "key")
_LEAF_FIELDS = ("include", "exclude", "at_least", "below")


class ExpressionError(ValueError):
    """`path` leads from the expression to the fault, such as `all[1].not.include`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


class Subject(NamedTuple):
    """What a predicate looks at: a dimension, and for key-values the key's UTF-8 bytes."""

    dimension: str
    key: bytes = b""


_SUBJECTS = {dimension: Subject(dimension) for dimension in _DIMENSIONS}
Values: TypeAlias = frozenset[bytes | int]


class Among(NamedTuple):
    """True if a value of the request is in `values`; negated: if none is.

    Values are ids (int), or UTF-8 bytes, in ASCII lower case unless the subject is a key.
    """

    subject: Subject
    values: Values
    negated: bool


class Between(NamedTuple):
    """True if a number of the request is in [at_least, below); negated: if none is.

    An infinite bound is no bound, so infinity itself is inside.
    """

    subject: Subject
    at_least: float
    below: float
    negated: bool


Predicate: TypeAlias = Among | Between


class All(NamedTuple):
    members: tuple["Tree", ...]


class Any(NamedTuple):
    members: tuple["Tree", ...]


Tree: TypeAlias = Predicate | All | Any


def parse(expression: Expression | None) -> Tree | bool:
    """Return what must hold: a bool if it always or never does. None is always."""
    return True if expression is None else _parse(expression, False, "", 1)


def _parse(expression: Expression, negated: bool, path: str, depth: int) -> Tree | bool:
    form = _form(expression, path)
    if form == "dimension" or form == "key":
        return _leaf(expression, negated, path)
    if depth > EXPRESSION_DEPTH_MAX:
        raise ExpressionError(path, f"nested deeper than {EXPRESSION_DEPTH_MAX}")
    if form == "not_":
        assert expression.not_ is not None
        return _parse(expression.not_, not negated, _below(path, "not"), depth + 1)
    members = expression.all if form == "all" else expression.any
    assert members is not None
    _limit(len(members), VALUES_MAX, _below(path, form), "expressions")
    parts = [
        _parse(member, negated, _below(path, f"{form}[{number}]"), depth + 1)
        for number, member in enumerate(members)
    ]
    # De Morgan: a negated `all` is an `any` of the negated members, which they are already.
    conjunctive = (form == "all") != negated
    if (not conjunctive) in parts:  # never in an AND, always in an OR
        return not conjunctive
    left = tuple(part for part in parts if not isinstance(part, bool))
    if len(left) < 2:
        return left[0] if left else conjunctive
    return All(left) if conjunctive else Any(left)


def _form(expression: Expression, path: str) -> str:
    if not isinstance(expression, Expression):
        raise ExpressionError(path, "not an expression")
    given = [name for name in _FORMS if getattr(expression, name) is not None]
    if len(given) != 1:
        forms = ", ".join(name.rstrip("_") for name in _FORMS)
        raise ExpressionError(path, f"needs exactly one of {forms}; has {len(given)}")
    form = given[0]
    if form not in ("dimension", "key"):
        for name in _LEAF_FIELDS:
            if getattr(expression, name) is not None:
                raise ExpressionError(_below(path, name), "needs a dimension or a key beside it")
    return form


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# -- leaves ----------------------------------------------------------------------------------------


def _leaf(expression: Expression, negated: bool, path: str) -> Predicate | bool:
    subject = _subject(expression, path)
    ranged = expression.at_least is not None or expression.below is not None
    if (expression.include is not None) + (expression.exclude is not None) + ranged != 1:
        raise ExpressionError(path, "needs exactly one of include, exclude or a range")
    if ranged:
        return _between(expression, subject, negated, path)
    excludes = expression.include is None
    listed = expression.exclude if excludes else expression.include
    assert listed is not None
    values = _values(subject, listed, _below(path, "exclude" if excludes else "include"))
    negated ^= excludes
    if not values:
        return negated
    return Among(subject, values, negated)


def _subject(expression: Expression, path: str) -> Subject:
    if expression.key is not None:
        try:
            return Subject(KEY_VALUE, _plain_text(expression.key))
        except ValueError as error:
            raise ExpressionError(_below(path, "key"), str(error)) from None
    subject = _SUBJECTS.get(expression.dimension or "")
    if subject is None:
        raise ExpressionError(_below(path, "dimension"), "no such dimension")
    return subject


def _between(expression: Expression, subject: Subject, negated: bool, path: str) -> Between:
    if subject.dimension != KEY_VALUE:
        raise ExpressionError(path, "a range needs a key, not a dimension")
    for name in ("at_least", "below"):
        bound = getattr(expression, name)
        if bound is not None and not isfinite(bound):
            raise ExpressionError(_below(path, name), "not a finite number")
    at_least = float("-inf") if expression.at_least is None else float(expression.at_least)
    below = float("inf") if expression.below is None else float(expression.below)
    if at_least >= below:
        raise ExpressionError(path, "empty range: at_least must be less than below")
    return Between(subject, at_least, below, negated)


def _values(subject: Subject, listed: tuple[int | str, ...], path: str) -> Values:
    _limit(len(listed), VALUES_MAX, path, "values")
    plain = _id if subject.dimension in ID_DIMENSIONS else _plain_text
    values: list[bytes | int] = []
    for number, value in enumerate(listed):
        try:
            values.append(plain(value))
        except ValueError as error:
            raise ExpressionError(f"{path}[{number}]", str(error)) from None
    if subject.dimension in FOLDED:
        return frozenset(map(bytes.lower, values))  # type: ignore[arg-type]  # of bytes: ASCII only
    return frozenset(values)


def _id(value: int | str) -> int:
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value) if value[0] != "0" else 0
    if type(value) is not int or not 0 < value < 2**63:
        raise ValueError("not an id: a whole number from 1, or its digits as text")
    return value


def _plain_text(value: int | str) -> bytes:
    if type(value) is str:
        text = value.encode()
    elif type(value) is int and -(2**63) <= value < 2**64:
        text = str(value).encode()
    else:
        raise ValueError("not text or a whole number of at most 64 bits")
    if not 0 < len(text) <= VALUE_BYTES_MAX:
        raise ValueError(f"{len(text)} bytes long; from 1 to {VALUE_BYTES_MAX} can match")
    return text


def _limit(count: int, count_max: int, path: str, what: str) -> None:
    if count > count_max:
        raise ExpressionError(path, f"{count} {what}; at most {count_max} are allowed")
