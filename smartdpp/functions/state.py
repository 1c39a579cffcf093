"""What greedy asks of a function, of what is kept while it is maximised, and of a window of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from smartdpp.functions.features import Features


class Function(Protocol):
    def __len__(self) -> int: ...
    def state(self, budget: int) -> State:
        """What a greedy run of at most ``budget`` picks keeps."""
        ...

    def identity(self) -> list[Any]:
        """Parameters and arrays that tell this function from another one."""
        ...


class Divisible(Function, Protocol):
    """A function of which shares, some rows of a pool each, are maximised together: see
    smartdpp.greedy.partitions."""

    @property
    def features(self) -> Features: ...
    def subset(self, index: np.ndarray | slice) -> Self:
        """The function of rows ``index`` (int[k], or a slice, which copies nothing) alone, numbered anew."""
        ...

    def union(self, others: Sequence[Self]) -> Self:
        """Its rows, then those of the others in this order. All have the same parameters."""
        ...

    def state(self, budget: int) -> DivisibleState: ...


class Window(Protocol):
    """Some candidates, ``index`` int64[w] ascending, with their exact ``gain`` float64[w], updated by
    ``add``."""

    index: np.ndarray

    @property
    def gain(self) -> np.ndarray: ...
    @property
    def rise(self) -> float:
        """By how much any gain outside may have risen since the window opened."""
        ...

    def resolve(self, at: np.ndarray) -> tuple[np.ndarray, float]:
        """As the state's, for positions ``at`` in the window and after its own picks."""
        ...

    def add(self, at: int) -> None: ...
    def close(self) -> None:
        """Tells the state of the picks, if ``add`` has not."""
        ...


class State(Protocol):
    """What a function keeps of the items chosen so far."""

    rises: bool  # whether a gain can rise when items are added
    chunk: int  # items evaluated at a time when bounds are in the way
    active: int  # how many leaders are tracked between looks at the whole pool
    width: int  # the window's size

    def tolerance(self, j: int, gain: float) -> float:
        """Gains this close to item j's are told apart by ``resolve``, or are a tie."""
        ...

    def gains(self, index: np.ndarray | None = None) -> np.ndarray:
        """float64[k]: the gains of ``index`` (all by default) now; -inf for an item that must never be
        picked."""
        ...

    def doubt(self, index: np.ndarray) -> np.ndarray | float:
        """By how much at most the gains just given for ``index`` may exceed the truth; 0 where they are the
        truth, up to ``tolerance``."""
        ...

    def sharpen(self) -> bool:
        """Leaves no doubt from now on; False where there was none."""
        ...

    def resolve(self, index: np.ndarray) -> tuple[np.ndarray, float]:
        """float64[k] gains as exact as can be, and below which difference two of them are a tie."""
        ...

    def add(self, index: np.ndarray) -> None: ...
    def mark(self) -> Any: ...
    def rise(self, mark: Any) -> float:
        """By how much any gain may have risen since ``mark()``."""
        ...

    def window(self, index: np.ndarray) -> Window: ...


@runtime_checkable
class StateAhead(State, Protocol):
    """A state with a loop of its own for picks that are certain."""

    def ahead(self, bound: np.ndarray, free: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """int64[k] and float64[k]: greedy's next picks from the ``free`` (bool[n]), at most ``most`` and as
        far as no two gains are too close to tell apart, with their gains. The state then holds them, and
        ``bound`` (float64[n], bounds of all gains) is brought up to date where rows were looked at."""
        ...


class DivisibleState(State, Protocol):
    """A state of which few numbers say all about the rows chosen, wherever they lie."""

    common: Any  # what the shares of a pool have in common; it suffices to go on from

    def since(self, count: int) -> Any:
        """``common`` for those who know it as it was after ``count`` picks."""
        ...

    def pooled(self, commons: Sequence[Any]) -> Any:
        """Of the ``common`` of shares that nothing is chosen from: that of the pool."""
        ...


class Exact:
    """Of a state whose gains are the truth up to their rounding: nothing is left to be told apart."""

    rounding: float

    def gains(self, index: np.ndarray | None = None) -> np.ndarray:
        raise NotImplementedError

    def tolerance(self, j: int, gain: float) -> float:
        return self.rounding

    def doubt(self, index: np.ndarray) -> float:
        return 0.0

    def sharpen(self) -> bool:
        return False

    def resolve(self, index: np.ndarray) -> tuple[np.ndarray, float]:
        return self.gains(index), self.rounding


class Falling:
    """Of a state whose gains only fall as items are added."""

    rises = False

    def mark(self) -> Any:
        return None

    def rise(self, mark: Any) -> float:
        return 0.0
