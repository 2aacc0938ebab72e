// Line charts as SVG, with axes that say what they are.

import {el, number} from './elements.js';

const SPACE = 'http://www.w3.org/2000/svg';

function shape(name, attributes, text) {
  const node = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function scaled(values, logarithmic, low, high) {
  const of = (value) => (logarithmic ? Math.log10(value) : value);
  const known = values.filter((value) => Number.isFinite(of(value)));
  let least = Math.min(...known.map(of));
  let most = Math.max(...known.map(of));
  if (!(most > least)) [least, most] = [least - 0.5, most + 0.5];
  const back = (share) => (logarithmic ? 10 ** (least + share * (most - least)) : least + share * (most - least));
  return {at: (value) => low + (high - low) * (of(value) - least) / (most - least), back};
}

// `series` is a list of {name, x, y}; the chart has its numbers in a label for who can't see it.
export function lines(series, {x: across, y: up, logX = false, logY = false}) {
  const width = 320;
  const height = 170;
  const every = (key) => series.flatMap((one) => one[key]);
  const horizontal = scaled(every('x'), logX, 46, width - 8);
  const vertical = scaled(logY ? every('y').filter((value) => value > 0) : [0, ...every('y')], logY, height - 32, 8);
  const said = series.map((one) => `${one.name}: ${one.x.map((value, index) => `${number(value)} → ${number(one.y[index])}`).slice(0, 20).join(', ')}`);
  const svg = shape('svg', {viewBox: `0 0 ${width} ${height}`, width: '100%', role: 'img', 'aria-label': `${up} against ${across}. ${said.join('. ')}`});
  svg.style.maxWidth = '26rem';
  svg.append(shape('path', {class: 'axis', d: `M46 8V${height - 32}H${width - 8}`, fill: 'none'}));
  for (const share of [0, 0.5, 1]) {
    const x = 46 + share * (width - 54);
    const y = height - 32 - share * (height - 40);
    svg.append(shape('text', {x, y: height - 19, 'text-anchor': share === 1 ? 'end' : 'middle'}, number(horizontal.back(share))));
    svg.append(shape('text', {x: 42, y: y + 3, 'text-anchor': 'end'}, number(vertical.back(share))));
  }
  svg.append(shape('text', {x: width / 2, y: height - 5, 'text-anchor': 'middle'}, across + (logX ? ' (log scale)' : '')));
  series.forEach((one, index) => {
    const points = one.x.map((value, place) => [horizontal.at(value), vertical.at(one.y[place])])
      .filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
    svg.append(shape('polyline', {class: `series-${Math.min(index, 2)}`, points: points.map((pair) => pair.map((v) => v.toFixed(1)).join(',')).join(' ')}));
  });
  return el('figure', {}, svg, el('figcaption', {}, `${up}${series.length > 1 ? ` (${series.map((one) => one.name).join('; ')})` : ''}`));
}
