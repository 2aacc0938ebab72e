// Colours and markers of points: both for each class, so that colour is never the only cue, or a ramp from low to high.

import {el, number} from './elements.js';
import {floats} from './api.js';

// Ten colours that readers with any kind of colour vision can separate: Okabe and Ito (2008) with grey, brown and sage.
const CLASSES = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [213, 94, 0], [86, 180, 233], [240, 228, 66], [110, 110, 110],
  [135, 45, 30], [180, 195, 180]];
const MARKERS = ['circle', 'square', 'triangle', 'diamond', 'plus', 'triangle down', 'cross', 'ring'];
const RAMP = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89],
  [180, 222, 44], [253, 231, 37]];
const UNKNOWN = [150, 150, 150, 90];
const FAINT = [150, 150, 150, 28];
const CIRCLE = 'M5 1a4 4 0 1 0 0 8a4 4 0 1 0 0-8z';
const DRAWN = [CIRCLE, 'M1.5 1.5h7v7h-7z', 'M5 1L9.5 9h-9z', 'M5 0L10 5L5 10L0 5z', 'M3.5 0h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z', 'M5 9L.5 1h9z',
  'M2 0L5 3L8 0L10 2L7 5L10 8L8 10L5 7L2 10L0 8L3 5L0 2z', `${CIRCLE}M5 3.2a1.8 1.8 0 1 1 0 3.6a1.8 1.8 0 1 1 0-3.6z`];

const colourOf = (value) => CLASSES[value % CLASSES.length];
// Classes beyond the tenth have the colours again, with other markers.
const markerOf = (value) => (value + Math.floor(value / CLASSES.length)) % MARKERS.length;

function onRamp(share) {
  const place = Math.min(1, Math.max(0, share)) * (RAMP.length - 1);
  const below = Math.min(RAMP.length - 2, Math.floor(place));
  return RAMP[below].map((one, index) => Math.round(one + (RAMP[below + 1][index] - one) * (place - below)));
}

// RGBA bytes and markers for all points, and the values that they stand for.
export function colouring(colour) {
  const values = floats(colour.values);
  const bytes = new Uint8Array(4 * values.length);
  const shapes = new Float32Array(values.length);
  const range = colour.high > colour.low ? colour.high - colour.low : 1;
  values.forEach((value, index) => {
    let found = UNKNOWN;
    if (Number.isFinite(value)) {
      found = colour.classes ? [...colourOf(value), 220] : [...onRamp((value - colour.low) / range), 220];
      if (colour.classes) shapes[index] = markerOf(value);
    }
    bytes.set(found, 4 * index);
  });
  return {bytes, shapes, values};
}

// The bytes with all points faint but those that `kept` says.
export function faded(bytes, kept) {
  const found = bytes.slice();
  for (let point = 0; point < bytes.length / 4; point += 1) if (!kept(point)) found.set(FAINT, 4 * point);
  return found;
}

function marker(value) {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  const path = document.createElementNS(space, 'path');
  for (const [key, given] of Object.entries({viewBox: '0 0 10 10', width: 11, height: 11, 'aria-hidden': 'true'})) svg.setAttribute(key, given);
  for (const [key, given] of Object.entries({d: DRAWN[markerOf(value)], fill: `rgb(${colourOf(value).join(',')})`, 'fill-rule': 'evenodd'})) path.setAttribute(key, given);
  svg.append(path);
  return svg;
}

// `lit` holds the classes that are highlighted; `onClass(value)` is a click on one.
export function legend(colour, count, lit, onClass) {
  const missing = count - colour.known;
  const rest = missing > 0 ? el('p', {class: 'quiet'}, `${missing.toLocaleString('en')} of ${count.toLocaleString('en')} points have no value (grey)`) : null;
  if (colour.classes) {
    const shown = colour.classes.slice(0, 40);
    const spots = shown.map((name, index) => el('button', {type: 'button', title: `Highlight ${name}`, 'aria-pressed': String(lit.has(index)),
      onclick: () => onClass(index)}, marker(index), name));
    const more = colour.classes.length - shown.length;
    return el('div', {}, el('div', {class: 'legend'}, ...spots, more > 0 ? `and ${more} more` : null,
      lit.size ? el('button', {type: 'button', onclick: () => onClass(null)}, 'All') : null), rest);
  }
  if (!colour.known) return el('div', {}, el('p', {class: 'quiet'}, 'no values'), rest);
  const ramp = el('canvas', {class: 'ramp', width: 100, height: 1, role: 'img', 'aria-label': 'from dark, low, to bright, high'});
  const pixels = new ImageData(100, 1);
  for (let place = 0; place < 100; place += 1) pixels.data.set([...onRamp(place / 99), 255], 4 * place);
  ramp.getContext('2d').putImageData(pixels, 0, 0);
  return el('div', {}, el('div', {class: 'legend'}, el('span', {}, number(colour.low)), ramp, el('span', {}, number(colour.high))), rest);
}
