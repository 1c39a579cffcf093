"""What the cells of a sweep have in common is composed once.

Hydra composes every cell from its files anew: it reads some twenty of them, finds out which stand in which
order, and merges them, before it applies the overrides that tell this cell from the next. All but the last
follows from the options that are chosen. So what Hydra makes of these is kept, by the loader that made it,
and each cell gets a copy, to which Hydra applies its overrides. The cells of a sweep are those of the files
as they were when it began.
"""

from __future__ import annotations

import copy
import os
from collections import defaultdict
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

# a loader's own: compositions by their choices, overrides as they are parsed
_kept: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()
_files: dict[tuple[str, int, int, int], Any] = {}  # real path, times, size and inode: what Hydra read there


def compose_once() -> None:
    """From here on, in this process. Idempotent."""
    from hydra.core.plugins import Plugins

    Plugins.instance()  # loads their modules, again where they were: what is changed there must come after
    from hydra._internal import config_loader_impl as hydras
    from hydra._internal.config_repository import CachingConfigRepository
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra._internal.defaults_list import Overrides
    from hydra.core.override_parser.overrides_parser import OverridesParser

    loader: Any = hydras.ConfigLoaderImpl
    read, order = FileConfigSource.load_config, hydras.create_defaults_list
    look, merge = loader._parse_overrides_and_create_caching_repo, loader._compose_config_from_defaults_list
    if hasattr(read, "__wrapped__"):
        return

    def read_once(self: Any, config_path: str) -> Any:
        """A file as Hydra reads it: again once it has changed."""
        path = os.path.realpath(os.path.join(self.path, self._normalize_file_name(config_path)))
        try:
            found = os.stat(path)
        except OSError:
            return read(self, config_path)  # which says so
        stamp = (path, found.st_mtime_ns, found.st_size, found.st_ino)
        if stamp not in _files:
            _files[stamp] = read(self, config_path)
        kept = _files[stamp]
        return replace(
            kept,
            config=copied(kept.config),
            header=dict(kept.header),
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
        )

    def look_once(self: Any, config_name: str | None, overrides: list[str]) -> Any:
        """The overrides as Hydra parses them, and where their files lie, which the search path decides."""
        kept = _kept.setdefault(self, {})
        where = (config_name, *(line for line in overrides if "hydra.searchpath" in line))
        if where not in kept:
            _, kept[where] = look(self, config_name, overrides)
            kept[where].kept = kept
        new = [line for line in overrides if line not in kept]
        kept.update(zip(new, OverridesParser.create().parse_overrides(new), strict=True))
        return [kept[line] for line in overrides], kept[where]

    def order_once(repo: Any, config_name: str | None, overrides_list: list[Any], **how: bool) -> Any:
        """Which files in which order: of equal choices the same, whatever else is overridden."""
        asked = Overrides(repo, overrides_list)
        sources = [(source.provider, source.path) for source in repo.get_sources()]
        choices = [asked.override_choices, asked.append_group_defaults, asked.deletions]
        which = repr((config_name, how, sources, choices))
        if which not in repo.kept:
            own = CachingConfigRepository(repo.delegate)  # composing changes what it holds
            made = order(own, config_name, overrides_list, **how)
            repo.kept[which] = replace(made, config_overrides=[])
            repo.kept[id(made.defaults)] = own
        return replace(repo.kept[which], config_overrides=asked.config_overrides)

    def merge_once(self: Any, defaults: list[Any], repo: Any) -> Any:
        if isinstance(found := repo.kept[id(defaults)], CachingConfigRepository):
            found = repo.kept[id(defaults)] = merge(self, defaults, found)
        return copied(found)

    for owner, ours, theirs in (
        (FileConfigSource, read_once, read),
        (loader, look_once, look),
        (hydras, order_once, order),
        (loader, merge_once, merge),
    ):
        vars(ours)["__wrapped__"] = theirs
        setattr(owner, theirs.__name__, ours)


def copied(node: Any, parent: Any = None) -> Any:
    """A configuration's deep copy. ``copy.deepcopy`` gives the same, and takes most of the time of a plan
    with it."""
    content = node.__dict__.get("_content")
    if not (content is None or isinstance(content, (dict, list, str))):
        made = copy.deepcopy(node)  # a union's node, and what may come
        made.__dict__["_parent"] = parent
        return made
    made, described = object.__new__(type(node)), object.__new__(type(node._metadata))
    known = node._metadata.__dict__
    cache = copy.deepcopy(known["resolver_cache"]) if known["resolver_cache"] else defaultdict(dict)
    described.__dict__.update(known, flags=known["flags"] and dict(known["flags"]), resolver_cache=cache)
    made.__dict__.update(node.__dict__, _metadata=described, _parent=parent, _flags_cache=None)
    if isinstance(content, dict):
        made.__dict__["_content"] = {key: copied(value, made) for key, value in content.items()}
    elif isinstance(content, list):
        made.__dict__["_content"] = [copied(value, made) for value in content]
    return made
