// The map: where it looks, what lies above its points, and what pointer, fingers and keys do to it.

import {drawPoints} from './points.js';
import {inside} from './polygon.js';

const REACH = 14;
const REST = 160;
export {webgl} from './points.js';

// Images, curves, rings around points, and the shape that is being drawn, on a canvas above the points.
function overlay(canvas, state, at) {
  const context = canvas.getContext('2d');
  return (ratio) => {
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false;
    for (const {point, tile, size} of state.tiles) {
      const [x, y] = at(state.place(point));
      const high = size * tile.height / tile.width;
      context.drawImage(tile, x - size / 2, y - high / 2, size, high);
      context.strokeStyle = `rgb(${state.colours.slice(4 * point, 4 * point + 3).join(',')})`;
      context.lineWidth = 2;
      context.strokeRect(x - size / 2, y - high / 2, size, high);
    }
    context.lineWidth = 3;
    for (const {path, colour} of state.paths) {
      context.strokeStyle = `rgb(${colour.join(',')})`;
      context.beginPath();
      path.forEach((place, index) => context[index ? 'lineTo' : 'moveTo'](...at(place)));
      context.stroke();
    }
    const looked = state.at === null ? [] : [{position: state.place(state.at), colour: [128, 128, 128]}];
    for (const {position, colour} of [...state.marks, ...looked]) {
      context.strokeStyle = `rgb(${colour.join(',')})`;
      context.beginPath();
      context.arc(...at(position), 8, 0, 2 * Math.PI);
      context.stroke();
    }
    if (state.drawn.length) {
      context.lineWidth = 1.5;
      context.setLineDash([5, 4]);
      context.strokeStyle = getComputedStyle(canvas).color;
      context.beginPath();
      state.drawn.forEach((place, index) => context[index ? 'lineTo' : 'moveTo'](...place));
      context.closePath();
      context.stroke();
      context.setLineDash([]);
    }
  };
}

