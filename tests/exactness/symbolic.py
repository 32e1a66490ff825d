"""Runs a program along every way its random draws can lead, with exact probabilities.

All that is known of a `Draw` is the interval it lies in, at first [0, 1). Where this leaves a
comparison open, the program *forks*: the path goes on with one answer, weighted with its
probability, and the interval shrinks to where that answer is true. `explore` runs the program again
for the other answer, until every path has been taken.

The program itself is real and knows nothing of this. A draw that is asked for twice is the same
`Draw`, with the interval that its first use left, so noise shared by mistake shows as dependence.

Only rational numbers may meet a draw. A float raises TypeError, so a result is exact or absent.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Rational
from typing import Any, TypeVar

from forethought.sampling.randomness import Stream

T = TypeVar("T")


@dataclass(slots=True)
class Path:
    """One way through the program: the answers given at its forks, and how likely they are."""

    script: Sequence[bool] = ()  # answers to repeat; beyond it, forks answer True
    answers: list[bool] = field(default_factory=list)
    probability: Fraction = Fraction(1)

    def fork(self, chance: Fraction) -> bool:
        """An answer that is True with probability `chance`, which lies inside (0, 1)."""
        step = len(self.answers)
        answer = self.script[step] if step < len(self.script) else True
        self.answers.append(answer)
        self.probability *= chance if answer else 1 - chance
        return answer


@dataclass(slots=True)
class Draw:
    """A uniform number u of which is known only that low <= u < high."""

    path: Path
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(1)

    def is_below(self, cut: Fraction) -> bool:
        """Whether u < cut, and almost surely also whether u <= cut: one point has no mass."""
        if cut <= self.low:
            return False
        if cut >= self.high:
            return True
        if self.path.fork((cut - self.low) / (self.high - self.low)):
            self.high = cut
            return True
        self.low = cut
        return False


@dataclass(frozen=True, slots=True, eq=False)  # equality has probability zero: no point has mass
class Uniform:
    """What a program gets for a draw u: the value `scale * u`, to be scaled and compared.

    A rational number may stand on the left as well: for `p > u` Python asks `Uniform.__lt__`.
    """

    draw: Draw
    scale: Fraction = Fraction(1)  # not negative

    __array_ufunc__ = None  # numpy's scalars and arrays, too, leave operators to this class

    def __mul__(self, factor: object) -> "Uniform":
        factor = _rational(factor)
        if factor < 0:
            raise ValueError("a draw is scaled by probabilities, which are not negative")
        return Uniform(self.draw, self.scale * factor)

    __rmul__ = __mul__

    def __lt__(self, other: object) -> bool:
        cut = _rational(other)
        return self.draw.is_below(cut / self.scale) if self.scale else cut > 0

    def __le__(self, other: object) -> bool:
        cut = _rational(other)
        return self.draw.is_below(cut / self.scale) if self.scale else cut >= 0

    def __gt__(self, other: object) -> bool:
        return not self <= other

    def __ge__(self, other: object) -> bool:
        return not self < other


class SymbolicRandomness:
    """A `Randomness` whose draws are independent for each (stream, position), along one path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draws: dict[tuple[Stream, int, int], Draw] = {}
        self._round = 0
        self._not_by_round: Collection[Stream] = ()

    def of_round(self, number: int, not_by_round: Collection[Stream] = ()) -> "SymbolicRandomness":
        """The draws of a later round: new ones, but for the streams that are not keyed by round."""
        other = SymbolicRandomness(self._path)
        other._draws, other._round, other._not_by_round = self._draws, number, not_by_round
        return other

    def uniform(self, stream: Stream, position: int) -> Any:  # not a float, but used as one
        number = 0 if stream in self._not_by_round else self._round
        return Uniform(self._draws.setdefault((stream, number, position), Draw(self._path)))


def explore(run: Callable[[SymbolicRandomness], T]) -> Iterator[tuple[T, Fraction]]:
    """Every result of `run` with its probability, path by path, depth first.

    `run` must do the same whenever its draws do. The probabilities sum to 1.
    """
    script: list[bool] = []
    while True:
        path = Path(script)
        yield run(SymbolicRandomness(path)), path.probability
        script = path.answers
        while script and not script[-1]:
            script.pop()  # both answers have been given here: back to the fork before
        if not script:
            return
        script[-1] = False


def _rational(value: object) -> Fraction:
    if not isinstance(value, Rational):
        raise TypeError(f"{value!r} is not rational: the result would not be exact")
    return Fraction(value)
