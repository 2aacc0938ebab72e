"""A package with citations: a good one, and one that holds no BibTeX."""

from good_fakes import Tens

__all__ = ["Tens"]
