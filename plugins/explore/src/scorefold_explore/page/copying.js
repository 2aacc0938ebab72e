// What the page shows as a run file or as Python, to copy.

import {byId, el, problem} from './elements.js';
import {ask} from './api.js';

byId('recipe-close').addEventListener('click', () => byId('recipe').close());

export function copyButton(what, asked, label = 'Copy…') {
  return el('button', {type: 'button', onclick: () => show(what, asked())}, label);
}

export async function show(what, asked) {
  const body = byId('recipe-body');
  try {
    const found = await ask('recipe', {what, asked});
    body.replaceChildren(part('As a run file', found.run_file, 'No verb of a run file does this; Python does.'), part('As Python', found.python));
  } catch (error) {
    body.replaceChildren(problem(error));
  }
  byId('recipe').showModal();
}

function part(title, text, without) {
  if (!text) return el('div', {}, el('h3', {}, title), el('p', {class: 'quiet'}, without));
  const said = el('span', {class: 'quiet', 'aria-live': 'polite'});
  const code = el('pre', {tabindex: '0'}, text);
  const copy = el('button', {type: 'button', onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = ' copied';
    } catch {
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      said.textContent = ' the browser gives no clipboard: the text is selected, press Ctrl+C';
    }
  }}, 'Copy');
  return el('div', {}, el('h3', {}, title), code, copy, said);
}
