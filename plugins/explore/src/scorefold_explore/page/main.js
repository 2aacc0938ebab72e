// The page: what is selected, the map with its controls, and the panels that listen.

import {byId, choices, el, number, problem} from './elements.js';
import {ask, floats, Problem, still, Stopped} from './api.js';
import {codePanel} from './code.js';
import {colouring, legend} from './colours.js';
import {conditionPanel} from './condition.js';
import {show as copy} from './copying.js';
import {geodesicPanel} from './geodesic.js';
import {createMap, webgl} from './map.js';
import {keptPanel, notesPanel} from './notes.js';
import {picture, pictureOf} from './pictures.js';
import {pointPanel} from './point.js';

const FIRST = [11, 99, 176];
const SECOND = [194, 65, 12];

// What each point is called, the row of the data that it is or its place among samples, and the point of each name.
function naming(groups) {
  const names = [];
  const points = new Map();
  const lone = groups.filter((group) => group.samples).length === 1;
  for (const group of groups) {
    const from = group.origin === groups[0].origin || (lone && group.samples) ? '' : ` of ${group.origin}`;
    for (let point = group.start; point < group.stop; point += 1) {
      const row = group.rows?.[point - group.start];
      const own = group.samples ? `sample ${point - group.start}` : `point ${point}`;
      names.push((Number.isInteger(row) ? `row ${row}` : row ?? own) + from);
      if (!points.has(names[point])) points.set(names[point], point);
    }
  }
  const there = () => {
    const main = groups.filter((group) => group.origin === groups[0].origin);
    const rows = main.flatMap((group) => group.rows ?? []);
    const numbers = rows.filter(Number.isInteger).sort((a, b) => a - b);
    if (numbers.length) return `it has ${numbers.length} rows from ${numbers[0]} to ${numbers.at(-1)}`;
    return rows.length ? `it has ${rows.length} rows, such as ${names[0]}` : `it has ${names[0]} to ${names[main.at(-1).stop - 1]}`;
  };
  const find = (text) => {
    const found = [text, `row ${text}`, `point ${text}`].map((name) => points.get(name)).find((point) => point !== undefined);
    if (found === undefined) throw new Problem({message: `${text} is not on this page`, hint: there()});
    return found;
  };
  return {called: (point) => names[point], find};
}

function createPage(overview) {
  const listeners = {point: [], pair: [], map: []};
  const {called, find} = naming(overview.groups);
  const page = {
    overview,
    called,
    columns: overview.columns,
    map: null,
    values: null,
    ends: [null, null],
    onPoint: (listener) => listeners.point.push(listener),
    onPair: (listener) => listeners.pair.push(listener),
    onMap: (listener) => listeners.map.push(listener),
    mapName: () => byId('map-name').value,
    mapChanged: () => listeners.map.forEach((listener) => listener()),
    // Gives `chosen` the point whose row is typed, null for none; what is not there is said in `place`.
    typed: (input, place, chosen) => input.addEventListener('change', () => {
      const text = input.value.trim();
      place.replaceChildren();
      try {
        chosen(text === '' ? null : find(text));
      } catch (error) {
        place.replaceChildren(problem(error));
      }
    }),
    // A point that is picked becomes the second end where there is one to pair it with, else a new first one.
    pick: (point) => {
      const [start, end] = page.ends;
      page.pair(...(start !== null && end === null && start !== point ? [start, point] : [point, null]));
      page.map?.look(point);
      byId('go').value = called(point);
      byId('go-said').replaceChildren();
      listeners.point.forEach((listener) => listener(point));
    },
    pair: (start, end) => {
      page.ends = [start, end];
      page.marks([]);
      listeners.pair.forEach((listener) => listener());
    },
    marks: (more) => {
      if (!page.map) return;
      const ends = page.ends.map((point, index) => (point === null ? null : {position: page.map.place(point), colour: index ? SECOND : FIRST}));
      page.map.marks([...ends.filter(Boolean), ...more]);
    },
  };
  return page;
}

function head(overview) {
  document.title = `${overview.title} – Scorefold explore`;
  byId('title').textContent = overview.title;
  const shape = overview.event_shape.join(' x ');
  byId('facts').textContent = `${overview.points.toLocaleString('en')} points of ${shape}${overview.state === 'running' ? ', still running' : ''}`;
  if (still) byId('save').hidden = true;
  const theme = byId('theme');
  const dark = () => document.documentElement.dataset.theme === 'dark'
    || (!document.documentElement.dataset.theme && matchMedia('(prefers-color-scheme: dark)').matches);
  const name = () => { theme.textContent = dark() ? 'Light' : 'Dark'; };
  theme.addEventListener('click', () => {
    document.documentElement.dataset.theme = dark() ? 'light' : 'dark';
    name();
  });
  name();
}

