"""The package as a library: ``smartdpp.select``, ``smartdpp.measure`` and ``smartdpp.compare`` on data at
hand.

The components of a run, by the same names, without its folders: nothing is held out, trained or scored.
"""
