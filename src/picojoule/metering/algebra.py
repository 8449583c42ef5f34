"""What arithmetic does to provenance. No function here looks at the numbers of a batch.

The rules are those of docs/meter.md; the two that matter most: events of unequal units do not add up to events
(else a leaky trace would count as events), and straight-through arithmetic `s + (z - s)` is the events z.
"""

from collections.abc import Callable, Iterable, Sequence

from picojoule.metering.tag import Level, Tag, Unit, constant, event, graded, zero

BINARY = frozenset({0.0, 1.0})
_KEPT, _MATCHED = 4, 8


def birth(sources: Sequence[Tag], levels: frozenset[float] | None = None, signed: bool = False, where: str = "") -> Tag:
    """Events are born where values are compared or rounded; comparing constants gives a constant."""
    if all(s.is_constant for s in sources):  # such as a spike at rest: events once others join in
        return constant(sources=union(s.sources for s in sources)).but(
            levels=levels, most=None if levels is None else 1
        )
    already = union(s.born for s in sources if s.level is Level.EVENT)
    grown = any(s.level is Level.GRADED for s in sources)
    own = frozenset({where}) if grown and where else already
    return event(levels, signed=signed, **_traits(sources), born=own, origin=where if grown else "")


def multiply(a: Tag, b: Tag) -> Tag:
    if Level.ZERO in (a.level, b.level):
        return zero()
    if a.level > b.level:
        a, b = b, a
    traits = _traits((a, b))
    if b.level is Level.CONST:
        value = None if a.value is None or b.value is None else a.value * b.value
        return constant(value, a.sources | b.sources, traits["trained"])
    if b.level is Level.EVENT:
        if a.level is Level.CONST and a.levels is None:
            return scale(b, a)
        levels = _pairs(a, b, lambda x, y: x * y)
        about = {"signed": a.signed or b.signed, "most": _bound(a, b, lambda x, y: x * y)}
        about |= {"born": a.born | b.born, "origin": _origin(a, b)}
        return event(levels, a.unit.times(b.unit), **about, **traits)
    if a.level is Level.EVENT:
        return graded(b.reason if b.lost else "events multiplied by values", lost=b.lost, **traits)
    if a.level is Level.CONST and a.value is not None:
        terms = b.terms
        return graded(b.reason, lost=b.lost, **traits).but(
            form=_kept({k: (f * a.value, t) for k, (f, t) in terms.items()}),
            identity=hash(("mul", a.value, b.identity)),
        )
    identity = hash(("mul", *sorted((a.identity, b.identity))))
    return _values((a, b), traits).but(identity=identity)


def divide(a: Tag, b: Tag) -> Tag:
    if a.level is Level.ZERO:
        return a
    if b.is_constant:
        inverse = None if not b.value else 1 / b.value
        return multiply(a, constant(inverse, b.sources, b.trained).but(identity=hash(("inverse", b.identity))))
    if a.level is Level.EVENT or b.level is Level.EVENT:
        return graded("division by or of events", **_traits((a, b)))
    return _values((a, b), _traits((a, b)))


def scale(events: Tag, by: Tag) -> Tag:
    """Events times constants: the height changes, the events do not."""
    unit = Unit.of(1.0, by.identity) if by.value is None else Unit.of(abs(by.value))
    levels = events.levels
    signed = events.signed or by.value is None
    if by.value is not None and by.value < 0:
        levels = None if levels is None else frozenset(-n for n in levels)
        signed = True
    height = events.unit.times(unit)
    return events.but(level=Level.EVENT, levels=levels, signed=signed, unit=height, identity=_fresh(), form=None)


def add(a: Tag, b: Tag, factor: float = 1.0) -> Tag:
    """`a + factor * b`."""
    if b.level is Level.ZERO or factor == 0:
        return a
    if factor != 1 and b.level is not Level.GRADED:
        b = multiply(constant(factor), b)
        factor = 1.0
    if a.level is Level.ZERO and factor == 1:
        return b
    traits = _traits((a, b))
    a, b = _with_rest(a, b)
    if a.level <= Level.CONST and b.level <= Level.CONST:
        value = None if a.value is None or b.value is None else a.value + b.value
        return constant(value, a.sources | b.sources, traits["trained"])
    if a.level is Level.EVENT and b.level is Level.EVENT:
        if a.unit != b.unit:
            return _with_form(graded("events of unequal units added", **traits), a, b, factor)
        levels = _pairs(a, b, lambda x, y: x + y)
        about = {"signed": a.signed or b.signed, "most": _bound(a, b, lambda x, y: x + y)}
        about |= {"inexact": a.inexact or b.inexact, "born": a.born | b.born, "origin": _origin(a, b)}
        found = event(levels, a.unit, **about, **traits)
        return found if found.level is Level.ZERO else _with_form(found, a, b, factor)
    if Level.GRADED not in (a.level, b.level):
        events, fixed = (a, b) if a.level is Level.EVENT else (b, a)
        return shift(events, fixed.value)
    cancelled = _cancelled(a, b, factor)
    if cancelled is not None:
        return cancelled
    return _with_form(_values((a, b), traits), a, b, factor)


