"""The whole contract on one screen: what flows between stages, and what a component must offer.

Components are frozen dataclasses: parameters in, no work in ``__init__``. They satisfy these protocols by
shape; nothing is subclassed or registered. A component's ``check`` returns every problem that can be seen
without doing the work (a missing file, no CUDA device), each as one sentence; an empty list means it may
start. What may be left out stands in smartdpp.config.allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypedDict, TypeVar

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

Row = dict[str, Any]
"""One example: id, task, prompt and response always; dataset, source, license, template, choices, answer and
score may be None.

A conversation has ``messages`` too, and ``tools`` or None (see smartdpp.models.turns): lists, or in a table
JSON. Its prompt is then what the user says, its response what is trained.
"""


@dataclass(frozen=True)
class Asked:
    """What is asked of a mixture beside its number of rows: see smartdpp.strategies.terms. M tasks in the
    pool's order."""

    tokens: int | None = None  # its rows cost at most so many together
    per_token: bool = False  # greedy ranks by gain per token
    weight: np.ndarray | None = None  # float64[M], what the share of a task is multiplied by
    most: np.ndarray | None = None  # int64[M], rows of a task, or tokens where ``tokens`` is given
    repeat: np.ndarray | None = None  # int64[M], how often the rows of a task may be seen


@dataclass(frozen=True)
class Pool:
    """What a strategy may look at. Row i of every array is the same example."""

    ids: np.ndarray  # str[n], distinct, of any width: numpy.dtypes.StringDType
    X: np.ndarray  # float32[n, d], possibly memory-mapped
    task: np.ndarray  # int64[n], an index into names
    names: list[str]  # M task names
    cost: np.ndarray  # int64[n], tokens of prompt and response
    quality: np.ndarray | None = None  # float64[n], > 0
    template: np.ndarray | None = None  # str[n], FLAN's template type ("zs_opt", "fs_noopt", ...)
    score: np.ndarray | None = None  # float64[n], what came with each row; None where a row has none
    # float32[M, p], one a task in the order of names; None: the means of X
    task_vectors: np.ndarray | None = None
    # float32[m, d], examples of the target in X's space, none of which is scored
    query: np.ndarray | None = None
    # int64[m], which target each of them belongs to, an index into query_names; None: all to one
    query_task: np.ndarray | None = None
    query_names: list[str] | None = None  # T names of targets, in the order in which the query has them
    # tables with the columns prompt and response, row i that of ids[i] and of query[i]; for strategies that
    # say text = True alone, None for the others
    text: pa.Table | None = None
    query_text: pa.Table | None = None
    # int64[s], rows of earlier rounds, or of a mixture to add to: they count as chosen, none is chosen again
    start: np.ndarray | None = None
    asked: Asked | None = None
    # float64[n], of rows of earlier rounds how far the trained model's own answers are behind their
    # responses, NaN of the others; for strategies that say answers = True alone
    gap: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Selection:
    """Chosen rows in greedy order: a prefix is the smaller budget's selection, where the method is nested."""

    index: np.ndarray  # int64[k], distinct unless Asked.repeat lets a task's rows be seen several times
    gain: np.ndarray  # float64[k]

    def __len__(self) -> int:
        return len(self.index)


class Question(NamedTuple):
    instruction: str
    answer: str  # the model's
    reference: str


class Verdict(NamedTuple):
    """How much the model's answer is preferred to the reference, in [0, 1], by the place it was shown at.

    A judge without an order gives the same twice. None: its reply named neither answer, or the question is
    longer than it reads.
    """

    first: float | None
    second: float | None
    replies: tuple[str, ...] = ()  # in words, where the judge writes any

    @property
    def preference(self) -> float | None:
        """The mean of both orders; where they disagree a half, since it is the place that was preferred."""
        if self.first is None or self.second is None:
            return None
        return 0.5 if self.disagrees else (self.first + self.second) / 2

    @property
    def disagrees(self) -> bool:
        if self.first is None or self.second is None:
            return False
        return (self.first - 0.5) * (self.second - 0.5) < 0


@dataclass
class Spent:
    """What asking has cost so far."""

    calls: int = 0  # requests to a server, those among them that failed
    kept: int = 0  # replies that were there already
    tokens: int = 0  # read and written


