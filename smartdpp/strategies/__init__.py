"""Which examples to train on: every strategy takes the same pool and budget and returns distinct rows with
their gains."""
