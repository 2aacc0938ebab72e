"""The claims by name: what ``scorefold reproduce allocation`` measures, and what each is held to."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Claim
from scorefold_allocation.claims.table_formulas import formula_claims
from scorefold_allocation.claims.table_measured import measured_claims
from scorefold_allocation.claims.table_mixtures import mixture_claims


def allocation_claims() -> Iterable[Claim]:
    yield from formula_claims()
    yield from mixture_claims()
    yield from measured_claims()