class Corpus(Protocol):
    def check(self) -> list[str]: ...
    def fingerprint(self) -> str:
        """Identifies the content behind the parameters (a file's hash); goes into the corpus artifact's
        key."""
        ...

    def rows(self) -> Iterator[Row]:
        """Streams the examples in a fixed order. Raises InputError naming file and line for a row that cannot
        be read."""
        ...


class Embedding(Protocol):
    def check(self) -> list[str]: ...
    def fingerprint(self) -> str:
        """The content of the files it reads itself (an encoder's), empty where its parameters say it all; see
        smartdpp.store.content."""
        ...

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        """Loads or fits once on all rows; the function it returns maps a shard of m rows to float32[m, d]."""
        ...

    def cut(self, rows: pa.Table) -> tuple[int, int]:
        """How many rows are longer than the encoder reads, and how many of their tokens it leaves out."""
        ...

    def unknown(self, pool: pa.Table, rows: pa.Table) -> list[int]:
        """Which of these rows, of a query, hold no word of the pool's that it is fitted on, and so have no
        place in it; none by default."""
        ...

    def columns(self, n: int) -> int | None:
        """d of n rows; None where it is not known before the work."""
        ...

    @property
    def warmup(self) -> Any:
        """None, or the `smartdpp.embedding.warmup.Warmup` before it: it is then a `WarmedEmbedding`."""
        ...

    def for_query(self) -> Embedding:
        """By which a query's rows are embedded; itself, unless the pool's and the query's side differ."""
        ...

    def memory(self, n: int, d: int, text: float, longest: int, wide: int) -> float | None:
        """Bytes for n rows of so many bytes of text, the longest of so many tokens, ``wide`` bytes a number;
        None: not known."""
        ...


class WarmedEmbedding(Embedding, Protocol):
    """An embedding that reads the checkpoints of a training on a share of the pool: see
    smartdpp.embedding.warmup."""

    @property
    def model(self) -> Model: ...
    def after(self, folder: Path) -> Embedding:
        """The embedding by the checkpoints that the warm-up left in this folder."""
        ...


class Quality(Protocol):
    """A score of each example, whatever the target: what depends on a query is a strategy's. One that reads
    ``passes`` is a `ModelQuality`."""

    @property
    def passes(self) -> tuple[str, ...]:
        """Of smartdpp.signals, whose columns the rows then have; empty for a score that needs no model."""
        ...

    @property
    def text(self) -> bool:
        """False: its rows come without prompt and response, which are then not read into memory."""
        ...

    def check(self) -> list[str]: ...
    def score(self, rows: pa.Table) -> np.ndarray:
        """float64[n], all > 0: higher means better."""
        ...


class ModelQuality(Quality, Protocol):
    """A score by what a model makes of an example: see smartdpp.quality.model."""

    @property
    def model(self) -> Model: ...
    @property
    def batch_tokens(self) -> int:
        """The most tokens that the model reads at a time, padding included."""
        ...

    @property
    def processes(self) -> int: ...


class TaskVector(Protocol):
    """How SMART's first stage sees a task; one that is not made of the embedding is a
    `MeasuredTaskVector`."""

    @property
    def from_embedding(self) -> bool:
        """True: by the mean of its examples' embedding, which needs no stage; measure is then not called."""
        ...

    def check(self) -> list[str]: ...
    def measure(self, rows: pa.Table, out: Path) -> dict[str, Any]:
        """Leaves a vector for every task of the corpus in ``out``, for task_vectors.task2vec.load; returns
        facts for the record."""
        ...


class MeasuredTaskVector(TaskVector, Protocol):
    """A vector of some examples of each task, drawn: see smartdpp.task_vectors.task2vec.drawn."""

    @property
    def examples(self) -> int: ...
    @property
    def seed(self) -> int: ...


class Query(Protocol):
    """Where a targeted selection's examples of its target come from: see smartdpp.query."""

    def check(self) -> list[str]: ...
    def fingerprint(self) -> str: ...
    def rows(self, evaluation: Evaluation, heldout: pa.Table) -> list[Row]:
        """The query, none of which may be scored. InputError if that cannot be had."""
        ...


