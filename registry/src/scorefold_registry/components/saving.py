"""Saved states: a component's own parameters, with its ports as references or copies, rebuilt without the data."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from scorefold.artefacts import (
    MANIFEST_FILE,
    STATE_FILE,
    digest_file,
    digest_folder,
    load_arrays,
    load_state,
    new_folder,
    save_state,
    write_text,
)
from scorefold.data import DataSpec, TensorSpec
from scorefold.errors import ArtefactError, ConfigError, PluginError, ScorefoldError, ShapeError
from scorefold.interfaces import DataSource
from scorefold.plugin import Port
from scorefold.stage import Executor
from scorefold_registry.components.building import Builder, Made, Placement
from scorefold_registry.components.manifest import (
    FORMAT,
    LOCK_FILE,
    Manifest,
    PortContent,
    check_manifest,
    has_state,
    installed_component,
    other_revision,
    place_inside,
    referenced_folder,
    state_folder,
)
from scorefold_registry.components.stage_files import PORTS
from scorefold_registry.components.values import check_units, load_value, save_value
from scorefold_registry.plugins.loading import describe, load_target
from scorefold_registry.plugins.names import with_article
from scorefold_registry.plugins.records import Registered

LARGEST_EVENT = 2**26
"""Numbers in one event: with more, no model could be built that its state belongs to."""
FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}

_SPEC = TypeAdapter(DataSpec)


def save(builder: Builder, obj: Any, path: Path, bundle: bool, half: bool = False) -> None:
    """Writes an object's state to a folder; see ``Host.save``."""
    path = Path(os.path.abspath(path))
    _Writer(builder, path, bundle, half).write(obj)


class _Writer:
    """One save: where it ends up, and the copies of ports it holds so far."""

    def __init__(self, builder: Builder, path: Path, bundle: bool, half: bool) -> None:
        self.builder = builder
        self.path = path
        self.bundle = bundle
        self.half = half
        self.copies: dict[int, Path] = {}

    def write(self, obj: Any) -> None:
        made = self.made(obj, "it")
        with nullcontext(self.path) if self.path.exists() else new_folder(self.path) as folder:
            self.write_into(folder, folder, obj, made)
        made.saved = self.path

    def write_into(self, root: Path, folder: Path, obj: Any, made: Made) -> None:
        """One object's state in a folder inside ``root``, which is to become ``self.path``."""
        ports: dict[str, Any] = {}
        for port in made.registered.component.requires:
            value = made.ports.get(port.name)
            if isinstance(value, list):
                ports[port.name] = [
                    self.entry(root, folder, made, port, item, f"{port.name}-{index}")
                    for index, item in enumerate(value)
                ]
            elif value is not None:
                ports[port.name] = self.entry(root, folder, made, port, value, port.name)
        component = made.registered.component
        manifest = {
            "format": FORMAT,
            "component": component.versioned_id,
            "distribution": made.registered.distribution,
            "version": made.registered.version,
            "config": made.part.config_json(self.builder.catalogue, self.built_config, whole=True),
            "ports": ports,
            "seed": made.place.seed,
            "dtype": None if made.place.dtype is None else _word(made.place.dtype),
            "fingerprint": obj.fingerprint() if isinstance(obj, DataSource) else None,
        }
        if (environment := made.registered.record.environment) is not None:
            manifest["environment"] = {"lock": environment.lock_digest}
            write_text(folder / LOCK_FILE, environment.lock)
        tensors = own_tensors(self.builder, obj)
        halved = _halved(obj, tensors) if self.half else {}
        save_state(folder, {**tensors, **halved}, {**manifest, "half": True} if halved else manifest)

    def entry(self, root: Path, folder: Path, made: Made, port: Port, value: Any, name: str) -> dict[str, Any]:
        """Entry of a manifest for the component at a port."""
        if isinstance(value, DataSpec) or (isinstance(value, DataSource) and not port.whole):
            spec = value if isinstance(value, DataSpec) else value.spec()
            return {"spec": _SPEC.dump_python(spec, mode="json")}
        what = f"port {port.name!r} of {made.registered.id}"
        if isinstance(value, DataSource) and self.builder.memory.of(value) is None:
            # Points in memory, such as an earlier stage's samples: there is nothing to rebuild them from.
            held = folder / PORTS / name
            held.mkdir(parents=True, exist_ok=True)
            save_value(value, None, held)
            return {"value": relative(held, folder), "digest": digest_folder(held)}
        other = self.made(value, f"what {what} is plugged to")
        saved = other.saved
        inside = self.copies.get(id(value))
        if inside is None and saved is not None and not self.bundle and has_state(saved):
            state = state_folder(saved)
            who = f"{other.registered.id} ({other.registered.record.label}) at {what} ({made.registered.record.label})"
            _check_unchanged(self.builder, value, state, who)
            final = self.path / folder.relative_to(root)
            return {"state": relative(saved, final), "digest": digest_file(state / MANIFEST_FILE), "copy": False}
        if inside is None:
            if not (self.bundle or port.name in made.inline or isinstance(value, DataSource)):
                raise ArtefactError(
                    f"{what} is plugged to {other.registered.id}, which has no saved state",
                    hint="save it first, or pass bundle=True to store a copy inside",
                )
            inside = folder / PORTS / name
            self.copies[id(value)] = inside
            self.write_into(root, inside, value, other)
        return {"state": relative(inside, folder), "digest": digest_file(inside / MANIFEST_FILE), "copy": True}

    def built_config(self, value: Any) -> Any:
        """Entry of the manifest for a component that was put into a config already built."""
        made = self.made(value, "a component in the config")
        return replace(made.part, inputs={}).as_json(self.builder.catalogue, built=self.built_config, whole=True)

    def made(self, obj: Any, what: str) -> Made:
        made = self.builder.memory.of(obj)
        if made is None:
            raise ArtefactError(
                f"{what} is {with_article(type(obj).__name__)} that this host did not make, so it can't be rebuilt",
                hint="make it with host.create or host.load",
            )
        return made


