"""Held-out tasks, evaluated offline through lm-eval: per-document samples, scores per task, and paired
comparisons of two runs."""
