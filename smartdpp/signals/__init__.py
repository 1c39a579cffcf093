"""What a language model makes of each example of the corpus, in passes that every score reading them shares.

response   forward over prompt and response: ``nll`` and ``el2n``, means over the response's tokens
alone      forward over the response with an empty prompt: ``nll_alone``
gradient   forward and backward over prompt and response: ``gradient_norm``
rated      forward over questions about prompt and response: ``rating``, ``own_rating``, ``own_rating_sd``
reward     forward of a reward model over prompt and response: ``reward``

A pass is an artifact of its own, keyed by the model and the corpus, so `quality=perplexity` leaves what
`quality=el2n` needs.
"""
