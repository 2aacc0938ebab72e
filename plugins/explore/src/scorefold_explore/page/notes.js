// The panel that says what is open, what the page can't show, and how to get more.

import {byId, el, panel, problem} from './elements.js';
import {ask, kept, still} from './api.js';
import {copyButton} from './copying.js';

export function keptPanel(page) {
  if (!still) return;
  const body = panel('In this still page', 'kept');
  const button = (text, onclick) => el('button', {type: 'button', onclick}, text);
  const points = kept('point').map((one) => button(page.called(one.point), () => page.pick(one.point)));
  const pairs = kept('geodesic').map((one) => button(`${page.called(one.start)} to ${page.called(one.end)} by ${one.geometry}`, () => {
    byId('geometry').value = one.geometry;
    page.pair(one.start, one.end);
  }));
  if (points.length) body.append(el('h3', {}, 'Points'), el('div', {class: 'thumbs'}, ...points));
  if (pairs.length) body.append(el('h3', {}, 'Pairs'), el('div', {class: 'thumbs'}, ...pairs));
  body.append(el('p', {class: 'quiet'}, 'Nothing new is computed here: scorefold explore RUN does.'));
}

// Warnings above the map, each with the switch that answers it.
export function warningBar(page) {
  byId('warnings').replaceChildren(...page.overview.warnings.filter((one) => page.scale() !== one.fix).map(({text, fix}) => {
    const scale = page.overview.scales.find((one) => one.name === fix);
    const button = scale && !still ? el('button', {type: 'button', class: 'fix', onclick: () => page.rescale(fix)}, `Scale ${scale.text}`) : null;
    return el('div', {class: 'warning', role: 'note'}, el('p', {}, text), button);
  }));
}

export function notesPanel(page) {
  const {overview} = page;
  const body = panel('About', 'about');
  const list = (items) => el('ul', {}, ...items.map((text) => el('li', {}, text)));
  if (overview.notes.length) body.append(el('h3', {}, 'Notes'), list(overview.notes));
  const missing = Object.entries(overview.missing);
  if (missing.length) {
    body.append(el('h3', {}, 'Missing parts, and the stages that add them'), list(missing.map(([name, fix]) => `${name}: ${fix}`)));
    body.append(el('div', {class: 'row'}, copyButton('more', () => ({}), 'A run file for more…')));
  }
  body.append(el('h3', {}, 'Equal points'));
  const place = el('div');
  const find = el('button', {type: 'button', onclick: async () => {
    try {
      const found = await ask('duplicates', {}, {title: 'Equal points'});
      const groups = found.groups.slice(0, 40).map((equal) => el('li', {}, ...equal.slice(0, 12).flatMap((point) => [
        el('button', {type: 'button', onclick: () => page.pick(point)}, page.called(point)), ' ']), equal.length > 12 ? `and ${equal.length - 12} more` : ''));
      place.replaceChildren(el('p', {class: 'quiet'}, found.groups.length ? `${found.points} points repeat another one exactly` : 'no point repeats another one'), el('ul', {}, ...groups));
    } catch (error) {
      place.replaceChildren(problem(error));
    }
  }}, 'Find points that are equal');
  body.append(find, place, el('h3', {}, 'Stages'), list(overview.stages.map((one) => `${one.name}: ${one.component}, ${one.verb}`)));
  if (!still) body.append(el('p', {class: 'quiet'}, el('a', {href: 'licences.txt'}, 'Licences of the libraries in this page')));
}
