// The panel of a selection: what is in it, choosing by label or column, tags, and a file of its rows.

import {choices, el, number, panel, problem} from './elements.js';
import {ask, floats, still} from './api.js';
import {pictureOf, picture} from './pictures.js';

const SHOWN = 24;

// Two lists of points together, as a click on "replaces", "adds", "removes" or "narrows" says.
export function combined(before, chosen, way) {
  if (way === 'adds') return [...new Set([...before, ...chosen])].sort((a, b) => a - b);
  const other = new Set(chosen);
  if (way === 'removes') return before.filter((point) => !other.has(point));
  if (way === 'narrows') return before.filter((point) => other.has(point));
  return [...other].sort((a, b) => a - b);
}

// The points whose value is a class, or lies between two numbers, either of which may be left open.
export function matching(values, colour, {chosen, low, high}) {
  const found = [];
  values.forEach((value, point) => {
    if (!Number.isFinite(value)) return;
    if (colour.classes ? value === chosen : (low === null || value >= low) && (high === null || value <= high)) found.push(point);
  });
  return found;
}

export function selectionPanel(page) {
  const body = panel('Selection', 'selection');
  const said = el('div', {'aria-live': 'polite'});
  const way = el('select', {id: 'select-way', 'aria-label': 'what a new choice does'});
  choices(way, [{name: 'replaces', text: 'replaces the old one'}, {name: 'adds', text: 'is added'}, {name: 'removes', text: 'is taken away'}, {name: 'narrows', text: 'narrows it'}], 'replaces');
  page.select = (points, how = way.value) => page.selected(combined(page.selection, points, how));

  const by = el('select', {id: 'filter-by', 'aria-label': 'choose points by'});
  const classes = el('select', {id: 'filter-class', 'aria-label': 'class'});
  const [low, high] = ['at least', 'at most'].map((label) => el('input', {type: 'number', step: 'any', 'aria-label': label, placeholder: label}));
  const apply = el('button', {type: 'button', id: 'filter', onclick: () => filter()}, 'Choose');
  const only = el('input', {type: 'checkbox', id: 'only', onchange: () => page.paint()});
  const tag = el('input', {id: 'tag', 'aria-label': 'tag', placeholder: 'outlier', maxlength: 60});
  const place = el('div', {class: 'thumbs', id: 'selected'});
  let known = null;

  async function colour() {
    const name = by.value;
    const found = name ? await ask('colour', {name}, {title: 'Filter'}) : null;
    if (by.value !== name) return;
    known = found && {...found, numbers: floats(found.values)};
    classes.hidden = !known?.classes;
    low.hidden = high.hidden = !known || Boolean(known.classes);
    if (known?.classes) choices(classes, known.classes.map((text, index) => ({name: String(index), text})), '0');
    else if (known) [low.title, high.title] = [`from ${number(known.low)}`, `to ${number(known.high)}`];
  }

  function filter() {
    if (!known) return;
    const given = (input) => (input.value === '' ? null : Number(input.value));
    page.select(matching(known.numbers, known, {chosen: Number(classes.value), low: given(low), high: given(high)}));
  }

  async function tagged(on) {
    try {
      page.overview.tags = await ask('tag', {tag: tag.value, points: page.selection, on});
      said.replaceChildren();
      page.tagsChanged();
      show();
    } catch (error) {
      said.replaceChildren(problem(error));
    }
  }

  async function save(form) {
    try {
      const found = await ask('export', {points: page.selection, form}, {title: 'Export'});
      const address = URL.createObjectURL(new Blob([found.text], {type: form === 'csv' ? 'text/csv' : 'application/json'}));
      el('a', {href: address, download: found.name}).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
      said.replaceChildren(el('p', {class: 'quiet'}, `${found.name}: ${found.points} points, ${found.source}`));
    } catch (error) {
      said.replaceChildren(problem(error));
    }
  }

  const needing = [];
  const button = (id, text, onclick) => {
    const made = el('button', {type: 'button', id, onclick}, text);
    needing.push(made);
    return made;
  };
  const count = el('p', {id: 'selection-count'});
  const labels = el('p', {class: 'quiet'});
  body.append(count, labels, place,
    el('div', {class: 'row'}, el('label', {}, 'By ', by), classes, low, high, apply),
    el('div', {class: 'row'}, el('label', {}, 'A new choice ', way), el('label', {}, only, ' show it alone'), button('clear', 'Clear', () => page.selected([])),
      button('invert', 'Invert', () => { const held = new Set(page.selection); page.selected(Array.from({length: page.overview.points}, (_, point) => point).filter((point) => !held.has(point))); })));
  if (!still) {
    body.append(el('div', {class: 'row'}, el('label', {}, 'Tag ', tag), button('tag-on', 'Tag', () => tagged(true)), button('tag-off', 'Remove tag', () => tagged(false)),
      button('csv', 'CSV', () => save('csv')), button('json', 'JSON', () => save('json'))));
  }
  body.append(said);
  by.addEventListener('change', () => colour().catch((error) => said.replaceChildren(problem(error))));

  function options() {
    const before = by.value;
    const ready = page.overview.colours.filter((one) => one.ready);
    choices(by, [{name: '', text: 'label, column…'}, ...ready], ready.some((one) => one.name === before) ? before : '');
  }

  function show() {
    const {selection} = page;
    const total = selection.length;
    count.textContent = total ? `${total.toLocaleString('en')} of ${page.overview.points.toLocaleString('en')} points` : 'Nothing is selected. Draw a box or a lasso on the map, or choose by label or column.';
    for (const one of needing) one.disabled = !total;
    const parts = [];
    if (total && page.values && page.colour.classes) {
      const numbers = new Map();
      for (const point of selection) numbers.set(page.values[point], (numbers.get(page.values[point]) ?? 0) + 1);
      parts.push(...[...numbers].sort((a, b) => b[1] - a[1]).slice(0, 12).map(([value, times]) => `${page.colour.classes[value] ?? 'none'}: ${times}`));
    }
    const held = new Set(selection);
    for (const [name, points] of Object.entries(page.overview.tags)) {
      const times = points.filter((point) => held.has(point)).length;
      if (times) parts.push(`tag ${name}: ${times}`);
    }
    labels.textContent = parts.join(', ');
    place.replaceChildren(...selection.slice(0, SHOWN).map((point) => {
      const spot = el('span', {}, page.overview.image ? '' : page.called(point));
      if (page.overview.image) pictureOf(point).then((found) => spot.replaceChildren(picture(found, 0, 40, page.called(point)))).catch(() => spot.replaceChildren(page.called(point)));
      return el('button', {type: 'button', title: page.called(point), onclick: () => page.pick(point)}, spot);
    }), total > SHOWN ? `and ${(total - SHOWN).toLocaleString('en')} more` : '');
  }
  page.alone = () => only.checked;
  page.onSelection(show);
  page.onColours(options);
  options();
  colour().catch(() => {});
  show();
}

export const clearButton = () => byId('clear');
