"""What a targeted selection knows of its target: where its examples come from, and the stage that embeds
them."""

from smartdpp.query.targets import Development, File

__all__ = ["Development", "File"]
