"""A study: its cells, their results in one table, what was swept, and correlations over them."""
