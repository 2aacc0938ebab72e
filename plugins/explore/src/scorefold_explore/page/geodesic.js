// The panel of two points: the geodesic next to the straight line and the path through noise, along a slider. A geometry
// that is solved by numbers gives a first look, which the geodesic replaces.

import {choices, el, facts, number, panel, problem} from './elements.js';
import {ask, Stopped, still} from './api.js';
import {copyButton} from './copying.js';
import {paint, picture, table} from './pictures.js';
import {missingPart} from './training.js';

const STEPS = 20;
const NAMES = {curve: 'geodesic', line: 'straight line', noise: 'through noise'};
const COLOURS = {curve: [11, 99, 176], line: [194, 65, 12], noise: [21, 128, 61]};

export function geodesicPanel(page) {
  const spaces = page.overview.models.geometry;
  const body = panel('Between two points', 'geodesic', 'below');
  if (!spaces.length) {
    body.append(missingPart(page, 'geodesics', 'There is no geometry yet, which finds the shortest way along the data between two points.'));
    return;
  }
  const select = el('select', {id: 'geometry', 'aria-label': 'geometry'});
  choices(select, spaces.map((one) => ({name: one.name, text: `${one.name} (${one.component})`})),
    (spaces.find((one) => one.component !== 'geometry:euclidean') ?? spaces[0]).name);
  const ends = ['first point', 'second point'].map((label) => el('input', {class: 'point', 'aria-label': label}));
  const place = el('div', {}, el('p', {class: 'quiet'}, 'Click two points of the map, or type their rows.'));
  const said = el('div');
  const swap = el('button', {type: 'button', onclick: () => page.pair(page.ends[1], page.ends[0])}, 'Swap');
  body.append(el('div', {class: 'row'}, el('label', {}, 'From ', ends[0]), el('label', {}, 'to ', ends[1]), swap, el('label', {}, 'by ', select)), said, place);
  if (page.overview.missing.geodesics) {
    body.append(missingPart(page, 'geodesics', 'There are only straight lines yet. A geodesic follows the data.'));
  }

  let stop = null;
  let asked = 0;
  async function show() {
    const [start, end] = page.ends;
    for (const [index, input] of ends.entries()) input.value = page.ends[index] === null ? '' : page.called(page.ends[index]);
    said.replaceChildren();
    page.map?.paths([]);
    if (start === null || end === null) return;
    const mine = (asked += 1);
    stop?.();
    stop = null;
    const given = {geometry: select.value, start, end, steps: STEPS, map: page.mapName()};
    const began = performance.now();
    const onJob = (one) => { stop = one; };
    try {
      if (!still && page.overview.sketches?.includes(given.geometry)) {
        const first = await ask('geodesic', {...given, rough: true}, {title: 'First look', onJob});
        if (mine !== asked) return;
        place.replaceChildren(...curves(page, first, given, performance.now() - began));
      }
      const found = await ask('geodesic', given, {title: 'Geodesic', onJob});
      if (mine === asked) place.replaceChildren(...curves(page, found, given, performance.now() - began));
    } catch (error) {
      if (mine !== asked || error instanceof Stopped) return;
      page.map?.paths([]);
      place.replaceChildren(problem(error));
    }
  }
  page.onPair(show);
  page.onMap(show);
  select.addEventListener('change', show);
  for (const [index, input] of ends.entries()) {
    page.typed(input, said, (point) => page.pair(index === 0 ? point : page.ends[0], index === 1 ? point : page.ends[1]));
  }
}

function curves(page, found, given, milliseconds) {
  const images = found.curve.kind === 'images';
  const slider = el('input', {type: 'range', min: 0, max: given.steps - 1, value: Math.floor(given.steps / 2), 'aria-label': 'place along the curves', id: 'along'});
  const ways = Object.keys(NAMES).filter((which) => found[which]);
  const named = {...NAMES, curve: found.rough ? 'first look, not checked: the geodesic follows' : NAMES.curve};
  const large = ways.map((which) => picture(found[which], 0, 140, NAMES[which], page.columns));
  const places = ways.map((which, index) => el('figure', {}, large[index], el('figcaption', {}, named[which])));
  const side = el('div', {class: 'pair'}, ...places);

  function show() {
    const at = Number(slider.value);
    for (const [index, which] of ways.entries()) {
      if (images) paint(large[index], found[which], at);
      else places[index].firstChild.replaceWith(table([found[which].rows[at]], page.columns));
    }
    if (found.curve_map && page.map) {
      const drawn = [...ways].reverse();
      page.map.paths(drawn.map((which) => ({path: found[`${which}_map`], colour: COLOURS[which]})));
      page.marks(ways.map((which) => ({position: found[`${which}_map`][at], colour: COLOURS[which]})));
    }
  }
  slider.addEventListener('input', show);
  const strips = images ? ways.map((which) => el('div', {}, el('h3', {}, named[which]), el('div', {class: 'strip'},
    Array.from({length: given.steps}, (_, at) => picture(found[which], at, 34, `${NAMES[which]}, ${at + 1} of ${given.steps}`))))) : [];
  show();
  return [side, el('label', {}, 'along ', slider), ...strips,
    facts([['distance', found.distance === null ? null : `${number(found.distance)} in this geometry`],
      [`length of the ${found.rough ? 'first look' : 'geodesic'}`, number(found.curve_length)], ['length of the straight line', number(found.line_length)],
      ['unit of both lengths', page.overview.units.own],
      ['computed in', still ? null : `${(milliseconds / 1000).toFixed(1)} s`]]),
    found.curve_map ? null : el('p', {class: 'quiet'}, 'This map has no place for other points, so the curves are not on it.'),
    el('div', {class: 'row'}, copyButton('geodesic', () => given))].filter(Boolean);
}
