"""Fakes whose declaration is broken."""

from __future__ import annotations

import time
from typing import Any

from broken_fakes import breaks
from good_declarations import DATA
from good_fakes import Tens, Toy

figure = "no function"


def slow_start(self: Any, config: Any) -> None:
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass


breaks("declared-examples", Tens, {"examples": ()})
breaks("constructor", Tens, __init__=lambda self, settings: None)
breaks("constructor", Tens, {"requires": (DATA,)})
breaks("constructor", Tens, __init__=lambda self, config, *, data: None)
breaks("config-strict", Tens, {"config": "light_config:LooseModel"})
breaks("config-strict", Tens, {"config": "light_config:OpenConfig"})
breaks("config-strict", Tens, {"config": "light_config:ForgetfulConfig"})
breaks("provides", Tens, {"target": "good_fakes:Toy"})
breaks("provides", Tens, {"provides": ("Potential",)})
breaks("builds-in-time", Tens, __init__=slow_start)
breaks("figures-resolve", Tens, {"figures": "broken_declarations:figure"})
breaks("documented", Tens, {"summary": "two\nlines"})
breaks("documented", Tens, __doc__=None)
breaks("documented", Tens, {"config": "light_config:UndescribedConfig"})
breaks("cited", Tens, {"target": "cited_fakes:Tens", "cite": "none.bib"})
breaks("cited", Tens, {"target": "cited_fakes:Tens", "cite": "empty.bib"})
breaks("lazy-declaration", Tens, plugin="heavy_plugin")
breaks("lazy-config", Tens, {"config": "heavy_config:HeavyConfig"})
breaks("lazy-config", Tens, {"config": "light_config:TorchConfig"})
breaks("lazy-config", Tens, {"config": "moody_config:MoodyConfig"})

# Too little to be held to: no example of it says anything about its kind.
breaks("floor", Toy, {"provides": (), "examples": ()})
