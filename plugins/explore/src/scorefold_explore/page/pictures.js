// Points on the page: tiles of bytes on canvases, or numbers in a table.

import {el, number} from './elements.js';
import {ask} from './api.js';

const decoded = new WeakMap();

function bytes(tiles) {
  if (!decoded.has(tiles)) decoded.set(tiles, Uint8Array.from(atob(tiles.data), (letter) => letter.charCodeAt(0)));
  return decoded.get(tiles);
}

export function paint(canvas, tiles, which = 0) {
  const {height, width, channels} = tiles;
  canvas.width = width;
  canvas.height = height;
  const source = bytes(tiles);
  const image = new ImageData(width, height);
  const start = which * height * width * channels;
  for (let pixel = 0; pixel < height * width; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      image.data[4 * pixel + channel] = source[start + pixel * channels + (channels === 3 ? channel : 0)];
    }
    image.data[4 * pixel + 3] = 255;
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
}

export function tile(tiles, which, size, label) {
  const canvas = el('canvas', {class: 'tile', role: 'img', 'aria-label': label});
  canvas.style.width = `${size}px`;
  canvas.style.height = `${Math.round(size * tiles.height / tiles.width)}px`;
  paint(canvas, tiles, which);
  return canvas;
}

export function table(rows, columns) {
  const most = 12;
  const names = (index) => columns[index] ?? `${index + 1}`;
  const lines = [...rows[0].keys()].slice(0, most).map((index) => el('tr', {},
    el('th', {scope: 'row'}, names(index)), ...rows.map((row) => el('td', {}, number(row[index])))));
  const rest = rows[0].length - most;
  return el('div', {}, el('table', {}, ...lines), rest > 0 ? el('p', {class: 'quiet'}, `and ${rest} more`) : null);
}

// One event of an answer, as large as asked.
export function picture(shown, which, size, label, columns) {
  return shown.kind === 'images' ? tile(shown, which, size, label) : table([shown.rows[which]], columns);
}

const remembered = new Map();

// The picture of one point, asked for once.
export function pictureOf(point) {
  if (!remembered.has(point)) {
    const found = ask('pictures', {points: [point]});
    found.catch(() => remembered.delete(point));
    remembered.set(point, found);
    if (remembered.size > 3000) remembered.delete(remembered.keys().next().value);
  }
  return remembered.get(point);
}
