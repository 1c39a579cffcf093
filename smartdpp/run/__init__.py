"""A run: its cell, its stages, and all that is done and said of them."""
