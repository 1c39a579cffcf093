"""Would selection pay here? A small paired experiment on a pool and rows of the target says so."""
