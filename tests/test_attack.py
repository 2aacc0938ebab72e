"""A few attacks of each kind; ``make attack`` has more of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ATTACK = Path(__file__).parent / "attack.py"


def test_a_few_attacks_lose_nothing() -> None:
    command = [sys.executable, ATTACK, "--count", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tallies = json.loads(done.stdout[done.stdout.index("[") :])
    assert [tally["tried"] for tally in tallies] == [2] * 6
    assert sum(tally["hit"] for tally in tallies) > 0
