"""Public repositories in small, for the tests of what reads their clones."""

from __future__ import annotations

import subprocess
from pathlib import Path


def committed(work: Path, clone: Path) -> str:
    """Commits all files of `work`, clones it bare to `clone` and says which commit that is."""
    git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "all"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(clone)], check=True)
    return commit.stdout.strip()
