// Points on the GPU: one pass over a buffer, a marker shape for each class, and fewer of them while the map moves slowly.

import {createBufferInfoFromArrays, createProgramInfo, drawBufferInfo, setBuffersAndAttributes, setUniforms} from 'twgl.js';

const FEWEST = 8000;
const SLOW = 34;
const VERTEX = `#version 300 es
in vec2 position;
in vec4 colour;
in float shape;
uniform vec2 scale;
uniform vec2 offset;
uniform float size;
out vec4 paint;
flat out int form;
void main() {
  gl_Position = vec4(position * scale + offset, 0.0, 1.0);
  gl_PointSize = size;
  paint = vec4(colour.rgb * colour.a, colour.a);
  form = int(shape);
}`;
// Distances from the middle of a marker, 1 at its edge: circle, square, triangle, diamond, plus, triangle down, cross, ring.
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 paint;
flat in int form;
uniform float plain;
out vec4 pixel;
void main() {
  vec2 p = (gl_PointCoord - 0.5) * 2.0;
  vec2 a = abs(p);
  float d = length(p) * 1.15;
  if (plain < 0.5) {
    if (form == 1) d = max(a.x, a.y) * 1.3;
    else if (form == 2) d = max(p.y * 1.3, a.x * 1.25 - p.y * 0.7 + 0.25);
    else if (form == 3) d = (a.x + a.y) * 1.05;
    else if (form == 4) d = max(min(a.x, a.y) * 3.2, max(a.x, a.y) * 1.05);
    else if (form == 5) d = max(-p.y * 1.3, a.x * 1.25 + p.y * 0.7 + 0.25);
    else if (form == 6) d = max(min(a.x + a.y, abs(a.x - a.y)) * 2.2, length(p) * 1.05);
    else if (form == 7) d = max(d, 1.6 - d * 1.5);
  }
  // A dark edge, so that yellow is seen on a light ground.
  float edge = plain < 0.5 ? smoothstep(0.55, 0.85, d) : 0.0;
  pixel = vec4(paint.rgb * (1.0 - 0.45 * edge), paint.a) * (1.0 - smoothstep(0.85, 1.0, d));
}`;

export function webgl() {
  return document.createElement('canvas').getContext('webgl2') !== null;
}

// A fixed random order, so that the first points of a buffer are a fair sample of all, and no class lies on top.
function shuffled(count) {
  const order = Uint32Array.from({length: count}, (_, index) => index);
  let state = 1;
  for (let last = count - 1; last > 0; last -= 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = Math.floor(state / 2 ** 32 * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}

function ordered(values, order, width) {
  const found = new values.constructor(values.length);
  order.forEach((from, to) => { for (let part = 0; part < width; part += 1) found[width * to + part] = values[width * from + part]; });
  return found;
}

export const sizeOf = (count) => (count > 50000 ? 2.5 : count > 10000 ? 4 : count > 3000 ? 7 : 9);

// Draws the points of a state on a canvas; call what `changed` is after other points or colours are set.
export function drawPoints(canvas, state) {
  const gl = canvas.getContext('webgl2', {antialias: false, premultipliedAlpha: true});
  let program = createProgramInfo(gl, [VERTEX, FRAGMENT]);
  let buffers = null;
  let order = new Uint32Array(0);
  let shown = Infinity;
  canvas.addEventListener('webglcontextlost', (event) => event.preventDefault());
  canvas.addEventListener('webglcontextrestored', () => {
    program = createProgramInfo(gl, [VERTEX, FRAGMENT]);
    buffers = null;
    state.redraw();
  });
  return {
    changed: () => {
      for (const one of Object.values(buffers?.attribs ?? {})) gl.deleteBuffer(one.buffer);
      buffers = null;
    },
    order: () => order,
    // `took` is the time since the frame before, in a movement: a slow one draws fewer points, and the last one all.
    draw: (width, height, ratio, moving, took) => {
      const count = state.positions.length / 2;
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      if (!count || state.colours.length !== 4 * count) return;
      if (order.length !== count) order = shuffled(count);
      const shapes = state.shapes?.length === count ? state.shapes : new Float32Array(count);
      buffers ??= createBufferInfoFromArrays(gl, {
        position: {numComponents: 2, data: ordered(state.positions, order, 2)},
        colour: {numComponents: 4, data: ordered(state.colours, order, 4), normalize: true},
        shape: {numComponents: 1, data: ordered(shapes, order, 1)},
      });
      if (moving && took > SLOW && took < 1000) shown = Math.max(FEWEST, Math.min(shown, count) / 2);
      else if (moving && took < SLOW / 2) shown = Math.min(count, shown * 1.2);
      const number = moving ? Math.min(count, Math.round(shown)) : count;
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      gl.useProgram(program.program);
      setBuffersAndAttributes(gl, program, buffers);
      const scale = [2 * state.zoom / width, 2 * state.zoom / height];
      const size = sizeOf(count);
      setUniforms(program, {scale, offset: [-state.centre[0] * scale[0], -state.centre[1] * scale[1]], size: ratio * size, plain: size < 5 ? 1 : 0});
      drawBufferInfo(gl, buffers, gl.POINTS, number);
    },
  };
}
