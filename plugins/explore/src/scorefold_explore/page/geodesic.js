// The panel of two points: the geodesic next to the straight line, decoded along a slider.

import {choices, el, facts, number, panel, problem} from './elements.js';
import {ask, Stopped, still} from './api.js';
import {copyButton} from './copying.js';
import {paint, picture, table} from './pictures.js';

const STEPS = 20;

export function geodesicPanel(page) {
  const spaces = page.overview.models.geometry;
  const body = panel('Between two points', 'geodesic', 'below');
  if (!spaces.length) {
    body.append(el('p', {class: 'quiet'}, `This run has no geometry. What would add one: ${page.overview.missing.geodesics ?? 'a stage of the kind geometry'}.`));
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
    try {
      const found = await ask('geodesic', given, {title: 'Geodesic', onJob: (one) => { stop = one; }});
      if (mine === asked) place.replaceChildren(...curves(page, found, given, performance.now() - began));
    } catch (error) {
      if (mine === asked && !(error instanceof Stopped)) place.replaceChildren(problem(error));
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
  const large = ['curve', 'line'].map((which) => picture(found[which], 0, 140, which === 'curve' ? 'geodesic' : 'straight line', page.columns));
  const named = {curve: 'geodesic', line: 'straight line'};
  const places = ['curve', 'line'].map((which, index) => el('figure', {}, large[index], el('figcaption', {}, named[which])));
  const side = el('div', {class: 'pair'}, ...places);

  function show() {
    const at = Number(slider.value);
    for (const [index, which] of ['curve', 'line'].entries()) {
      if (images) paint(large[index], found[which], at);
      else places[index].firstChild.replaceWith(table([found[which].rows[at]], page.columns));
    }
    if (found.curve_map && page.map) {
      page.map.paths([{path: found.line_map, colour: [194, 65, 12]}, {path: found.curve_map, colour: [11, 99, 176]}]);
      page.marks([{position: found.curve_map[at], colour: [11, 99, 176]}, {position: found.line_map[at], colour: [194, 65, 12]}]);
    }
  }
  slider.addEventListener('input', show);
  const strips = images ? ['curve', 'line'].map((which) => el('div', {}, el('h3', {}, named[which]), el('div', {class: 'strip'},
    Array.from({length: given.steps}, (_, at) => picture(found[which], at, 34, `${named[which]}, ${at + 1} of ${given.steps}`))))) : [];
  show();
  return [side, el('label', {}, 'along ', slider), ...strips,
    facts([['distance', number(found.distance)], ['length of the geodesic', number(found.curve_length)], ['length of the line', number(found.line_length)],
      ['answered in', still ? null : `${Math.round(milliseconds)} ms, of which the geodesic took ${(1000 * found.seconds).toFixed(1)} ms`]]),
    found.curve_map ? null : el('p', {class: 'quiet'}, 'This map has no place for other points, so the curves are not on it.'),
    el('div', {class: 'row'}, copyButton('geodesic', () => given))].filter(Boolean);
}