def shift(events: Tag, by: float | None) -> Tag:
    """Events plus a constant: still events if one level becomes 0 and the others whole multiples."""
    if by == 0:
        return events
    height = events.unit.number
    if by is not None and events.levels is not None and height is not None:
        return relevel(events, [n * height + by for n in events.levels])
    return graded("a constant is added to events", **_traits((events,)))


def map_levels(events: Tag, function: Callable[[float], float], name: str) -> Tag:
    """An elementwise function of events."""
    height = events.unit.number
    if events.levels is None or height is None:
        return graded(f"{name} of events", **_traits((events,)))
    try:
        return relevel(events, [function(n * height) for n in events.levels])
    except (ValueError, ZeroDivisionError, OverflowError):
        return graded(f"{name} of events", **_traits((events,)))


def relevel(events: Tag, values: Sequence[float]) -> Tag:
    """The same events with other values on their levels."""
    heights = [abs(v) for v in values if v]
    if not heights:
        return zero()
    unit = min(heights)
    numbers = [v / unit for v in values]
    if 0.0 not in values or any(abs(n - round(n)) > 1e-6 for n in numbers):
        return graded("events shifted to levels that are no multiples of one unit", **_traits((events,)))
    levels = frozenset(float(round(n)) for n in numbers)
    return event(levels, Unit.of(unit), **_traits((events,)), born=events.born, origin=events.origin)


def magnitude(tag: Tag) -> Tag:
    """|x|."""
    if tag.level is not Level.EVENT:
        return derived("abs", tag)
    levels = None if tag.levels is None else frozenset(map(abs, tag.levels))
    return tag.but(levels=levels, signed=False, identity=_fresh(), form=None)


def rectify(tag: Tag) -> Tag:
    """max(x, 0)."""
    if tag.level is not Level.EVENT:
        return derived("relu", tag)
    levels = None if tag.levels is None else frozenset(max(n, 0.0) for n in tag.levels)
    if levels == frozenset({0.0}):
        return zero()
    return tag.but(levels=levels, signed=False, identity=_fresh(), form=None)


def derived(name: str, tag: Tag) -> Tag:
    """A function of one tensor without a rule of its own. Called twice on one tensor it has one identity."""
    if tag.level is Level.EVENT:
        return graded(f"{name} of events", **_traits((tag,)))
    if tag.is_constant:
        return constant(None, tag.sources, tag.trained).but(identity=hash((name, tag.identity)))
    return tag.but(identity=hash((name, tag.identity)), form=None)


def total(tag: Tag, over: float | None = 1.0, terms: float | None = None) -> Tag:
    """A sum of so many `terms` (None: not known), divided by the constant `over` (None: not the same for all)."""
    if tag.level is not Level.EVENT:
        return tag.but(identity=_fresh(), form=None, value=tag.value if tag.level is Level.ZERO else None)
    if over is None:
        return graded("a mean over windows of unequal size", **_traits((tag,)))
    unit = tag.unit.times(Unit.of(1 / over))
    most = None if tag.most is None or terms is None else tag.most * terms
    return tag.but(levels=None, most=most, unit=unit, identity=_fresh(), form=None, origin="")


def join(tags: Iterable[Tag]) -> Tag:
    """The tag of a tensor that holds some elements of each."""
    found: Tag | None = None
    for tag in tags:
        found = tag.but(form=None) if found is None else _joined(found, tag)
    return zero() if found is None else found


def choose(condition: Tag, a: Tag, b: Tag) -> Tag:
    """`where(condition, a, b)`: choosing between zero and a constant by data is a birth of events."""
    if condition.is_constant or not (a.is_constant and b.is_constant):
        return join((a, b))
    if a.value is not None and a.value == b.value:
        return a
    one, other = (a, b) if b.level is Level.ZERO else (b, a)
    if other.level is not Level.ZERO:
        return graded("a choice between two levels, none of them zero", **_traits((condition,)))
    unit = Unit.of(1.0, one.identity) if one.value is None else Unit.of(abs(one.value))
    levels = BINARY if one.value is None or one.value > 0 else frozenset({-1.0, 0.0})
    return event(levels, unit, **_traits((condition,)), born=condition.born, origin=condition.origin)


