// Small helpers that build the page. All text goes in as text: nothing here reads markup.

export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (key === 'class') node.className = value;
    else if (typeof value === 'boolean') node.toggleAttribute(key, value);
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export const byId = (id) => document.getElementById(id);

export function choices(select, items, chosen) {
  select.replaceChildren(...items.map((one) => el('option', {value: one.name}, one.text ?? one.name)));
  if (chosen !== undefined) select.value = chosen;
}

export function facts(pairs) {
  const list = el('dl', {class: 'facts'});
  for (const [name, value] of pairs) {
    if (value !== null && value !== undefined && value !== '') list.append(el('dt', {}, name), el('dd', {}, String(value)));
  }
  return list;
}

export function number(value) {
  if (value === null || !Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

export function problem(error) {
  return el('p', {class: 'problem', role: 'alert'}, [error.message, error.hint].filter(Boolean).join(' — '));
}

// A panel with a title, on the right or below the map; what it returns is what its content is put into.
export function panel(title, id, side = 'panels') {
  const body = el('div');
  const node = el('section', {class: 'panel', id, 'aria-labelledby': `${id}-title`}, el('h2', {id: `${id}-title`}, title), body);
  byId(side).append(node);
  return body;
}
