// The panel of codes: drag a coordinate, and see what it decodes to.

import {choices, el, number, panel, problem} from './elements.js';
import {ask, Stopped, still} from './api.js';
import {copyButton} from './copying.js';
import {picture} from './pictures.js';
import {missingPart} from './training.js';

export function codePanel(page) {
  const coders = page.overview.models.code;
  const body = panel('Code', 'code');
  if (!coders.length) {
    body.append(missingPart(page, 'codes', 'There is no encoder yet, which describes a point by a few numbers.'));
    return;
  }
  const select = el('select', {'aria-label': 'model'});
  choices(select, coders.map((one) => ({name: one.name, text: `${one.name} (${one.component})`})), coders[0].name);
  const seed = el('input', {type: 'number', min: 0, value: 0, 'aria-label': 'seed'});
  const reset = el('button', {type: 'button', onclick: () => start()}, "The point's own code");
  const pictures = el('div', {class: 'pair'}, el('p', {class: 'quiet'}, 'Click a point of the map to start from its code.'));
  const sliders = el('div', {class: 'sliders'});
  const said = el('div');
  const copy = copyButton('decoded', () => ({coder: select.value, code, seed: Number(seed.value)}));
  copy.disabled = true;
  body.append(el('div', {class: 'row'}, el('label', {}, 'Model ', select), el('label', {}, 'Seed ', seed), reset, copy), pictures, said, sliders);

  let point = null;
  let code = null;
  let original = null;
  let busy = false;
  let again = false;

  async function start() {
    if (point === null) return;
    said.replaceChildren();
    try {
      const mine = point;
      const found = await ask('code', {coder: select.value, point}, {title: 'Code'});
      if (mine !== point) return;
      code = [...found.code];
      original = found.original;
      copy.disabled = false;
      sliders.replaceChildren(...found.order.flatMap((coordinate) => slider(coordinate, found)));
      await decode();
    } catch (error) {
      if (!(error instanceof Stopped)) said.replaceChildren(problem(error));
    }
  }

  function slider(coordinate, found) {
    const [low, high] = [found.low[coordinate], found.high[coordinate]];
    const id = `code-${coordinate}`;
    const value = el('output', {for: id}, number(code[coordinate]));
    const input = el('input', {id, type: 'range', min: low, max: high, step: (high - low) / 200, value: code[coordinate], disabled: still});
    input.addEventListener('input', () => {
      code[coordinate] = Number(input.value);
      value.textContent = number(code[coordinate]);
      decode();
    });
    return [el('label', {for: id}, `coordinate ${coordinate + 1}`), input, value];
  }

  // While an answer is on its way only the newest code waits.
  async function decode() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      do {
        again = false;
        const given = {coder: select.value, code: [...code], seed: Number(seed.value) || 0, map: page.mapName()};
        const began = performance.now();
        const found = await ask('decoded', given, {title: 'Decoding'});
        const took = Math.round(performance.now() - began);
        pictures.replaceChildren(
          el('figure', {}, picture(original, 0, 140, 'the point', page.columns), el('figcaption', {}, page.called(point))),
          el('figure', {}, picture(found.event, 0, 140, 'decoded', page.columns), el('figcaption', {}, `decoded${still ? '' : ` in ${took} ms`}`)));
        if (found.map) page.marks([{position: found.map, colour: [0, 158, 115]}]);
      } while (again);
    } catch (error) {
      if (!(error instanceof Stopped)) said.replaceChildren(problem(error));
    } finally {
      busy = false;
    }
  }

  page.onPoint((picked) => {
    point = picked;
    start();
  });
  select.addEventListener('change', start);
  seed.addEventListener('change', () => code && decode());
}
