"""One stage while it is computed: its inputs, the component that its verb acts on, and what the verb costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scorefold.interfaces import Flow, ScoreModel, evaluations
from scorefold.stage import Outcome, StageContext, showing
from scorefold_registry.components.building import Memory
from scorefold_registry.components.saving import port_objects
from scorefold_registry.plugins.process_guard import guarded
from scorefold_registry.run.stage_builder import StageBuilder, perform
from scorefold_registry.run.stage_values import StageValues
from scorefold_registry.runfile.plan import PlannedStage


@dataclass
class StageWork:
    """A stage while it is computed.

    ``component`` is what the verb acts on: the source of a data stage is built before, the components of others by
    ``compute``. ``given`` has the values of earlier stages that were read, ``changed`` what the code changed in this
    process, and ``calls`` the evaluations of score models and flows.
    """

    builder: StageBuilder
    values: StageValues
    planned: PlannedStage
    context: StageContext
    component: Any = None
    given: dict[str, list[Any]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    calls: int | None = None

    def value(self, name: str) -> Any:
        """The value of an earlier stage, as an object of this stage's own."""
        found = self.values.value(name)
        self.given.setdefault(name, []).append(found)
        return found

    def compute(self) -> Outcome:
        """Create the component, fill the verb's inputs and call the verb, in this process."""
        with guarded() as self.changed:
            return self._compute()

    def _compute(self) -> Outcome:
        planned = self.planned
        if self.component is None:
            self.component = self.builder.component(planned, self.value, self.values.component)
        inputs = self.builder.inputs(planned, self.component, self.value)
        with showing(self.context.progress):
            if planned.verb.gives == planned.registered.component.kind:
                # It makes or trains the component: what it costs is steps, and not evaluations.
                return perform(planned, self.component, inputs, self.context)
            models = models_of(self.builder.host.builder.memory, self.component, *inputs.values())
            with evaluations(models) as tally:
                outcome = perform(planned, self.component, inputs, self.context)
        self.calls = tally.points
        return outcome

    def owners(self) -> str:
        """The plugins whose code ran, for messages: the component's, and those of what is plugged into it."""
        builder, own = self.builder.host.builder, self.planned.registered.plugin
        made = [builder.memory.of(part) for part in port_objects(builder, self.component)]
        others = sorted({each.registered.plugin for each in made if each is not None} - {own})
        inside = f" or of what is plugged into it ({', '.join(others)})" if others else ""
        return f"the code of plugin {own!r}{inside}"


def models_of(memory: Memory, *objects: Any) -> list[Any]:
    """The score models and flows among objects and what they were plugged to, at any depth."""
    found: dict[int, Any] = {}
    waiting = list(objects)
    while waiting:
        item = waiting.pop()
        if isinstance(item, (list, tuple)):
            waiting += item
        elif id(item) not in found:
            found[id(item)] = item
            made = memory.of(item)
            waiting += [] if made is None else made.ports.values()
    return [item for item in found.values() if isinstance(item, (ScoreModel, Flow))]
