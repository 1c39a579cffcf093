"""Embeddings: how an example becomes a vector. One file each; `shards` runs any of them over a corpus,
resumably."""
