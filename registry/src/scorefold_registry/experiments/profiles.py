"""The profiles of ``scorefold reproduce``, from the least to the most work, and what each is for."""

from __future__ import annotations

PROFILES = {
    "smoke": "minutes of CPU a plugin (default)",
    "quick": "seconds to an hour and a half",
    "real": "data that you have, under three quarters of an hour",
    "long": "longer runs that are no paper's own",
    "full": "a paper's own setting",
}