def load_object(
    builder: Builder, path: Path, device: torch.device | str | None, executor: Executor | None = None
) -> Any:
    """Load the object of a saved state; see ``Host.load``. ``executor`` is for components that take one."""
    path = Path(os.path.abspath(path))
    try:
        return _load(builder, path, Placement(device=device, executor=executor), {})
    except RecursionError:
        raise ArtefactError(f"{path} refers to states that refer to states, too deep to follow") from None


def _load(builder: Builder, path: Path, place: Placement, loaded: dict[Path, Any]) -> Any:
    # What refers to this state refers to the place it was asked at, which may itself refer elsewhere.
    asked, path = path, state_folder(path)
    if path in loaded:
        return loaded[path]
    tensors, raw = load_state(path)
    manifest = check_manifest(raw, path)
    registered, config, tensors = current_state(builder, path, manifest, tensors)
    ports = {}
    for name, entry in manifest.ports.items():
        entries = entry if isinstance(entry, list) else [entry]
        values = [_load_port(builder, path, name, item, place, loaded) for item in entries]
        ports[name] = values if isinstance(entry, list) else values[0]
    dtype = None if manifest.dtype is None else getattr(torch, manifest.dtype)
    try:
        obj = builder.build(registered, config, ports, replace(place, seed=manifest.seed, dtype=dtype))
    except (ConfigError, PluginError) as error:
        raise ArtefactError(f"{path} can't be rebuilt: {error.message}", hint=error.hint) from error
    if isinstance(obj, DataSource) and obj.fingerprint() != manifest.fingerprint:
        raise ArtefactError(f"the files that {registered.id} of {path} reads have changed since it was saved")
    if isinstance(obj, nn.Module):
        fill_weights(builder, obj, tensors, str(path / STATE_FILE), convert=not manifest.half)
    made = builder.memory.of(obj)
    assert made is not None
    made.saved = asked
    loaded[path] = obj
    return obj


def current_state(
    builder: Builder, path: Path, manifest: Manifest, tensors: dict[str, Tensor]
) -> tuple[Registered, Any, dict[str, Tensor]]:
    """The installed component, with config and tensors as its revision has them."""
    found, revision = installed_component(builder.catalogue, manifest, path)
    if revision == found.component.revision:
        return found, manifest.config, tensors
    migrate = getattr(load_target(found, found.component.target), "migrate", None)
    if migrate is None:
        raise other_revision(manifest, path, found, "can't take over an older state")
    try:
        state = migrate({"config": manifest.config, "tensors": tensors}, revision)
        return found, state["config"], state["tensors"]
    except Exception as error:
        raise ArtefactError(
            f"{path}: taking {manifest.saved} over to revision {found.component.revision} failed: {describe(error)}"
        ) from error


def _load_port(
    builder: Builder,
    path: Path,
    name: str,
    entry: PortContent,
    place: Placement,
    loaded: dict[Path, Any],
) -> Any:
    what = f"port {name!r} of {path}"
    if entry.spec is not None:
        return data_spec(entry, name, path)
    if entry.value is not None:
        held = place_inside(path, entry.value, what)
        if not held.is_dir() or digest_folder(held) != entry.digest:
            raise ArtefactError(f"the points that {what} reads, in {held}, are gone or changed")
        return load_value(held, None)
    if entry.state is None:
        raise ArtefactError(f"{path / MANIFEST_FILE} does not say what port {name!r} is plugged to")
    return _load(builder, referenced_folder(path, entry, what), place, loaded)


