// Search by the name of a row or a file, by label and by tag.

import {byId, el, problem} from './elements.js';
import {ask, floats} from './api.js';

const SHOWN = 12;

// The points whose name, label or tag holds a text, whatever its case.
export function found(text, {count, called, labels, tags}) {
  const sought = text.toLowerCase();
  const classes = new Set((labels?.classes ?? []).flatMap((name, value) => (name.toLowerCase().includes(sought) ? [value] : [])));
  const tagged = new Set(Object.entries(tags).flatMap(([name, points]) => (name.toLowerCase().includes(sought) ? points : [])));
  return Array.from({length: count}, (_, point) => point)
    .filter((point) => called(point).toLowerCase().includes(sought) || (labels && classes.has(labels.numbers[point])) || tagged.has(point));
}

// Goes to a point that is called so, else lists the points that a text is part of; a number is the name of a row alone.
export async function search(page, text) {
  const said = byId('go-said');
  const sought = text.trim();
  said.replaceChildren();
  if (sought === '') return;
  const exact = page.named(sought);
  if (exact !== undefined) {
    page.pick(exact);
    return;
  }
  const labelled = page.overview.colours.some((one) => one.name === 'label');
  let points = [];
  if (!/^\d+$/.test(sought)) {
    let labels = null;
    if (labelled) labels = await ask('colour', {name: 'label'}).then((one) => ({...one, numbers: floats(one.values)}), () => null);
    points = found(sought, {count: page.overview.points, called: page.called, labels, tags: page.overview.tags});
  }
  if (!points.length) {
    said.replaceChildren(problem({message: `${sought} is not on this page`, hint: page.there()}));
    return;
  }
  const buttons = points.slice(0, SHOWN).map((point) => el('button', {type: 'button', onclick: () => page.pick(point)}, page.called(point)));
  said.replaceChildren(el('p', {}, `${points.length.toLocaleString('en')} points with ${sought} in their name, label or tag`),
    el('div', {class: 'row', id: 'found'}, ...buttons, points.length > SHOWN ? el('span', {class: 'quiet'}, `and ${points.length - SHOWN} more`) : null,
      el('button', {type: 'button', onclick: () => page.select(points)}, 'Select them')));
}
