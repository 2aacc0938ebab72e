// The map: points drawn on the GPU, one pass over two buffers, and found under the pointer by a scan of all of them.

import {createBufferInfoFromArrays, createProgramInfo, drawBufferInfo, setBuffersAndAttributes, setUniforms} from 'twgl.js';

const REACH = 14;
const VERTEX = `#version 300 es
in vec2 position;
in vec4 colour;
uniform vec2 scale;
uniform vec2 offset;
uniform float size;
out vec4 paint;
void main() {
  gl_Position = vec4(position * scale + offset, 0.0, 1.0);
  gl_PointSize = size;
  paint = vec4(colour.rgb * colour.a, colour.a);
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 paint;
out vec4 pixel;
void main() {
  pixel = paint * (1.0 - smoothstep(0.35, 0.5, length(gl_PointCoord - 0.5)));
}`;

export function webgl() {
  return document.createElement('canvas').getContext('webgl2') !== null;
}

// Draws the points of a state on a canvas; call what it returns after `changed` says that there are other points.
function points(canvas, state) {
  const gl = canvas.getContext('webgl2', {antialias: false, premultipliedAlpha: true});
  let program = createProgramInfo(gl, [VERTEX, FRAGMENT]);
  let buffers = null;
  canvas.addEventListener('webglcontextlost', (event) => event.preventDefault());
  canvas.addEventListener('webglcontextrestored', () => {
    program = createProgramInfo(gl, [VERTEX, FRAGMENT]);
    buffers = null;
    state.redraw();
  });
  return {
    changed: () => { buffers = null; },
    draw: (width, height, ratio) => {
      const count = state.positions.length / 2;
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      if (!count || state.colours.length !== 4 * count) return;
      buffers ??= createBufferInfoFromArrays(gl, {
        position: {numComponents: 2, data: state.positions},
        colour: {numComponents: 4, data: state.colours, normalize: true},
      });
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      gl.useProgram(program.program);
      setBuffersAndAttributes(gl, program, buffers);
      const scale = [2 * state.zoom / width, 2 * state.zoom / height];
      setUniforms(program, {scale, offset: [-state.centre[0] * scale[0], -state.centre[1] * scale[1]], size: ratio * (count > 50000 ? 2 : count > 10000 ? 3.5 : 6)});
      drawBufferInfo(gl, buffers, gl.POINTS, count);
    },
  };
}

// Curves and rings around points, on a canvas above them.
function overlay(canvas, state, at) {
  const context = canvas.getContext('2d');
  return (ratio) => {
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
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
  };
}

// Draws into `host`. `onHover(point, x, y)` gets null off all points; `onPick(point)` is a click or Enter.
export function createMap(host, {onHover, onPick, onMove}) {
  const state = {positions: new Float32Array(0), colours: new Uint8Array(0), marks: [], paths: [], at: null, centre: [0, 0], zoom: 1};
  state.place = (point) => [state.positions[2 * point], state.positions[2 * point + 1]];
  const canvases = [0, 1].map(() => host.appendChild(document.createElement('canvas')));
  const box = () => host.getBoundingClientRect();
  const size = () => [host.clientWidth || 1, host.clientHeight || 1];

  function inside([x, y]) {
    const [width, height] = size();
    return [width / 2 + (x - state.centre[0]) * state.zoom, height / 2 - (y - state.centre[1]) * state.zoom];
  }

  function world(x, y) {
    const [width, height] = size();
    return [state.centre[0] + (x - width / 2) / state.zoom, state.centre[1] - (y - height / 2) / state.zoom];
  }

  const drawn = points(canvases[0], state);
  const over = overlay(canvases[1], state, inside);
  let asked = false;
  state.redraw = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      const [width, height] = size();
      const ratio = devicePixelRatio || 1;
      for (const canvas of canvases) {
        const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
        if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
      }
      drawn.draw(width, height, ratio);
      over(ratio);
    });
  };
  new ResizeObserver(state.redraw).observe(host);

  function nearest(x, y) {
    const [a, b] = world(x, y);
    let best = null;
    let least = (REACH / state.zoom) ** 2;
    for (let point = 0; point < state.positions.length / 2; point += 1) {
      const distance = (state.positions[2 * point] - a) ** 2 + (state.positions[2 * point + 1] - b) ** 2;
      if (distance < least) [best, least] = [point, distance];
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
        if (along > 0 && across <= along && along + across < least) [best, least] = [point, along + across];
      }
      if (best !== null) state.at = best;
    }
    state.redraw();
    const [x, y] = inside(state.place(state.at));
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
    state.redraw();
  }

  // Zooms so that what is at (x, y) stays there.
  function zoom(factor, x = size()[0] / 2, y = size()[1] / 2) {
    const before = world(x, y);
    state.zoom *= factor;
    const after = world(x, y);
    state.centre = [state.centre[0] + before[0] - after[0], state.centre[1] + before[1] - after[1]];
    onMove?.();
    state.redraw();
  }

  let pressed = null;
  const at = (event) => [event.clientX - box().left, event.clientY - box().top];
  host.addEventListener('pointerdown', (event) => {
    pressed = {start: at(event), last: at(event)};
    host.setPointerCapture(event.pointerId);
  });
  host.addEventListener('pointermove', (event) => {
    const [x, y] = at(event);
    if (!pressed) {
      onHover(nearest(x, y), event.clientX, event.clientY, false);
      return;
    }
    onHover(null);
    state.centre = [state.centre[0] - (x - pressed.last[0]) / state.zoom, state.centre[1] + (y - pressed.last[1]) / state.zoom];
    pressed.last = [x, y];
    state.redraw();
  });
  host.addEventListener('pointerleave', () => onHover(null));
  host.addEventListener('pointercancel', () => { pressed = null; });
  host.addEventListener('pointerup', (event) => {
    const [x, y] = at(event);
    const still = pressed !== null && Math.hypot(x - pressed.start[0], y - pressed.start[1]) < 5;
    pressed = null;
    const point = still ? nearest(x, y) : null;
    if (point === null) return;
    state.at = point;
    state.redraw();
    onPick(point);
  });
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
    else if (event.key === 'Escape') onHover(null);
    else return;
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
  return {
    fit, zoom, place: state.place,
    points: renewed('positions'), colours: renewed('colours'), marks: set('marks'), paths: set('paths'), look: set('at'),
  };
}
