"""Where examples come from, and how they become the pool that every strategy looks at.

One loader a file (`procedural`, `jsonl`, `hub`, `flan2022`); `build` filters, splits off the held-out tasks
and writes the artifact.
"""
