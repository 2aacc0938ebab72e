// The page: what is selected, the maps with their controls, and the panels that listen.

import {byId, choices, el, number, problem} from './elements.js';
import {read, written} from './address.js';
import {ask, floats, Problem, still, Stopped} from './api.js';
import {codePanel} from './code.js';
import {colouring, faded, legend} from './colours.js';
import {conditionPanel} from './condition.js';
import {show as copy} from './copying.js';
import {geodesicPanel} from './geodesic.js';
import {createMap, webgl} from './map.js';
import {keptPanel, notesPanel, warningBar} from './notes.js';
import {picture, pictureOf} from './pictures.js';
import {pointPanel} from './point.js';
import {search} from './search.js';
import {selectionPanel} from './selection.js';
import {thumbnails} from './thumbnails.js';
import {goesOn, trainingPanel} from './training.js';

const FIRST = [11, 99, 176];
const SECOND = [194, 65, 12];
const SCALED = ['pca', 'umap', 'dimension', 'isolation'];

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
  const named = (text) => [text, `row ${text}`, `point ${text}`].map((name) => points.get(name)).find((point) => point !== undefined);
  return {called: (point) => names[point], named, there};
}

// What stays while panels are made anew: the maps, the points that are picked, and the selection.
function createPage(overview) {
  const listeners = {};
  const heard = (name) => (listener) => (listeners[name] ??= []).push(listener);
  const say = (name, ...given) => (listeners[name] ?? []).forEach((listener) => listener(...given));
  const page = {
    overview,
    ...naming(overview.groups),
    columns: overview.columns,
    map: null,
    second: null,
    values: null,
    ends: [null, null],
    selection: [],
    lit: new Set(),
    onPoint: heard('point'),
    onPair: heard('pair'),
    onMap: heard('map'),
    onSelection: heard('selection'),
    onColours: heard('colours'),
    onMinutes: heard('minutes'),
    onState: heard('state'),
    mapName: () => page.scaled(byId('map-name').value),
    scale: () => byId('scale').value || 'own',
    scaled: (name) => (SCALED.includes(name) && page.scale() !== 'own' ? `${name}:${page.scale()}` : name),
    mapChanged: () => say('map'),
    minutesChanged: () => say('minutes'),
    stateChanged: () => say('state'),
    silence: () => Object.keys(listeners).filter((name) => name !== 'state').forEach((name) => { listeners[name] = []; }),
    // Gives `chosen` the point whose row is typed, null for none; what is not there is said in `place`.
    typed: (input, place, chosen) => input.addEventListener('change', () => {
      const text = input.value.trim();
      place.replaceChildren();
      const point = text === '' ? null : page.named(text);
      if (point === undefined) place.replaceChildren(problem(new Problem({message: `${text} is not on this page`, hint: page.there()})));
      else chosen(point);
    }),
    // A point that is picked becomes the second end where there is one to pair it with, else a new first one.
    pick: (point) => {
      const [start, end] = page.ends;
      page.pair(...(start !== null && end === null && start !== point ? [start, point] : [point, null]));
      page.look(point);
    },
    look: (point) => {
      for (const map of page.maps()) map.look(point);
      byId('go').value = page.called(point);
      byId('go-said').replaceChildren();
      say('point', point);
    },
    pair: (start, end) => {
      page.ends = [start, end];
      page.marks([]);
      say('pair');
      page.stateChanged();
    },
    maps: () => [page.map, page.second].filter(Boolean),
    marks: (more) => {
      for (const map of page.maps()) {
        const ends = page.ends.map((point, index) => (point === null ? null : {position: map.place(point), colour: index ? SECOND : FIRST}));
        map.marks([...ends.filter(Boolean), ...(map === page.map ? more : [])]);
      }
    },
    selected: (points) => {
      page.selection = points;
      page.paint();
      say('selection');
      page.stateChanged();
    },
    tagsChanged: () => {
      const there = page.overview.colours.some((one) => one.name === 'tag');
      if (!there) page.overview.colours.splice(1, 0, {name: 'tag', text: 'tag', ready: true});
      page.coloursChanged();
    },
    coloursChanged: () => say('colours'),
    alone: () => false,
    // Colours and markers on the maps: faint where a class is highlighted or points are selected, and others not.
    paint: () => {
      if (!page.colours) return;
      const chosen = new Uint8Array(page.overview.points);
      for (const point of page.selection) chosen[point] = 1;
      const some = page.selection.length > 0;
      const kept = (point) => (!some || chosen[point]) && (!page.lit.size || page.lit.has(page.values[point]));
      const bytes = some || page.lit.size ? faded(page.colours.bytes, kept) : page.colours.bytes;
      const alone = some && page.alone();
      const hidden = alone ? chosen.map((one) => 1 - one) : null;
      const seen = alone ? bytes.map((byte, index) => (index % 4 === 3 && hidden[index >> 2] ? 0 : byte)) : bytes;
      for (const map of page.maps()) {
        map.shapes(page.colours.shapes);
        map.colours(seen);
        map.hidden(hidden);
      }
      page.stateChanged();
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
}

function themeButton(page) {
  const theme = byId('theme');
  const dark = () => document.documentElement.dataset.theme === 'dark'
    || (!document.documentElement.dataset.theme && matchMedia('(prefers-color-scheme: dark)').matches);
  const name = () => { theme.textContent = dark() ? 'Light' : 'Dark'; };
  theme.addEventListener('click', () => {
    document.documentElement.dataset.theme = dark() ? 'light' : 'dark';
    name();
    page.paint();
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

// The choices of map, colour and scale, from what can be shown now.
function fill(page) {
  const {overview} = page;
  const first = ['label', 'group'].find((name) => overview.colours.some((one) => one.name === name));
  const had = (id, items, other) => (items.some((one) => one.name === byId(id).value) ? byId(id).value : other);
  const other = overview.maps.find((one) => one.name.endsWith('(second run)')) ?? overview.maps.at(-1);
  // A code of the second run stands next to the code of the first.
  const like = overview.maps.find((one) => `${one.name} (second run)` === other.name) ?? overview.maps[0];
  choices(byId('map-name'), overview.maps, had('map-name', overview.maps, like.name));
  choices(byId('second-name'), overview.maps, had('second-name', overview.maps, other.name));
  choices(byId('colour-name'), overview.colours.map((one) => ({...one, text: one.ready ? one.text : `${one.text}…`})), had('colour-name', overview.colours, first));
  choices(byId('scale'), overview.scales, had('scale', overview.scales, 'own'));
  byId('scale-row').hidden = still || overview.scales.length < 2;
}

function mapControls(page) {
  page.group = (point) => page.overview.groups.find((one) => point >= one.start && point < one.stop)?.name;
  page.value = (point) => {
    if (!page.values) return null;
    const value = page.values[point];
    if (!Number.isFinite(value)) return null;
    return `${page.colour.text}: ${page.colour.classes ? page.colour.classes[value] : number(value)}`;
  };
  fill(page);
  const numbers = {map: 0, second: 0, colour: 0};
  let chosen = byId('colour-name').value;

  async function showMap(view = null) {
    const mine = (numbers.map += 1);
    try {
      const found = await ask('map', {name: page.mapName()}, {title: 'Map'});
      if (mine !== numbers.map) return;
      page.map?.points(floats(found.positions));
      if (view) page.map?.show(view);
      else page.map?.fit();
      byId('axes').textContent = `across: ${found.axes[0]}; up: ${found.axes[1]}`;
      page.marks([]);
      page.mapChanged();
    } catch (error) {
      if (!(error instanceof Stopped)) byId('axes').replaceChildren(problem(error));
    }
  }

  async function showSecond() {
    const mine = (numbers.second += 1);
    if (!page.second) return;
    try {
      const found = await ask('map', {name: page.scaled(byId('second-name').value)}, {title: 'Second map'});
      if (mine !== numbers.second) return;
      page.second.points(floats(found.positions));
      page.second.fit();
      byId('second-axes').textContent = `across: ${found.axes[0]}; up: ${found.axes[1]}`;
      page.paint();
      page.marks([]);
    } catch (error) {
      if (!(error instanceof Stopped)) byId('second-axes').replaceChildren(problem(error));
    }
  }

  function showLegend() {
    byId('legend').replaceChildren(legend(page.colour, page.overview.points, page.lit, (value) => {
      if (value === null) page.lit.clear();
      else if (!page.lit.delete(value)) page.lit.add(value);
      showLegend();
      page.paint();
    }));
  }

  async function showColour(lit = []) {
    const mine = (numbers.colour += 1);
    const name = byId('colour-name').value;
    try {
      const found = await ask('colour', {name: page.scaled(name)}, {title: 'Colour'});
      if (mine !== numbers.colour) return;
      page.colours = colouring(found);
      [page.values, page.colour, chosen] = [page.colours.values, found, name];
      page.lit = new Set(found.classes ? lit.filter((value) => value < found.classes.length) : []);
      page.paint();
      showLegend();
      page.selected(page.selection);
    } catch (error) {
      if (error instanceof Stopped) byId('colour-name').value = chosen;
      else byId('legend').replaceChildren(problem(error));
    }
  }

  // What is about distances has another scale: the map, some colours, and the point that is shown.
  function rescale() {
    if (SCALED.includes(byId('map-name').value)) showMap();
    if (SCALED.includes(byId('second-name').value)) showSecond();
    if (SCALED.includes(byId('colour-name').value)) showColour();
    const last = page.ends.findLast((point) => point !== null) ?? null;
    if (last !== null) page.look(last);
    warningBar(page);
    page.stateChanged();
  }

  byId('map-name').addEventListener('change', () => showMap());
  byId('second-name').addEventListener('change', showSecond);
  byId('colour-name').addEventListener('change', () => showColour());
  byId('scale').addEventListener('change', rescale);
  page.rescale = (name) => {
    byId('scale').value = name;
    rescale();
  };
  byId('fit').addEventListener('click', () => page.maps().forEach((map) => map.fit()));
  byId('nearer').addEventListener('click', () => page.map?.zoom(1.5));
  byId('farther').addEventListener('click', () => page.map?.zoom(1 / 1.5));
  byId('two').addEventListener('click', () => {
    const open = byId('two').getAttribute('aria-pressed') !== 'true';
    byId('two').setAttribute('aria-pressed', String(open));
    byId('second-side').hidden = !open;
    page.twoMaps(open);
    showSecond();
  });
  for (const button of document.querySelectorAll('[data-tool]')) {
    if (button.id === 'map' || button.id === 'second') continue;
    button.addEventListener('click', () => {
      for (const one of document.querySelectorAll('button[data-tool]')) one.setAttribute('aria-pressed', String(one === button));
      page.tool = button.dataset.tool;
      for (const map of page.maps()) map.tool(page.tool);
    });
  }
  byId('copy-map').addEventListener('click', () => {
    const ready = page.overview.colours.find((one) => one.name === byId('colour-name').value)?.ready;
    copy(ready ? 'map' : 'colour', {name: ready ? page.mapName() : byId('colour-name').value});
  });
  byId('go').placeholder = page.called(0);
  byId('go').addEventListener('change', () => search(page, byId('go').value));
  page.onState(() => remember(page));
  Object.assign(page, {showMap, showColour, showSecond});
}

let later = null;
let opening = true;

// Writes what is shown into the address, shortly after the last change.
function remember(page) {
  clearTimeout(later);
  if (opening) return;
  later = setTimeout(() => {
    const text = written({map: byId('map-name').value, colour: byId('colour-name').value, scale: page.scale(), view: page.map?.view(),
      ends: page.ends, classes: [...page.lit].sort((a, b) => a - b), selection: page.selection});
    if (`#${text}` === location.hash) return;
    try {
      history.replaceState(null, '', `#${text}`);
    } catch {
      // A page from disk may have no address of its own.
    }
  }, 250);
}

// Shows what the address says.
async function recall(page) {
  const {maps, colours, scales, points} = page.overview;
  const said = read(location.hash.slice(1), {maps, colours, scales, points});
  if (said.map) byId('map-name').value = said.map;
  if (said.colour) byId('colour-name').value = said.colour;
  byId('scale').value = said.scale ?? 'own';
  warningBar(page);
  page.selection = said.selection;
  await Promise.all([page.showMap(said.view), page.showColour(said.classes)]);
  const [start, end] = said.ends;
  if (start !== null) page.look(end ?? start);
  if (start !== null || end !== null) page.pair(start, end);
}

function panels(page) {
  for (const id of ['panels', 'below']) byId(id).replaceChildren();
  page.silence();
  warningBar(page);
  trainingPanel(page);
  keptPanel(page);
  pointPanel(page);
  selectionPanel(page);
  geodesicPanel(page);
  codePanel(page);
  conditionPanel(page);
  notesPanel(page);
  if (page.map && page.overview.image && !still) thumbnails(page);
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
  const listening = {onPick: page.pick, onHover: hoverCard(page), onSelect: (points) => page.select(points),
    onMove: () => { byId('card').hidden = true; }};
  if (webgl()) {
    page.map = createMap(byId('map'), {...listening, onRest: () => {
      page.rested?.();
      page.stateChanged();
    }});
    page.twoMaps = (open) => {
      page.other ??= createMap(byId('second'), listening);
      page.other.tool(page.tool ?? 'move');
      page.second = open ? page.other : null;
    };
  } else {
    byId('map').textContent = 'This browser has no WebGL 2, so the map is not shown. Go to points by their rows.';
    for (const button of document.querySelectorAll('#two, button[data-tool]')) button.hidden = true;
  }
  // After a training: the panels are made for what there is now, and the point and the selection stay.
  page.renew = async () => {
    const before = page.overview.points;
    page.overview = await ask('overview');
    Object.assign(page, naming(page.overview.groups), {columns: page.overview.columns});
    head(page.overview);
    fill(page);
    panels(page);
    if (page.overview.points !== before) page.selection = page.selection.filter((point) => point < page.overview.points);
    await Promise.all([page.showMap(page.map?.view()), page.showColour([...page.lit])]);
    const [first, second] = page.ends;
    if (first !== null) page.look(second ?? first);
    if (first !== null) page.pair(first, second);
  };
  mapControls(page);
  themeButton(page);
  panels(page);
  await recall(page);
  opening = false;
  if (overview.second && page.map) byId('two').click();
  addEventListener('hashchange', () => recall(page));
  document.body.dataset.ready = 'true';
  goesOn(page);
}

start();
