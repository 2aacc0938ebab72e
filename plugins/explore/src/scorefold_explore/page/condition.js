// The panel of conditional samples: paint what is not known, or a coarse image, and see what may be there.

import {choices, el, number, panel, problem} from './elements.js';
import {ask, Stopped, still} from './api.js';
import {copyButton} from './copying.js';
import {paint, picture} from './pictures.js';
import {missingPart} from './training.js';

export function conditionPanel(page) {
  const models = Object.entries(page.overview.conditions).filter(([, parts]) => parts.length);
  const body = panel('Conditional samples', 'condition', 'below');
  if (!models.length) {
    body.append(page.overview.image ? missingPart(page, 'conditional samples', 'There is no model yet that fills in hidden pixels.')
      : el('p', {class: 'quiet'}, 'Only images can be filled in, and points here are no images.'));
    return;
  }
  const select = el('select', {'aria-label': 'model'});
  const conditional = new Set(page.overview.models.conditional.map((one) => one.name));
  choices(select, models.map(([name]) => ({name, text: conditional.has(name) ? name : `${name} (known pixels replaced)`})),
    (models.find(([name]) => conditional.has(name)) ?? models[0])[0]);
  const field = (label, value, most) => el('input', {type: 'number', min: 1, max: most, value, 'aria-label': label});
  const [count, steps, seed] = [field('samples', 8, 64), field('steps', 30, 1000), el('input', {type: 'number', min: 0, value: 0, 'aria-label': 'seed'})];
  const go = el('button', {type: 'button', id: 'sample', disabled: true, onclick: () => sample()}, 'Sample');
  const editors = el('div', {class: 'pair'}, el('p', {class: 'quiet'}, 'Click a point of the map to start from its image.'));
  const place = el('div');
  body.append(el('div', {class: 'row'}, el('label', {}, 'Model ', select), el('label', {}, 'Samples ', count), el('label', {}, 'Steps ', steps),
    el('label', {}, 'Seed ', seed)), editors, el('div', {class: 'row'}, go, copyButton('samples', () => ({model: select.value, point, n: Number(count.value)}))), place);

  let point = null;
  let given = {};

  async function start() {
    if (point === null || still) {
      if (still) editors.replaceChildren(el('p', {class: 'quiet'}, 'A still page can show the samples that are in it, and draw no new ones.'));
      return;
    }
    try {
      const found = await ask('condition', {model: select.value, point}, {title: 'Condition'});
      given = {};
      const parts = found.parts.map((part) => editor(part, found.event)).filter(Boolean);
      editors.replaceChildren(...parts);
      go.disabled = false;
    } catch (error) {
      editors.replaceChildren(problem(error));
    }
  }

  function editor(part, event) {
    if (part.kind === 'classes') {
      const chosen = el('select', {'aria-label': part.name || 'class'});
      const own = part.numbers ? String(part.numbers[0]) : '0';
      const names = page.overview.label_names;
      choices(chosen, Array.from({length: part.classes}, (_, one) => ({name: String(one), text: names[one] ?? String(one)})), own);
      chosen.addEventListener('change', () => { given.label = Number(chosen.value); });
      return el('label', {}, `${part.name || 'class'} `, chosen);
    }
    if (part.kind === 'mask') return maskEditor(event, part, (mask) => { given.mask = mask; });
    if (part.kind === 'image' && part.picture && part.name !== 'image') {
      return imageEditor(part, (pixels) => { given.images = {...given.images, [part.name]: pixels}; });
    }
    return null;
  }

  async function sample() {
    go.disabled = true;
    const asked = {model: select.value, point, n: Number(count.value), steps: Number(steps.value), seed: Number(seed.value) || 0, ...given};
    const began = performance.now();
    try {
      show(await ask('samples', asked, {title: 'Conditional samples'}), Math.round(performance.now() - began));
    } catch (error) {
      place.replaceChildren(error instanceof Stopped ? el('p', {class: 'quiet'}, 'Stopped.') : problem(error));
    }
    go.disabled = false;
  }

  function show(found, took) {
    const images = found.samples.kind === 'images';
    const all = images ? Array.from({length: found.samples.count}, (_, which) => picture(found.samples, which, 60, `sample ${which + 1}`)) : [];
    const named = [['mean', found.mean, 'mean of the samples'], ['spread', found.spread, `standard deviation${found.spread.top === undefined ? '' : `, white is ${number(found.spread.top)}`}`], ['truth', found.truth, 'the point itself']];
    place.replaceChildren(el('div', {class: 'strip', id: 'samples'}, ...all),
      el('div', {class: 'pair'}, named.map(([name, shown, text]) => el('figure', {}, picture(shown, 0, 100, name, page.columns), el('figcaption', {}, text)))),
      el('p', {class: 'quiet'}, `${asTime(took)}`));
  }

  page.onPoint((picked) => {
    point = picked;
    start();
  });
  select.addEventListener('change', start);
}