def data_spec(reference: PortContent, port: str, folder: Path) -> DataSpec:
    """The shape and scale of the data that a port was plugged to. Raises ``ArtefactError`` where they can be none."""
    try:
        spec = _SPEC.validate_python(reference.spec)
    except (ValidationError, ScorefoldError) as error:
        raise ArtefactError(f"{folder / MANIFEST_FILE} does not describe the data of port {port!r}") from error
    try:
        check_units(spec.event_scale, spec.event_shape)
    except ShapeError as error:
        raise ArtefactError(f"{folder / MANIFEST_FILE} does not describe the data of port {port!r}: {error}") from error
    conditions = spec.condition_spec
    named = {"": conditions} if isinstance(conditions, TensorSpec) else conditions or {}
    for shape in (spec.event_shape, *(item.shape for item in named.values())):
        if any(size < 0 for size in shape) or math.prod(shape) > LARGEST_EVENT:
            raise ArtefactError(f"{folder / MANIFEST_FILE} gives port {port!r} data of the shape {shape!s:.60}")
    return spec


def _halved(obj: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters among a module's tensors in float16. Raises ``ArtefactError`` for one that is too large for it."""
    names = {name for name, _ in obj.named_parameters()} if isinstance(obj, nn.Module) else set[str]()
    found = {name: tensor.half() for name, tensor in tensors.items() if name in names and tensor.is_floating_point()}
    for name, tensor in found.items():
        if not torch.equal(tensor.isfinite(), tensors[name].isfinite()):
            hint = f"save it without half: float16 ends at {torch.finfo(torch.float16).max:g}"
            raise ArtefactError(f"{name} holds weights too large for half precision", hint=hint)
    return found


def fill_weights(
    builder: Builder, module: nn.Module, tensors: Mapping[str, Tensor], origin: str, *, convert: bool = True
) -> None:
    """Puts saved tensors into a module and sets it to evaluate: with ``convert`` in the precision they were saved in,
    else in the module's own. Raises ``ArtefactError``, which names their ``origin``, if they are not the module's."""
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if convert and len(dtypes) == 1 and dtypes <= FLOATS:
        module.to(dtype=dtypes.pop())
    own = own_tensors(builder, module)
    for name, tensor in own.items():
        given = tensors.get(name, tensor).dtype
        if given != tensor.dtype and not {given, tensor.dtype} <= FLOATS:
            raise ArtefactError(
                f"{origin} does not fit what its manifest describes: {name} is {_word(given)}; "
                f"expected {_word(tensor.dtype)}"
            )
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ArtefactError(f"{origin} does not fit what its manifest describes: {error}") from error
    lacking = sorted(set(missing) & own.keys())
    if lacking or unexpected:
        raise ArtefactError(
            f"{origin} does not fit what its manifest describes: "
            f"missing {', '.join(lacking) or 'nothing'}, left over {', '.join(unexpected) or 'nothing'}"
        )
    for name, weights in module.named_parameters():
        # A frozen parameter may hold infinities on purpose, as masks do.
        wrong = ~weights.isfinite() if weights.requires_grad else weights.isnan()
        if name in tensors and bool(wrong.any()):
            raise ArtefactError(
                f"{origin} holds weights that are not finite: {name}",
                hint="copy the state again, or train it again with a smaller training.learning_rate or training.clip",
            )
    module.eval()


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def own_tensors(builder: Builder, obj: Any) -> dict[str, Tensor]:
    """The state of a module without the states of its ports; nothing for an object that is no module."""
    if not isinstance(obj, nn.Module):
        return {}
    others = {id(value) for value in port_objects(builder, obj)}
    theirs = tuple(f"{name}." for name, part in obj.named_modules(remove_duplicate=False) if id(part) in others)
    return {name: value for name, value in obj.state_dict().items() if not name.startswith(theirs)}


def port_objects(builder: Builder, obj: Any) -> Iterator[Any]:
    """All objects that an object's ports are plugged to, and theirs."""
    made = builder.memory.of(obj)
    for value in () if made is None else made.ports.values():
        for item in value if isinstance(value, list) else [value]:
            yield item
            yield from port_objects(builder, item)


def _check_unchanged(builder: Builder, obj: Any, saved: Path, what: str) -> None:
    """Raises ``ArtefactError`` where an object no longer has the parameters that its folder holds."""
    now, then = own_tensors(builder, obj), load_arrays(saved / STATE_FILE)
    kept = {name for name in now.keys() & then.keys() if torch.equal(now[name].cpu(), then[name])}
    if changed := sorted((now.keys() | then.keys()) - kept):
        raise ArtefactError(
            f"{what} has changed since it was saved to {saved}: {', '.join(changed[:3])}",
            hint="a call must leave a model as it is (a counter can be a buffer with persistent=False); save it again "
            "first, or keep a copy of it with bundle=True",
        )


def note_new_place(builder: Builder, obj: Any, path: Path) -> None:
    """Notes the new place of an object's saved state; see ``Host.moved``."""
    made = builder.memory.of(obj)
    if made is None or not has_state(path) or not (state_folder(path) / MANIFEST_FILE).is_file():
        raise ArtefactError(f"{path} holds no state of this {type(obj).__name__}")
    made.saved = Path(os.path.abspath(path))


def relative(target: Path, start: Path) -> str:
    """The path from one folder to another, as a manifest writes it."""
    return Path(os.path.relpath(target, start)).as_posix()