class Strategy(Protocol):
    nested: ClassVar[bool]  # a smaller budget's selection is a prefix of a larger one's; False by default

    @property
    def honours(self) -> tuple[str, ...]:
        """What select sees to itself, of ``tokens``, ``per_token``, ``weights``, ``max_share``, ``repeat``,
        ``start`` and ``outside`` (of a start, rows that are not in the pool); () by default. Of a nested
        strategy's order tokens and max_share are seen to for it."""
        ...

    @property
    def named(self) -> tuple[str, ...]:
        """Tasks that it names, which the pool must have; () by default."""
        ...

    @property
    def rounds(self) -> int:
        """In how many it chooses, between which the model trains; 1, unless it says more."""
        ...

    @property
    def renew(self) -> bool:
        """Whether the pool is embedded anew for every round, by the model as trained so far."""
        ...

    @property
    def answers(self) -> bool:
        """Whether the model as trained so far answers, between rounds, the prompts that it was trained on."""
        ...

    @property
    def query(self) -> Query | None:
        """What is chosen towards; None where there is no target."""
        ...

    @property
    def text(self) -> bool:
        """True: it reads prompts and responses, the pool's and the query's, which are then in memory."""
        ...

    def check(self) -> list[str]: ...
    def misfits(self, embedding: Embedding, budget: int, *, trained: bool) -> list[str]:
        """What is wrong beside other components. ``trained``: whether the embedding's model is the one that
        is finetuned."""
        ...

    def memory(self, n: int, d: int, budget: int, largest: int) -> float | None:
        """Bytes of a selection from n rows of d numbers, the largest task of so many; None where it only
        reads the features."""
        ...

    def size(self, n: int, budget: int) -> int:
        """How many of n rows a selection under this budget holds: ``budget``, except for `full` (n) and
        `none` (0)."""
        ...

    def select(self, pool: Pool, budget: int, rng: np.random.Generator) -> Selection: ...


class Model(Protocol):
    """A causal language model and its tokenizer. ``format`` says how a row becomes text: see
    smartdpp.models.tokens."""

    name: str
    format: str

    def check(self) -> list[str]: ...
    def fingerprint(self) -> str:
        """The content of its files, or its commit on the hub; empty where its parameters say it all."""
        ...

    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    def load(self, **kwargs: Any) -> PreTrainedModel:
        """Keyword arguments (dtype, quantization_config, ...) go to ``from_pretrained``."""
        ...


class TrainingFacts(TypedDict):
    """What is recorded of a training: of all of it, where it went on from an earlier one."""

    method: str
    rows: int
    steps: int
    tokens: int  # of the rows, each once
    response_tokens: int
    trainable_parameters: int
    train_loss: float  # the mean over its steps
    dtype: str
    device: str
    processes: int
    seed: int


Keep = int | Literal["epoch"] | None
"""Of which steps of a training a checkpoint is kept: of every so many, of each epoch's last, or of none."""


class Recipe(Protocol):
    @property
    def processes(self) -> int:
        """That train together, each on a GPU of its own where there are any."""
        ...

    @property
    def parallel(self) -> str:
        """``ddp``: each holds the whole model; ``fsdp``: a part of it, which its own check sees to."""
        ...

    def check(self) -> list[str]: ...
    def memory(self, sizes: Any, longest: int, wide: int) -> float | None:
        """Bytes of one process, of a model's ``sizes`` (its anatomy), the tokens of the longest row, and the
        bytes of a number."""
        ...

    def train(
        self,
        model: Model,
        rows: pa.Table,
        out: Path,
        seed: int,
        start: Path | None = None,
        keep: Keep = None,
    ) -> TrainingFacts:
        """Trains on exactly these rows, leaves the weights in ``out`` and returns facts for the run's record.

        ``start`` holds the weights that an earlier training left, to go on from; ``keep`` leaves checkpoints
        for smartdpp.models.checkpoints to read.
        """
        ...

    def kept(self, rows: int, keep: Keep) -> list[int]:
        """After which steps of a training on so many rows a checkpoint is kept."""
        ...


class Asking(Protocol):
    """A judge with its model loaded or its server at hand, and what it has cost since then."""

    @property
    def spent(self) -> Spent: ...
    def __call__(self, questions: Sequence[Question]) -> list[Verdict]: ...


class Judge(Protocol):
    """Says which of two answers to an instruction is better: see smartdpp.judge. Its messages call it
    evaluation.judge."""

    def check(self) -> list[str]: ...
    def fingerprint(self) -> str:
        """The content of the files that it reads itself, its template's among them."""
        ...

    def refusals(self, questions: int) -> list[str]:
        """Why it would not be done with so many questions, each as one sentence."""
        ...

    def stated(self, questions: int, characters: int) -> str:
        """What so many questions, of so many characters of instructions and answers, will cost at most."""
        ...

    def prepare(self) -> Asking: ...


