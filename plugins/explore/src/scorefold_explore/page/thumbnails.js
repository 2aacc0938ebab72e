// Images on the map, where it is near enough for them: one in each square of the screen, of the points in view.

import {byId} from './elements.js';
import {ask} from './api.js';
import {paint} from './pictures.js';

const SIDE = 34;
const MOST = 150;
const CROWD = 1200;
const KEPT = 2000;

export function thumbnails(page) {
  const tiles = new Map();
  const box = byId('images');
  byId('images-row').hidden = false;
  let number = 0;

  // At most one point for each square of the grid, in a fixed random order; none where too many points are in view.
  function chosen() {
    const squares = new Map();
    let count = 0;
    for (const {point, x, y} of page.map.visible()) {
      count += 1;
      if (count > CROWD) return [];
      const square = `${Math.floor(x / SIDE)},${Math.floor(y / SIDE)}`;
      if (!squares.has(square) && squares.size < MOST) squares.set(square, point);
    }
    return [...squares.values()];
  }

  async function show() {
    const mine = (number += 1);
    if (!box.checked) {
      page.map.tiles([]);
      return;
    }
    const points = chosen();
    const wanted = points.filter((point) => !tiles.has(point));
    try {
      if (wanted.length) {
        const found = await ask('pictures', {points: wanted}, {quiet: true});
        if (tiles.size > KEPT) tiles.clear();
        wanted.forEach((point, which) => {
          const canvas = document.createElement('canvas');
          paint(canvas, found, which);
          tiles.set(point, canvas);
        });
      }
      if (mine === number) page.map.tiles(points.filter((point) => tiles.has(point)).map((point) => ({point, tile: tiles.get(point), size: SIDE - 4})));
    } catch {
      // The points stay without images; the page says it where the server has ended.
    }
  }
  page.rested = show;
  box.onchange = show;
}
