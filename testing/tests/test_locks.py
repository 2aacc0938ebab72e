"""The locks that a saved state may hold, of components in environments of their own."""

from __future__ import annotations

from pathlib import Path

from scorefold_testing.artefact import _is_lock


def test_a_lock_stands_next_to_the_manifest_of_an_isolated_component(tmp_path: Path) -> None:
    isolated, plain, bare = (tmp_path / name for name in ("isolated", "plain", "bare"))
    for folder in (isolated, plain, bare):
        folder.mkdir()
        (folder / "lock.txt").touch()
    (isolated / "manifest.json").write_text('{"environment": {"lock": "sha256:00"}}')
    (isolated / "other.txt").touch()
    (plain / "manifest.json").write_text("{}")
    assert _is_lock(isolated / "lock.txt")
    for file in (isolated / "other.txt", plain / "lock.txt", bare / "lock.txt"):
        assert not _is_lock(file)
