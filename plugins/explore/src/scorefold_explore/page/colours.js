// Colours of points: a class each, or a ramp from low to high.

import {el, number} from './elements.js';
import {floats} from './api.js';

const CLASSES = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [213, 94, 0], [86, 180, 233], [148, 103, 189],
  [140, 86, 75], [188, 189, 34], [23, 190, 207], [127, 127, 127], [174, 199, 232]];
const RAMP = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89],
  [180, 222, 44], [253, 231, 37]];
const UNKNOWN = [150, 150, 150, 90];

function onRamp(share) {
  const place = Math.min(1, Math.max(0, share)) * (RAMP.length - 1);
  const below = Math.min(RAMP.length - 2, Math.floor(place));
  return RAMP[below].map((one, index) => Math.round(one + (RAMP[below + 1][index] - one) * (place - below)));
}

// RGBA bytes for all points, and the values they stand for.
export function colouring(colour) {
  const values = floats(colour.values);
  const bytes = new Uint8Array(4 * values.length);
  const range = colour.high > colour.low ? colour.high - colour.low : 1;
  values.forEach((value, index) => {
    let found = UNKNOWN;
    if (Number.isFinite(value)) {
      found = colour.classes ? [...CLASSES[value % CLASSES.length], 220] : [...onRamp((value - colour.low) / range), 220];
    }
    bytes.set(found, 4 * index);
  });
  return {bytes, values};
}

export function legend(colour, count) {
  const missing = count - colour.known;
  const rest = missing > 0 ? el('p', {class: 'quiet'}, `not known of ${missing.toLocaleString('en')} of ${count.toLocaleString('en')} points (grey)`) : null;
  if (colour.classes) {
    const shown = colour.classes.slice(0, 40);
    const spots = shown.map((name, index) => {
      const spot = el('i');
      spot.style.background = `rgb(${CLASSES[index % CLASSES.length].join(',')})`;
      return el('span', {}, spot, name);
    });
    const more = colour.classes.length - shown.length;
    return el('div', {}, el('div', {class: 'legend'}, ...spots, more > 0 ? `and ${more} more` : null), rest);
  }
  if (!colour.known) return el('div', {}, el('p', {class: 'quiet'}, 'no values'), rest);
  const ramp = el('canvas', {class: 'ramp', width: 100, height: 1, role: 'img', 'aria-label': 'from dark, low, to bright, high'});
  const pixels = new ImageData(100, 1);
  for (let place = 0; place < 100; place += 1) pixels.data.set([...onRamp(place / 99), 255], 4 * place);
  ramp.getContext('2d').putImageData(pixels, 0, 0);
  return el('div', {}, el('div', {class: 'legend'}, el('span', {}, number(colour.low)), ramp, el('span', {}, number(colour.high))), rest);
}