const asTime = (took) => (took > 0 ? `computed in ${(took / 1000).toFixed(1)} s` : '');

// A grid to paint on with the pointer, or with the arrow keys and the space bar.
function grid(width, height, size, label, {repaint, touch}) {
  const canvas = el('canvas', {class: 'tile', tabindex: '0', role: 'application', 'aria-label': `${label}: drag to paint; arrow keys move, the space bar paints`});
  canvas.style.width = `${size}px`;
  canvas.style.height = `${Math.round(size * height / width)}px`;
  canvas.style.touchAction = 'none';
  let cursor = null;
  const draw = () => {
    repaint(canvas);
    if (cursor && document.activeElement === canvas) {
      const context = canvas.getContext('2d');
      context.fillStyle = 'rgba(255, 80, 0, 0.8)';
      context.fillRect(cursor[0], cursor[1], 1, 1);
    }
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [Math.floor((event.clientX - box.left) / box.width * width), Math.floor((event.clientY - box.top) / box.height * height)];
  };
  const paintAt = (event) => {
    const [x, y] = at(event);
    if (x >= 0 && y >= 0 && x < width && y < height) touch(x, y);
    draw();
  };
  canvas.addEventListener('pointerdown', (event) => { canvas.setPointerCapture(event.pointerId); paintAt(event); });
  canvas.addEventListener('pointermove', (event) => event.buttons && paintAt(event));
  canvas.addEventListener('blur', draw);
  canvas.addEventListener('keydown', (event) => {
    const move = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (move) cursor = cursor ? [Math.min(width - 1, Math.max(0, cursor[0] + move[0])), Math.min(height - 1, Math.max(0, cursor[1] + move[1]))] : [width >> 1, height >> 1];
    else if (event.key === ' ' && cursor) touch(...cursor);
    else return;
    event.preventDefault();
    draw();
  });
  draw();
  return {canvas, draw};
}

function maskEditor(event, part, changed) {
  const {width, height} = part;
  let known = new Array(width * height).fill(1);
  if (part.picture) Uint8Array.from(atob(part.picture.data), (letter) => letter.charCodeAt(0)).forEach((value, index) => { known[index] = value > 127 ? 1 : 0; });
  else for (let y = height >> 2; y < height - (height >> 2); y += 1) known.fill(0, y * width + (width >> 2), y * width + width - (width >> 2));
  const brush = el('input', {type: 'range', min: 1, max: Math.max(2, width >> 1), value: Math.max(1, width >> 3), 'aria-label': 'size of the brush'});
  const mode = el('select', {'aria-label': 'what painting does'});
  choices(mode, [{name: '0', text: 'hide'}, {name: '1', text: 'show'}], '0');
  const {canvas, draw} = grid(width, height, 160, 'Mask', {
    repaint: (target) => {
      paint(target, event, 0);
      const context = target.getContext('2d');
      context.fillStyle = 'rgb(200, 40, 120)';
      known.forEach((value, index) => { if (!value) context.fillRect(index % width, Math.floor(index / width), 1, 1); });
    },
    touch: (x, y) => {
      const reach = (Number(brush.value) - 1) / 2;
      for (let a = Math.ceil(y - reach); a <= Math.floor(y + reach); a += 1) {
        for (let b = Math.ceil(x - reach); b <= Math.floor(x + reach); b += 1) {
          if (a >= 0 && b >= 0 && a < height && b < width) known[a * width + b] = Number(mode.value);
        }
      }
      changed([...known]);
    },
  });
  const all = (value) => el('button', {type: 'button', onclick: () => { known = known.map(() => value); changed([...known]); draw(); }}, value ? 'Show all' : 'Hide all');
  changed([...known]);
  return el('figure', {}, canvas, el('figcaption', {}, 'coloured pixels are hidden'), el('div', {class: 'row'}, el('label', {}, 'Paint ', mode), el('label', {}, 'Brush ', brush), all(1), all(0)));
}

function imageEditor(part, changed) {
  const {width, height, channels} = part.picture;
  const pixels = Array.from(atob(part.picture.data), (letter) => letter.charCodeAt(0));
  const grey = el('input', {type: 'range', min: 0, max: 255, value: 255, 'aria-label': 'brightness'});
  const {canvas} = grid(width, height, 160, part.name || 'coarse image', {
    repaint: (target) => paint(target, {...part.picture, data: btoa(String.fromCharCode(...pixels))}, 0),
    touch: (x, y) => {
      for (let channel = 0; channel < channels; channel += 1) pixels[(y * width + x) * channels + channel] = Number(grey.value);
      changed([...pixels]);
    },
  });
  return el('figure', {}, canvas, el('figcaption', {}, `${part.name || 'coarse image'}, ${width} x ${height}: paint on it`), el('label', {}, 'Brightness ', grey));
}
