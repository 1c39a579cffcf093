"""The configuration: its schema, how it is composed, what in it makes a run's name, and the check of it
before any work."""
