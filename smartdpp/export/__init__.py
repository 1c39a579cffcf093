"""A mixture as a folder that trainers load as it is: ``python -m smartdpp.export RUN_OR_MIXTURE --as messages
OUT``."""
