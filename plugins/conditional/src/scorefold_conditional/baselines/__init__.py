"""Inverse problems by an unconditional score prior that never saw the operator: DPS, PiGDM and RePaint."""