// Draws into `host`. `onHover(point, x, y)` gets null off all points; `onPick(point)` is a click or Enter; `onMove` is a
// change of the view, and `onRest` comes after its last; `onSelect(points)` is a box or a lasso.
export function createMap(host, {onHover, onPick, onMove, onRest, onSelect}) {
  const state = {positions: new Float32Array(0), colours: new Uint8Array(0), shapes: null, hidden: null, marks: [], paths: [], tiles: [],
    drawn: [], at: null, centre: [0, 0], zoom: 1, tool: 'move'};
  state.place = (point) => [state.positions[2 * point], state.positions[2 * point + 1]];
  const canvases = [0, 1].map(() => host.appendChild(document.createElement('canvas')));
  const box = () => host.getBoundingClientRect();
  const size = () => [host.clientWidth || 1, host.clientHeight || 1];

  function onScreen([x, y]) {
    const [width, height] = size();
    return [width / 2 + (x - state.centre[0]) * state.zoom, height / 2 - (y - state.centre[1]) * state.zoom];
  }

  function world(x, y) {
    const [width, height] = size();
    return [state.centre[0] + (x - width / 2) / state.zoom, state.centre[1] - (y - height / 2) / state.zoom];
  }

  const drawn = drawPoints(canvases[0], state);
  const over = overlay(canvases[1], state, onScreen);
  let asked = false;
  let last = 0;
  let resting = null;
  let gap = 0;
  let pressed = null;
  let pinched = null;
  state.redraw = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame((now) => {
      asked = false;
      const [width, height] = size();
      const ratio = devicePixelRatio || 1;
      for (const canvas of canvases) {
        const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
        if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
      }
      if (resting !== null) gap = Math.min(400, now - last);
      drawn.draw(width, height, ratio, resting !== null, now - last);
      last = now;
      over(ratio);
    });
  };
  new ResizeObserver(state.redraw).observe(host);

  // The view has changed: fewer points are drawn until it rests, where all of them take long. It does not rest while it is
  // held, nor within a few frames of the last change, however long these take.
  function settle() {
    clearTimeout(resting);
    resting = setTimeout(() => {
      if (pressed || pinched) {
        settle();
        return;
      }
      resting = null;
      state.redraw();
      onRest?.();
    }, Math.min(1000, Math.max(REST, 3 * gap)));
  }

  function moved() {
    settle();
    onMove?.();
    state.redraw();
  }

  function nearest(x, y) {
    const [a, b] = world(x, y);
    let best = null;
    let least = (REACH / state.zoom) ** 2;
    for (let point = 0; point < state.positions.length / 2; point += 1) {
      const distance = (state.positions[2 * point] - a) ** 2 + (state.positions[2 * point + 1] - b) ** 2;
      if (distance < least && !state.hidden?.[point]) [best, least] = [point, distance];
    }
    return best;
  }

  // The nearest point to one side of the one that is looked at: a cone of 45 degrees around the direction.
  function step(dx, dy) {
    if (state.at === null) state.at = nearest(size()[0] / 2, size()[1] / 2) ?? 0;
    else {
      const [x, y] = state.place(state.at);
      let [best, least] = [null, Infinity];
      for (let point = 0; point < state.positions.length / 2; point += 1) {
        const along = (state.positions[2 * point] - x) * dx + (state.positions[2 * point + 1] - y) * dy;
        const across = Math.abs((state.positions[2 * point] - x) * dy - (state.positions[2 * point + 1] - y) * dx);
        if (along > 0 && across <= along && along + across < least && !state.hidden?.[point]) [best, least] = [point, along + across];
      }
      if (best !== null) state.at = best;
    }
    state.redraw();
    const [x, y] = onScreen(state.place(state.at));
    onHover(state.at, box().left + x, box().top + y, true);
  }

  function fit() {
    const sides = [0, 1].map((axis) => {
      const values = state.positions.filter((_, index) => index % 2 === axis).sort();
      const cut = Math.floor(values.length / 1000);
      return [values[cut] ?? 0, values[values.length - 1 - cut] ?? 1];
    });
    const room = ([low, high], length) => 0.92 * length / Math.max(high - low, 1e-9);
    state.centre = sides.map(([low, high]) => (low + high) / 2);
    state.zoom = Math.min(room(sides[0], size()[0]), room(sides[1], size()[1]));
    moved();
  }

  // Zooms so that what is at (x, y) stays there.
  function zoom(factor, x = size()[0] / 2, y = size()[1] / 2) {
    const before = world(x, y);
    state.zoom *= factor;
    const after = world(x, y);
    state.centre = [state.centre[0] + before[0] - after[0], state.centre[1] + before[1] - after[1]];
    moved();
  }

  function pan(dx, dy) {
    state.centre = [state.centre[0] - dx / state.zoom, state.centre[1] + dy / state.zoom];
    moved();
  }

  const at = (event) => [event.clientX - box().left, event.clientY - box().top];
  host.addEventListener('pointerdown', (event) => {
    if (pinched || event.button) return;
    const tool = state.tool === 'move' && event.shiftKey ? 'box' : state.tool;
    pressed = {start: at(event), last: at(event), far: 0, tool, finger: event.pointerType === 'touch'};
    // A finger that moves the map scrolls the page, which the browser does where nothing is captured.
    if (!pressed.finger || tool !== 'move') host.setPointerCapture(event.pointerId);
  });
  host.addEventListener('pointermove', (event) => {
    const [x, y] = at(event);
    if (pinched) return;
    if (!pressed) {
      onHover(nearest(x, y), event.clientX, event.clientY, false);
      return;
    }
    onHover(null);
    const [a, b] = pressed.start;
    if (pressed.tool === 'box') state.drawn = [[a, b], [x, b], [x, y], [a, y]];
    else if (pressed.tool === 'lasso') state.drawn.push([x, y]);
    else if (!pressed.finger) pan(x - pressed.last[0], y - pressed.last[1]);
    pressed.last = [x, y];
    pressed.far = Math.max(pressed.far, Math.hypot(x - a, y - b));
    state.redraw();
  });
  host.addEventListener('pointerleave', () => onHover(null));
  const dropped = () => {
    [pressed, state.drawn] = [null, []];
    state.redraw();
  };
  host.addEventListener('pointercancel', dropped);
  host.addEventListener('pointerup', (event) => {
    const [x, y] = at(event);
    // A lasso ends where it began, so what counts is how far it went.
    const still = pressed !== null && Math.max(pressed.far, Math.hypot(x - pressed.start[0], y - pressed.start[1])) < 5;
    const polygon = state.drawn.map((place) => world(...place));
    dropped();
    if (!still && polygon.length > 2) {
      onSelect?.(inside(state.positions, polygon, state.hidden));
      return;
    }
    const point = still ? nearest(x, y) : null;
    if (point === null) return;
    state.at = point;
    state.redraw();
    onPick(point);
  });
  // Two fingers move and zoom; what they do to the page is refused as soon as the second one is there.
  const fingers = ({touches: [one, other]}) => ({
    apart: Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1,
    middle: at({clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2}),
  });
  host.addEventListener('touchstart', (event) => {
    if (event.touches.length !== 2) return;
    event.preventDefault();
    dropped();
    onHover(null);
    pinched = fingers(event);
  }, {passive: false});
  host.addEventListener('touchmove', (event) => {
    if (!pinched || event.touches.length !== 2) return;
    event.preventDefault();
    const now = fingers(event);
    pan(now.middle[0] - pinched.middle[0], now.middle[1] - pinched.middle[1]);
    zoom(now.apart / pinched.apart, ...now.middle);
    pinched = now;
  }, {passive: false});
  for (const name of ['touchend', 'touchcancel']) {
    host.addEventListener(name, (event) => { if (event.touches.length < 2) pinched = null; });
  }
  host.addEventListener('wheel', (event) => {
    event.preventDefault();
    zoom(2 ** (-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 200) / 200), ...at(event));
  }, {passive: false});
  const KEYS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
  host.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (KEYS[event.key]) step(...KEYS[event.key]);
    else if (event.key === 'Enter' && state.at !== null) onPick(state.at);
    else if (event.key === '+' || event.key === '=') zoom(1.5);
    else if (event.key === '-') zoom(1 / 1.5);
    else if (event.key === '0') fit();
    else if (event.key === 'Escape') {
      dropped();
      onHover(null);
    } else return;
    event.preventDefault();
  });

  const set = (name) => (value) => {
    state[name] = value;
    state.redraw();
  };
  const renewed = (name) => (value) => {
    state[name] = value;
    drawn.changed();
    state.redraw();
  };
  // The points in view in random order, with their places on the screen.
  function* visible() {
    const [width, height] = size();
    for (const point of drawn.order()) {
      if (state.hidden?.[point]) continue;
      const [x, y] = onScreen(state.place(point));
      if (x >= 0 && y >= 0 && x < width && y < height) yield {point, x, y};
    }
  }
  return {
    fit, zoom, visible, place: state.place,
    count: () => state.positions.length / 2,
    points: renewed('positions'), colours: renewed('colours'), shapes: renewed('shapes'), marks: set('marks'), paths: set('paths'),
    look: set('at'), hidden: set('hidden'), tiles: set('tiles'),
    tool: (name) => {
      state.tool = name;
      host.dataset.tool = name;
    },
    view: () => [...state.centre, state.zoom],
    show: ([x, y, near]) => {
      [state.centre, state.zoom] = [[x, y], near];
      moved();
    },
  };
}