function hoverCard(page) {
  const card = byId('card');
  let shown = null;
  return async (point, x, y, aloud) => {
    shown = point;
    if (point === null) {
      card.hidden = true;
      return;
    }
    const lines = [page.called(point), page.group(point), page.value(point)].filter(Boolean);
    const place = el('div');
    card.replaceChildren(place, ...lines.map((line) => el('div', {}, line)));
    card.hidden = false;
    card.style.left = `${Math.min(x + 16, innerWidth - 180)}px`;
    card.style.top = `${Math.min(y + 16, innerHeight - 180)}px`;
    if (aloud) byId('map-said').textContent = lines.join(', ');
    try {
      const found = await pictureOf(point);
      if (shown === point) place.replaceChildren(picture(found, 0, 96, page.called(point), page.columns));
    } catch {
      // The numbers stay; a still page holds images of some points only.
    }
  };
}

function mapControls(page) {
  const {overview} = page;
  choices(byId('map-name'), overview.maps, overview.maps[0].name);
  const first = ['label', 'group'].find((name) => overview.colours.some((one) => one.name === name));
  choices(byId('colour-name'), overview.colours.map((one) => ({...one, text: one.ready ? one.text : `${one.text}…`})), first);
  page.group = (point) => overview.groups.find((one) => point >= one.start && point < one.stop)?.name;
  page.value = (point) => {
    if (!page.values) return null;
    const value = page.values[point];
    if (!Number.isFinite(value)) return null;
    return `${page.colour.text}: ${page.colour.classes ? page.colour.classes[value] : number(value)}`;
  };
  let [mapNumber, colourNumber, chosen] = [0, 0, first];

  async function showMap() {
    const mine = (mapNumber += 1);
    try {
      const found = await ask('map', {name: byId('map-name').value}, {title: 'Map'});
      if (mine !== mapNumber) return;
      page.map?.points(floats(found.positions));
      page.map?.fit();
      byId('axes').textContent = `across: ${found.axes[0]}; up: ${found.axes[1]}`;
      page.marks([]);
      page.mapChanged();
    } catch (error) {
      if (!(error instanceof Stopped)) byId('axes').replaceChildren(problem(error));
    }
  }

  async function showColour() {
    const mine = (colourNumber += 1);
    const name = byId('colour-name').value;
    try {
      const found = await ask('colour', {name}, {title: 'Colour'});
      if (mine !== colourNumber) return;
      const {bytes, values} = colouring(found);
      [page.values, page.colour, chosen] = [values, found, name];
      page.map?.colours(bytes);
      byId('legend').replaceChildren(legend(found, overview.points));
    } catch (error) {
      if (error instanceof Stopped) byId('colour-name').value = chosen;
      else byId('legend').replaceChildren(problem(error));
    }
  }

  byId('map-name').addEventListener('change', showMap);
  byId('colour-name').addEventListener('change', showColour);
  byId('fit').addEventListener('click', () => page.map?.fit());
  byId('nearer').addEventListener('click', () => page.map?.zoom(1.5));
  byId('farther').addEventListener('click', () => page.map?.zoom(1 / 1.5));
  byId('copy-map').addEventListener('click', () => {
    const ready = overview.colours.find((one) => one.name === byId('colour-name').value)?.ready;
    copy(ready ? 'map' : 'colour', {name: ready ? byId('map-name').value : byId('colour-name').value});
  });
  byId('go').placeholder = page.called(0);
  page.typed(byId('go'), byId('go-said'), (point) => point !== null && page.pick(point));
  return Promise.all([showMap(), showColour()]);
}

async function start() {
  let overview;
  try {
    overview = await ask('overview');
  } catch (error) {
    byId('panels').replaceChildren(problem(error));
    return;
  }
  head(overview);
  const page = createPage(overview);
  if (webgl()) {
    page.map = createMap(byId('map'), {onHover: hoverCard(page), onPick: page.pick, onMove: () => { byId('card').hidden = true; }});
  } else {
    byId('map').textContent = 'This browser has no WebGL 2, so the map is not shown. Go to points by their rows.';
  }
  keptPanel(page);
  pointPanel(page);
  geodesicPanel(page);
  codePanel(page);
  conditionPanel(page);
  notesPanel(page);
  await mapControls(page);
  document.body.dataset.ready = 'true';
}

start();
