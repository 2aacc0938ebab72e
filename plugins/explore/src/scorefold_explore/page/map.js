// The map: points drawn by deck.gl on the GPU, found under the pointer by a scan of all of them.

import {Deck, OrthographicView} from '@deck.gl/core';
import {PathLayer, ScatterplotLayer} from '@deck.gl/layers';

const REACH = 14;

export function webgl() {
  return document.createElement('canvas').getContext('webgl2') !== null;
}

// Draws into `host`. `onHover(point, x, y)` gets null off all points; `onPick(point)` is a click or Enter.
export function createMap(host, {onHover, onPick, onMove}) {
  const state = {positions: new Float32Array(0), colours: new Uint8Array(0), marks: [], paths: [], at: null, view: {target: [0, 0, 0], zoom: 0}};
  const deck = new Deck({
    parent: host,
    views: new OrthographicView({id: 'map', flipY: false}),
    controller: {keyboard: false, doubleClickZoom: false, dragRotate: false},
    viewState: state.view,
    onViewStateChange: ({viewState}) => {
      state.view = viewState;
      deck.setProps({viewState});
      onMove?.();
    },
    getCursor: ({isDragging}) => (isDragging ? 'grabbing' : 'crosshair'),
    layers: [],
  });

  function draw() {
    const marks = [...state.marks, ...(state.at === null ? [] : [{position: place(state.at), colour: [128, 128, 128]}])];
    deck.setProps({layers: [
      new ScatterplotLayer({
        id: 'points',
        data: {length: state.positions.length / 2, attributes: {
          getPosition: {value: state.positions, size: 2}, getFillColor: {value: state.colours, size: 4, normalized: true}}},
        radiusUnits: 'pixels', getRadius: state.positions.length > 40000 ? 1.6 : 3.2,
      }),
      new PathLayer({id: 'paths', data: state.paths, getPath: (one) => one.path, getColor: (one) => one.colour, getWidth: 3, widthUnits: 'pixels'}),
      new ScatterplotLayer({
        id: 'marks', data: marks, getPosition: (one) => one.position, radiusUnits: 'pixels', getRadius: 8,
        filled: false, stroked: true, lineWidthUnits: 'pixels', getLineWidth: 3, getLineColor: (one) => one.colour,
      }),
    ]});
  }

  const place = (point) => [state.positions[2 * point], state.positions[2 * point + 1]];
  const box = () => host.getBoundingClientRect();

  function world(x, y) {
    const {width, height} = box();
    const scale = 2 ** state.view.zoom;
    return [state.view.target[0] + (x - width / 2) / scale, state.view.target[1] - (y - height / 2) / scale];
  }

  function screen(point) {
    const {left, top, width, height} = box();
    const scale = 2 ** state.view.zoom;
    const [x, y] = place(point);
    return [left + width / 2 + (x - state.view.target[0]) * scale, top + height / 2 - (y - state.view.target[1]) * scale];
  }

  function nearest(x, y) {
    const [a, b] = world(x, y);
    let best = null;
    let least = (REACH / 2 ** state.view.zoom) ** 2;
    for (let point = 0; point < state.positions.length / 2; point += 1) {
      const distance = (state.positions[2 * point] - a) ** 2 + (state.positions[2 * point + 1] - b) ** 2;
      if (distance < least) [best, least] = [point, distance];
    }
    return best;
  }

  // The nearest point to one side of the one that is looked at: a cone of 45 degrees around the direction.
  function step(dx, dy) {
    if (state.at === null) {
      state.at = nearest(box().width / 2, box().height / 2) ?? 0;
    } else {
      const [x, y] = place(state.at);
      let [best, least] = [null, Infinity];
      for (let point = 0; point < state.positions.length / 2; point += 1) {
        const along = (state.positions[2 * point] - x) * dx + (state.positions[2 * point + 1] - y) * dy;
        const across = Math.abs((state.positions[2 * point] - x) * dy - (state.positions[2 * point + 1] - y) * dx);
        if (along > 0 && across <= along && along + across < least) [best, least] = [point, along + across];
      }
      if (best !== null) state.at = best;
    }
    draw();
    onHover(state.at, ...screen(state.at), true);
  }

  function fit() {
    const {width, height} = box();
    const sides = [0, 1].map((axis) => {
      const values = state.positions.filter((_, index) => index % 2 === axis).sort();
      const cut = Math.floor(values.length / 1000);
      return [values[cut] ?? 0, values[values.length - 1 - cut] ?? 1];
    });
    const room = ([low, high], size) => size / Math.max(high - low, 1e-9);
    const zoom = Math.log2(Math.min(room(sides[0], width * 0.92), room(sides[1], height * 0.92)));
    move({target: [(sides[0][0] + sides[0][1]) / 2, (sides[1][0] + sides[1][1]) / 2, 0], zoom});
  }

  function move(view) {
    state.view = {...state.view, ...view, minZoom: -60, maxZoom: 60};
    deck.setProps({viewState: state.view});
  }

  let pressed = null;
  const inside = (event) => [event.clientX - box().left, event.clientY - box().top];
  host.addEventListener('pointerdown', (event) => { pressed = inside(event); });
  host.addEventListener('pointermove', (event) => {
    if (event.buttons === 0) onHover(nearest(...inside(event)), event.clientX, event.clientY, false);
    else onHover(null);
  });
  host.addEventListener('pointerleave', () => onHover(null));
  host.addEventListener('pointerup', (event) => {
    const [x, y] = inside(event);
    const still = pressed !== null && Math.hypot(x - pressed[0], y - pressed[1]) < 5;
    const point = still ? nearest(x, y) : null;
    if (point === null) return;
    state.at = point;
    onPick(point);
  });
  const KEYS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
  host.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (KEYS[event.key]) step(...KEYS[event.key]);
    else if (event.key === 'Enter' && state.at !== null) onPick(state.at);
    else if (event.key === '+' || event.key === '=') move({zoom: state.view.zoom + 0.5});
    else if (event.key === '-') move({zoom: state.view.zoom - 0.5});
    else if (event.key === '0') fit();
    else if (event.key === 'Escape') onHover(null);
    else return;
    event.preventDefault();
  });

  return {
    fit, screen, place,
    points: (positions) => { state.positions = positions; draw(); },
    colours: (bytes) => { state.colours = bytes; draw(); },
    marks: (marks) => { state.marks = marks; draw(); },
    paths: (paths) => { state.paths = paths; draw(); },
    look: (point) => { state.at = point; draw(); },
  };
}
