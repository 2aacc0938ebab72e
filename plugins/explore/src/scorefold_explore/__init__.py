"""The page to explore what was learned: data as a map, and what lies between, behind and around its points."""

__version__ = "0.1.0"
