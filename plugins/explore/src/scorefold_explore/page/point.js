// The panel of one point: what it is, what is near it, its dimension against scale, and its spectra.

import {el, facts, number, panel, problem} from './elements.js';
import {ask, still} from './api.js';
import {lines} from './charts.js';
import {copyButton} from './copying.js';
import {picture, pictureOf} from './pictures.js';

export function pointPanel(page) {
  const body = panel('Point', 'point');
  body.append(el('p', {class: 'quiet'}, 'Click a point of the map.'));
  let asked = 0;

  page.onPoint(async (point) => {
    const mine = (asked += 1);
    const late = setTimeout(() => {
      if (mine === asked) body.replaceChildren(el('p', {class: 'quiet'}, `Looking at ${page.called(point)}…`));
    }, 300);
    try {
      const scale = page.scale();
      const found = await ask('point', {point, ...(scale === 'own' ? {} : {scale})}, {title: 'Point'});
      if (mine === asked) body.replaceChildren(...contents(page, point, found));
    } catch (error) {
      if (mine === asked) body.replaceChildren(problem(error));
    } finally {
      clearTimeout(late);
    }
  });
}

function contents(page, point, found) {
  const parts = [
    el('div', {class: 'pair'}, el('figure', {}, picture(found.event, 0, 112, page.called(point), page.columns), el('figcaption', {}, page.called(point))),
      facts([['group', found.group], ['label', found.label], ['equal points', found.copies || null],
        ...Object.entries(found.numbers).map(([name, value]) => [name, number(value)])])),
    el('h3', {}, 'Nearest points of the data'), el('p', {class: 'quiet'}, `Distances in ${found.units}.`), thumbs(page, found.neighbours, 'no others'),
    el('h3', {}, 'Nearest samples'), thumbs(page, found.samples, 'there are no samples in this run: add a stage {use: score, do: sample}'),
  ];
  if (found.dimensions.length > 1) {
    parts.push(el('h3', {}, 'Dimension against scale'), lines([{
      name: 'by neighbours', x: found.dimensions.map((one) => one.distance), y: found.dimensions.map((one) => one.dimension)}],
    {x: 'distance of the farthest neighbour', y: 'dimension', logX: true, caption: `Dimension by neighbours, of this point alone; distance in ${found.units}.`}));
  } else parts.push(el('p', {class: 'quiet'}, 'Too few different points around it for a dimension against scale.'));
  parts.push(el('h3', {}, 'Spectrum'));
  for (const one of found.spectra) {
    const values = one.values.slice(0, 128);
    parts.push(lines([{name: one.text, x: values.map((_, index) => index + 1), y: values}], {x: 'direction', y: 'standard deviation', caption: `Spectrum ${one.text}.`}));
  }
  parts.push(...page.overview.models.score.map((score) => byScore(page, score.name, point)));
  parts.push(el('div', {class: 'row'}, copyButton('point', () => ({point}))));
  return parts;
}

function thumbs(page, near, without) {
  if (!near.length) return el('p', {class: 'quiet'}, without);
  return el('div', {class: 'thumbs'}, near.map((one) => {
    const place = el('span');
    const button = el('button', {type: 'button', title: `${page.called(one.point)}, distance ${number(one.distance)}`,
      onclick: () => page.pick(one.point)}, place, el('span', {}, number(one.distance)));
    if (page.overview.image) pictureOf(one.point).then((found) => place.replaceChildren(picture(found, 0, 40, page.called(one.point)))).catch(() => {});
    else place.append(`${page.called(one.point)}: `);
    return button;
  }));
}

// The spectrum of a score model at the point: asked for by a button where it has to be computed.
function byScore(page, score, point) {
  const place = el('div');
  const show = async () => {
    button.disabled = true;
    try {
      const found = await ask('spectrum', {score, point}, {title: `Spectrum by ${score}`});
      const middle = found.spectra.filter((_, index) => [1, 4, 7].includes(index));
      place.replaceChildren(
        lines([{name: score, x: found.dimensions.map((one) => one.sigma), y: found.dimensions.map((one) => one.dimension)}],
          {x: 'noise level', y: 'dimension', logX: true, caption: `Dimension by ${score}, of this point alone; noise in ${page.overview.units.own}.`}),
        lines(middle.map((one) => ({name: `noise ${number(one.sigma)}`, x: one.values.map((_, index) => index + 1), y: one.values})),
          {x: 'direction', y: 'eigenvalue', caption: `Eigenvalues of the denoiser of ${score}.`}),
        copyButton('spectrum', () => ({score, point})));
    } catch (error) {
      place.replaceChildren(problem(error));
    }
    button.disabled = false;
  };
  const button = el('button', {type: 'button', onclick: show}, `Spectrum by ${score}`);
  return el('div', {}, still ? null : button, still ? el('button', {type: 'button', onclick: show}, `Spectrum by ${score}`) : null, place);
}
