"""What a run makes and keeps: artifacts, finished or redone, on this disk or at an address; locks, records,
and where caches lie."""