class Evaluation(Protocol):
    from_corpus: ClassVar[bool]  # whether its documents are the corpus's held-out rows
    # whether evaluate takes ``base`` too: the folder that it left for the base model; None for that model
    reads_base: ClassVar[bool]

    def check(self) -> list[str]: ...
    def check_documents(self, heldout: pa.Table | None, model: Model | None) -> list[str]:
        """Every problem that the documents tell without a model's weights, each as one sentence.

        ``heldout`` is None where the corpus has not been made yet: nothing that takes a tokenizer is looked
        at then. ``model`` is None where it is not on this machine: the plan may be one for another, so
        nothing that is on the hub has to be here.
        """
        ...

    def fingerprint(self) -> str: ...
    def split(self) -> dict[str, Any]:
        """The parameters that decide what is held out; with the fingerprint they go into the corpus
        artifact's key, the rest does not."""
        ...

    def heldout(self, tasks: list[str]) -> list[str]:
        """Which of the corpus's tasks are evaluated on, and so leave the pool. InputError if one is not in
        the corpus."""
        ...

    def aside(self, rows: Iterator[Row]) -> dict[str, list[str]]:
        """By task that stays in the pool, the ids of those of its ``rows`` that are held out; none of a task
        with too few; {} by default.

        ``rows`` are those that passed the filters. The near copies of what is held out leave the pool.
        """
        ...

    def unscored(self, heldout: pa.Table) -> dict[str, list[Row]]:
        """By held-out task, rows that ``evaluate`` does not score and that share no prompt with one it does;
        {} where it has none."""
        ...

    def documents(self) -> Iterator[Row]:
        """Evaluation rows that do not come from the corpus (a file's), for the overlap list; none by
        default."""
        ...

    def stated(self, heldout: pa.Table | None, of_base: bool) -> str:
        """What evaluating one model, the base model or a finetuned one, costs beside this machine's own work,
        in words for the plan; "" by default."""
        ...

    def evaluate(self, model: Model, adapter: Path | None, heldout: pa.Table, out: Path) -> None:
        """Writes ``scores.json`` and ``samples.jsonl`` into ``out``. ``adapter`` None means the base
        model."""
        ...


class Measure(Protocol):
    def check(self) -> list[str]: ...
    def measure(
        self, X: np.ndarray, pool: np.ndarray | None = None, task: np.ndarray | None = None
    ) -> dict[str, Any]:
        """X float32[n, d] in the probe embedding, in selection order, with the pool (m, d) it was chosen from
        and each row's task (n).

        Returns named numbers and curves.
        """
        ...


class Ask(Protocol[S_co]):
    """Puts a question to some of the shares (all by default) at the same time; answers come in the order of
    the shares."""

    def __call__(self, question: Callable[[S_co], T], which: Sequence[int] | None = None) -> list[T]: ...


class Runtime(Protocol):
    @property
    def rows_per_task(self) -> int | None:
        """How many rows another process embeds or measures at a time; None: all of them are done in this
        one."""
        ...

    def check(self) -> list[str]: ...
    def map(
        self,
        work: Callable[..., T],
        arguments: Callable[[int], tuple[Any, ...]],
        sizes: Sequence[int],
        what: str,
    ) -> list[T]:
        """``work(*arguments(i))`` for every i, in order: independent pieces of these ``sizes`` (rows), the
        largest begun first.

        An InputError of one of them is raised here. ``what`` names the work beside the progress bar.
        """
        ...

    def parts(self, n: int) -> int:
        """Into how many shares a pool of n rows is best cut to choose from; 1: it stays in one piece, in this
        process."""
        ...

    def shares(self, makes: Sequence[Callable[[], S]]) -> AbstractContextManager[Ask[S]]:
        """What these make, shares of a pool, is kept where it was made and asked there."""
        ...


class Tracker(Protocol):
    def check(self) -> list[str]: ...
    def place(self) -> dict[str, Any] | None:
        """Where runs are mirrored to, named for people in the order of the values; a run is mirrored once to
        each. None: nowhere."""
        ...

    def log(self, run: Path) -> bool:
        """Mirrors a finished run's directory; returns whether it is there now. Local files are the truth: a
        failure loses nothing."""
        ...
