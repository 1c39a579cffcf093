"""How far a trained model's own answers are behind those it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.evaluation.generation import Sampling, generated
from smartdpp.models import Finetuned
from smartdpp.models.batches import TEXT
from smartdpp.models.turns import alike, is_trained, last_only, messages_of, prompt_and_response
from smartdpp.signals.stage import Signals

if TYPE_CHECKING:
    import pyarrow as pa

    from smartdpp.types import Model, ModelQuality, Row

BATCH, BATCH_TOKENS = 16, 4096
FILE = "gap.npy"


def measure(
    model: Model, adapter: Path, rows: pa.Table, max_new_tokens: int, reward: ModelQuality | None, out: Path
) -> dict[str, Any]:
    """Writes ``gap.npy`` float64[n]: of each row the score of its response less that of the answer that the
    model finetuned into ``adapter`` writes to its prompt, the likeliest token each time; NaN where it writes
    nothing. The score is ``reward``'s, or where that is None the model's own mean nats per token: the gap is
    then log PPL(response) - log PPL(answer). Of a conversation the last trained turn is answered, after those
    before it as they were. Returns facts."""
    import pyarrow as pa

    how = Sampling(max_new_tokens, None, 0.0, 0)
    asked = rows.select([name for name in ("task", *TEXT) if name in rows.column_names]).to_pylist()
    answers = generated(model, adapter, asked, out / "generations.jsonl", how, BATCH)
    said = np.array([bool(one.answer.strip()) for one in answers])
    gap = np.full(len(rows), np.nan)
    if said.any():
        pairs = [(row, one.answer) for row, one in zip(asked, answers, strict=True) if one.answer.strip()]
        given = pa.Table.from_pylist(alike([_answered(row, None) for row, _ in pairs]))
        own = pa.Table.from_pylist(alike([_answered(row, answer) for row, answer in pairs]))
        tuned: Any = Finetuned(model, str(adapter.absolute()))
        score = (
            Signals("reward", reward.model, reward.batch_tokens)
            if reward
            else Signals("response", tuned, BATCH_TOKENS)
        )
        gap[said] = (score.prepare(given)(given) - score.prepare(own)(own))[:, 0]
    np.save(out / FILE, gap, allow_pickle=False)
    return {
        "n": len(rows),
        "silent": int((~said).sum()),
        "tokens": sum(one.tokens for one in answers),
        "mean_gap": float(gap[said].mean()) if said.any() else None,
    }


def _answered(row: Row, answer: str | None) -> Row:
    """The row with this ``answer``, or its own for None. Of a conversation all up to its last trained turn,
    which alone is scored."""
    messages = messages_of(row)
    if messages is None:
        return row if answer is None else row | {"response": answer}
    last = max(i for i, message in enumerate(messages) if is_trained(message))
    turn = messages[last] if answer is None else {"role": "assistant", "content": answer}
    whole = [*messages[:last], turn]
    prompt, response = prompt_and_response(whole)
    return row | {"prompt": prompt, "response": response, "messages": last_only(whole)}


def describe(facts: dict[str, Any]) -> str:
    """What the stage did, in one line."""
    mean = "none" if facts["mean_gap"] is None else f"{facts['mean_gap']:.4g}"
    return f"{facts['n']} prompts answered, {facts['silent']} of them by nothing; mean gap {mean}"
