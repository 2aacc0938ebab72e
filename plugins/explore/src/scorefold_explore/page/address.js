// What the page shows as the part of its address behind #, so that a link opens it again.

const LONGEST = 3000;

// Sorted numbers as runs in base 36: 3-5.9 is 3, 4, 5 and 9.
export function packed(numbers) {
  const parts = [];
  for (let start = 0; start < numbers.length;) {
    let end = start;
    while (numbers[end + 1] === numbers[end] + 1) end += 1;
    parts.push(numbers[start].toString(36) + (end > start ? `-${numbers[end].toString(36)}` : ''));
    start = end + 1;
  }
  return parts.join('.');
}

export function unpacked(text, count) {
  const found = [];
  for (const part of text.split('.')) {
    const [low, high] = part.split('-').map((one) => (/^[0-9a-z]{1,6}$/.test(one) ? parseInt(one, 36) : NaN));
    if (!(low >= 0) || !((high ?? low) < count)) continue;
    for (let point = low; point <= (high ?? low); point += 1) found.push(point);
  }
  return [...new Set(found)].sort((a, b) => a - b);
}

// The state as text; a selection that would make the address too long is left out.
export function written({map, colour, scale, view, ends, classes, selection}) {
  const given = new URLSearchParams();
  given.set('map', map);
  given.set('colour', colour);
  if (scale && scale !== 'own') given.set('scale', scale);
  if (view) given.set('at', view.map((one) => Number(one.toPrecision(5))).join(','));
  if (ends.some((one) => one !== null)) given.set('points', ends.map((one) => one ?? '').join(','));
  if (classes.length) given.set('classes', packed(classes));
  const chosen = packed(selection);
  if (chosen && chosen.length < LONGEST) given.set('selected', chosen);
  return given.toString();
}

// What such a text says, and nothing that does not fit the page: a link may come from anywhere.
export function read(text, {maps, colours, scales, points}) {
  const given = new URLSearchParams(text);
  const one = (name, items) => (items.some((item) => item.name === given.get(name)) ? given.get(name) : null);
  const view = (given.get('at') ?? '').split(',').map(Number);
  const ends = (given.get('points') ?? '').split(',').map((part) => (/^\d+$/.test(part) && Number(part) < points ? Number(part) : null));
  return {
    map: one('map', maps), colour: one('colour', colours), scale: one('scale', scales),
    view: view.length === 3 && view.every(Number.isFinite) && view[2] > 0 ? view : null,
    ends: [ends[0] ?? null, ends[1] ?? null],
    classes: unpacked(given.get('classes') ?? '', 1000),
    selection: unpacked(given.get('selected') ?? '', points),
  };
}
