"""The profiles of ``scorefold reproduce``, from the least to the most work, and what each is for."""

from __future__ import annotations

PROFILES = {
    "smoke": "minutes of CPU per plugin (default)",
    "quick": "seconds to an hour and a half",
    "real": "data that you have, under three quarters of an hour",
    "long": "longer runs than quick, with settings of no paper",
    "full": "a paper's own setting",
}
