// Line charts as SVG, with round ticks and axes that say what they are.

import {el, number} from './elements.js';

const SPACE = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [320, 190, 52, 36, 8, 10];

function shape(name, attributes, text) {
  const node = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Round numbers from low to high, about `most` of them: steps of 1, 2 or 5 times a power of ten.
export function ticks(low, high, most = 5) {
  if (!(high > low)) return [low];
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= rough * 0.999);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let count = Math.ceil(low / step - 1e-9); count * step <= high * (1 + 1e-12) + step * 1e-9; count += 1) found.push(Number((count * step).toFixed(digits)));
  return found;
}

// Powers of ten from low to high, or 1, 2 and 5 times these where there are few.
export function logTicks(low, high) {
  for (const steps of [[1], [1, 3], [1, 2, 5]]) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const one of steps) {
        const value = Number((one * 10 ** power).toPrecision(3));
        if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
      }
    }
    if (found.length >= 3) return found.length > 7 ? found.filter((_, index) => index % Math.ceil(found.length / 6) === 0) : found;
  }
  return ticks(low, high).filter((one) => one > 0);
}

function axis(values, logarithmic, start, end, stretched) {
  const known = values.filter((value) => Number.isFinite(value) && (!logarithmic || value > 0));
  let [low, high] = [Math.min(...known), Math.max(...known)];
  if (!known.length) [low, high] = logarithmic ? [1, 10] : [0, 1];
  if (!(high > low)) [low, high] = logarithmic ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
  const marks = logarithmic ? logTicks(low, high) : ticks(low, high);
  if (stretched && !logarithmic && marks.length > 1 && high > marks.at(-1)) marks.push(Number((2 * marks.at(-1) - marks.at(-2)).toPrecision(12)));
  high = Math.max(high, marks.at(-1));
  const of = (value) => (logarithmic ? Math.log10(value) : value);
  return {marks, at: (value) => start + (end - start) * (of(value) - of(low)) / (of(high) - of(low))};
}

// `series` is a list of {name, x, y}; the chart has its numbers in a label for who can't see it.
export function lines(series, {x: across, y: up, logX = false, logY = false, caption = ''}) {
  const every = (key) => series.flatMap((one) => one[key]);
  const horizontal = axis(every('x'), logX, LEFT, WIDTH - RIGHT, false);
  const vertical = axis(logY ? every('y') : [0, ...every('y')], logY, HEIGHT - BOTTOM, TOP, true);
  const said = series.map((one) => `${one.name}: ${one.x.map((value, index) => `${number(value)} → ${number(one.y[index])}`).slice(0, 20).join(', ')}`);
  const svg = shape('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: '100%', role: 'img', 'aria-label': `${up} against ${across}. ${said.join('. ')}`});
  svg.style.maxWidth = '26rem';
  const floor = HEIGHT - BOTTOM;
  for (const value of vertical.marks) {
    svg.append(shape('path', {class: 'grid', d: `M${LEFT} ${vertical.at(value)}H${WIDTH - RIGHT}`}));
    svg.append(shape('text', {x: LEFT - 5, y: vertical.at(value) + 3, 'text-anchor': 'end'}, number(value)));
  }
  for (const value of horizontal.marks) {
    svg.append(shape('path', {class: 'axis', d: `M${horizontal.at(value)} ${floor}v4`}));
    svg.append(shape('text', {x: horizontal.at(value), y: floor + 14, 'text-anchor': 'middle'}, number(value)));
  }
  svg.append(shape('path', {class: 'axis', d: `M${LEFT} ${TOP}V${floor}H${WIDTH - RIGHT}`, fill: 'none'}));
  svg.append(shape('text', {x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, 'text-anchor': 'middle'}, across));
  svg.append(shape('text', {x: 0, y: 0, 'text-anchor': 'middle', transform: `translate(10 ${(TOP + floor) / 2}) rotate(-90)`}, up));
  series.forEach((one, index) => {
    const points = one.x.map((value, place) => [horizontal.at(value), vertical.at(one.y[place])])
      .filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
    svg.append(shape('polyline', {class: `series-${Math.min(index, 2)}`, points: points.map((pair) => pair.map((v) => v.toFixed(1)).join(',')).join(' ')}));
  });
  const names = series.length > 1 ? series.map((one, index) => `${['solid', 'dashed', 'dotted'][Math.min(index, 2)]}: ${one.name}`).join('; ') : '';
  return el('figure', {}, svg, el('figcaption', {}, [caption, names].filter(Boolean).join(' ')));
}