def union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


def _joined(a: Tag, b: Tag) -> Tag:
    a, b = _with_rest(a, b)
    if a.level > b.level:
        a, b = b, a
    traits = _traits((a, b))
    if a.level is Level.ZERO:
        return b.but(value=None, form=None)
    if b.level is Level.CONST:
        value = a.value if a.value == b.value else None
        return constant(value, a.sources | b.sources, traits["trained"])
    if a.level is Level.EVENT and b.level is Level.EVENT and a.unit == b.unit:
        levels = None if a.levels is None or b.levels is None else a.levels | b.levels
        about = {"signed": a.signed or b.signed, "most": _bound(a, b, max)}
        about |= {"inexact": a.inexact or b.inexact, "born": a.born | b.born, "origin": _origin(a, b)}
        return event(levels, a.unit, **about, **traits)
    if b.level is Level.EVENT:
        what = "events of unequal units" if a.level is Level.EVENT else "events and non-zero constants"
        return graded(f"{what} in one tensor", **traits)
    if a.level is Level.EVENT:
        return graded("events and values in one tensor", lost=b.lost, **traits)
    return _values((a, b), traits)


def _values(tags: Sequence[Tag], traits: dict) -> Tag:
    """Values made of values: there is something to explain only if no operand is plain values."""
    grown = [t for t in tags if t.level is Level.GRADED]
    explained = all(t.reason for t in grown)
    return graded(grown[0].reason if explained else "", lost=explained and any(t.lost for t in grown), **traits)


def _traits(tags: Sequence[Tag]) -> dict:
    drivers = [t.driver for t in tags if t.driver]
    return {"trained": any(t.trained for t in tags), "driver": drivers[-1] if drivers else ""}


def _pairs(a: Tag, b: Tag, function: Callable[[float, float], float]) -> frozenset[float] | None:
    if a.levels is None or b.levels is None:
        return None
    return frozenset(function(x, y) for x in a.levels for y in b.levels)


def _with_rest(a: Tag, b: Tag) -> tuple[Tag, Tag]:
    """A comparison of constants is events where it meets events: what neurons at rest sent."""
    if Level.EVENT in (a.level, b.level):
        a, b = (t.but(level=Level.EVENT) if t.level is Level.CONST and t.levels else t for t in (a, b))
    return a, b


def _origin(a: Tag, b: Tag) -> str:
    """Of events made of events: one module's own, or nobody's."""
    if not a.origin or not b.origin:  # of which one may be of neurons at rest
        return (a.origin or b.origin) if Level.CONST in (a.level, b.level) or not (a.born and b.born) else ""
    return a.origin if a.origin.partition(":")[0] == b.origin.partition(":")[0] else ""


def _bound(a: Tag, b: Tag, function: Callable[[float, float], float]) -> float | None:
    return None if a.most is None or b.most is None else function(a.most, b.most)


def _sum_of_terms(a: Tag, b: Tag, factor: float) -> dict[int, tuple[float, Tag]]:
    terms = dict(a.terms)
    for key, (f, tag) in b.terms.items():
        before = terms[key][0] if key in terms else 0.0
        terms[key] = (before + factor * f, tag)
        if abs(terms[key][0]) < 1e-12:
            del terms[key]
    return terms


def _kept(terms: dict[int, tuple[float, Tag]]) -> dict[int, tuple[float, Tag]] | None:
    return terms if len(terms) <= _KEPT else None


def _with_form(result: Tag, a: Tag, b: Tag, factor: float) -> Tag:
    terms = _sum_of_terms(a, b, factor)
    if len(terms) > _MATCHED:
        return result
    result.form = _kept(terms)
    return result


def _cancelled(a: Tag, b: Tag, factor: float) -> Tag | None:
    """The events that remain when all values cancel: straight-through arithmetic."""
    if not ({a.identity, *a.terms} & {b.identity, *b.terms}):
        return None
    for left in _readings(a):
        for right in _readings(b):
            terms = _sum_of_terms(left, right, factor)
            rest = list(terms.values())
            if len(terms) < len(left.terms) + len(right.terms) and all(t.level is Level.EVENT for _, t in rest):
                found = zero()
                for f, tag in rest:
                    found = add(found, tag.but(form=None), 1.0) if f == 1 else add(found, tag.but(form=None), f)
                return found.but(inexact=True, form=None) if found.level is Level.EVENT else found
    return None


def _readings(tag: Tag) -> list[Tag]:
    """A sum may be read as its terms or as one thing."""
    return [tag] if tag.form is None else [tag, tag.but(form=None)]


def _fresh() -> int:
    return Tag(Level.ZERO).identity
