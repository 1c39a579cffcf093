"""What the terminal and the log files show: no secret, nothing that a terminal obeys, and no end of a run
where nobody reads."""
