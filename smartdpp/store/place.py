"""Where it runs: which folders this package and the libraries under it may write into, also in a container
without a home.

Libraries keep caches and settings in the home folder, in the system's temporary folder or beside their own
files, and end in a traceback where that cannot be written. So where ``SMARTDPP_CACHE`` is set, or the home
cannot be written, theirs go below our cache folder. A variable of theirs that is set is left as it is, and so
is a folder that a person already has at a library's own place and may write (downloaded models, wandb's
settings), so that nothing is fetched twice. ``import smartdpp`` does this, before any of them is imported:
the engine used alone and launched processes need it as much as the command line.
"""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from pathlib import Path

from smartdpp.errors import InputError

LAUNCHED_BY = "SMARTDPP_LAUNCHED_BY"  # set in a process that another one of ours launched: its id
# variable: its folder below the cache, and where the library keeps it otherwise, if that may hold something
# worth keeping
CACHES = {
    "NUMBA_CACHE_DIR": ("numba", None),
    "MPLCONFIGDIR": ("matplotlib", None),
    "WANDB_CACHE_DIR": ("wandb/cache", None),
    "WANDB_DATA_DIR": ("wandb/data", None),
    "WANDB_CONFIG_DIR": ("wandb/config", "~/.config/wandb"),
    "HF_HOME": ("huggingface", "~/.cache/huggingface"),
    "TORCH_HOME": ("torch", "~/.cache/torch"),
    "TORCHINDUCTOR_CACHE_DIR": ("torchinductor", None),
    "TRITON_CACHE_DIR": ("triton", None),
}
# for all others, without a home
XDG = {"XDG_CACHE_HOME": "xdg/cache", "XDG_CONFIG_HOME": "xdg/config", "XDG_DATA_HOME": "xdg/data"}


def settle() -> None:
    """Points the libraries' variables to folders that can be written, where their own cannot. Makes no folder
    of theirs."""
    home, named = _home(), os.environ.get("SMARTDPP_CACHE")
    usable = home is not None and writable(home)
    if (named or not usable) and (below := _writable_cache(home)) is not None:
        _caches(below, home)
        if not usable:
            for variable, value in {
                "SMARTDPP_CACHE": below,
                **{name: below / folder for name, folder in XDG.items()},
            }.items():
                os.environ.setdefault(variable, str(value))
            if home is None:
                os.environ["HOME"] = str(below)
    _temporary(home)
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a user whom the system has no name for, as containers have
        os.environ["LOGNAME"] = f"uid{os.getuid()}"


def machine_folder(what: str) -> Path:
    """Where this user's processes on this machine meet, whatever their roots: for locks on GPUs and cores."""
    folder = Path(tempfile.gettempdir()) / f"smartdpp-{what}-{getpass.getuser()}"
    folder.mkdir(exist_ok=True)
    return folder


def cache_dir() -> Path:
    """``$SMARTDPP_CACHE``, else the user's cache folder, else one in the temporary folder. InputError where
    there is none."""
    if named := os.environ.get("SMARTDPP_CACHE"):
        return Path(named).expanduser()
    home = _home()
    if home is not None and writable(own := _of_user(home)):
        return own
    if (found := _in_temporary()) is None:
        raise InputError(
            "no folder can be written for models and caches, neither in the home nor a temporary one: set "
            "SMARTDPP_CACHE=FOLDER"
        )
    return found


def problems() -> list[str]:
    """What is wrong with $SMARTDPP_CACHE. One that can be read and not written may hold all that is
    needed."""
    named = os.environ.get("SMARTDPP_CACHE")
    if not named or (folder := cache_dir()).is_dir():
        return []
    if folder.is_symlink() or folder.exists():
        kind = f"a link to {os.readlink(folder)}, which is not there" if folder.is_symlink() else "no folder"
        return [f"SMARTDPP_CACHE={named}: this is {kind}; name a folder"]
    return (
        []
        if writable(folder)
        else [f"SMARTDPP_CACHE={named}: this folder is not there and cannot be made; name another"]
    )


def writable(folder: Path) -> bool:
    """Whether files can be made in this folder, or it in the nearest one above that exists."""
    try:
        for path in (folder, *folder.parents):
            if path.is_symlink() and not path.exists():
                return False
            if path.exists():
                return path.is_dir() and os.access(path, os.W_OK | os.X_OK)
    except OSError:
        pass
    return False


def _home() -> Path | None:
    """The home folder; None where neither $HOME nor the system knows one."""
    home = os.path.expanduser("~")
    return Path(home) if os.path.isabs(home) else None


def _of_user(home: Path) -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("smartdpp"))


def _writable_cache(home: Path | None) -> Path | None:
    """Where libraries' folders go: our cache, unless it is one that can only be read, as one that an image
    brings."""
    try:
        if writable(own := cache_dir().absolute()):
            return own
    except InputError:
        return None
    if home is not None and writable(own := _of_user(home)):
        return own
    return _in_temporary()


def _in_temporary() -> Path | None:
    """This user's folder in the temporary folder; None where there is none, or another user has made it first
    (caches hold code)."""
    try:
        folder = Path(_usable_temporary()) / f"smartdpp-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    ours = (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
    return folder if ours else None


def _caches(below: Path, home: Path | None) -> None:
    for variable, (name, usual) in CACHES.items():
        if variable in os.environ:
            continue
        if usual is not None and home is not None:
            there = _usual(usual)
            if there.is_dir() and writable(there):
                continue
            if variable == "HF_HOME" and os.access(there / "token", os.R_OK):
                os.environ.setdefault("HF_TOKEN_PATH", str(there / "token"))
            if (
                variable == "HF_HOME"
                and os.environ.get("HF_HUB_OFFLINE")
                and os.access(there / "hub", os.R_OK | os.X_OK)
            ):
                os.environ.setdefault("HF_HUB_CACHE", str(there / "hub"))  # nothing will be written there
        os.environ[variable] = str(below / name)


def _usual(folder: str) -> Path:
    """``~/.cache/x`` or ``~/.config/x``, as $XDG_CACHE_HOME or $XDG_CONFIG_HOME have it."""
    _, kind, name = folder.split("/")
    base = os.environ.get({".cache": "XDG_CACHE_HOME", ".config": "XDG_CONFIG_HOME"}[kind])
    return (Path(base) if base else Path("~", kind).expanduser()) / name


def _usable_temporary() -> str:
    """Python's temporary folder, but never the folder that the command was given in. OSError where there is
    none."""
    for folder in (
        os.environ.get("TMPDIR"),
        os.environ.get("TEMP"),
        os.environ.get("TMP"),
        "/tmp",
        "/var/tmp",
        "/usr/tmp",
    ):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    raise FileNotFoundError("no temporary folder can be written")


def _temporary(home: Path | None) -> None:
    """$TMPDIR names a folder that is there: programs that are not Python take it by its word."""
    named = os.environ.get("TMPDIR")
    try:
        found = _usable_temporary()
    except OSError:
        if (below := _writable_cache(home)) is None:
            return
        found = str(below / "tmp")
        try:
            os.makedirs(found, exist_ok=True)
        except OSError:
            return
        named = "none that can be written"
    if named and named != found:
        os.environ["TMPDIR"] = found
        tempfile.tempdir = None  # it is asked for again
