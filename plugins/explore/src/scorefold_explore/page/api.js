// Questions to the server, or to the answers inside a still page.

import {byId} from './elements.js';

const embedded = document.getElementById('answers');
const answers = embedded ? JSON.parse(embedded.textContent).answers : null;
export const still = answers !== null;

export class Problem extends Error {
  constructor({message, hint}) {
    super(message);
    this.hint = hint;
  }
}

export class Stopped extends Error {}

// The same text as Python's json.dumps with sorted keys and no spaces.
function ordered(value) {
  if (Array.isArray(value)) return `[${value.map(ordered).join(',')}]`;
  if (value && typeof value === 'object') {
    const inside = Object.keys(value).sort().filter((key) => value[key] !== undefined);
    return `{${inside.map((key) => `${JSON.stringify(key)}:${ordered(value[key])}`).join(',')}}`;
  }
  return JSON.stringify(value);
}

export const kept = (what) => Object.keys(answers ?? {}).filter((key) => key.startsWith(`${what}{`))
  .map((key) => JSON.parse(key.slice(what.length)));

const waiting = new Map();
let running = null;

function showProgress() {
  running = [...waiting.values()].find((one) => one.visible) ?? null;
  byId('status').hidden = running === null;
  if (!running) return;
  const {state, done, total, text} = running.facts;
  byId('status-text').textContent = state === 'waiting' ? `${running.title}: waiting` : `${running.title} ${text ? `(${text})` : ''}`;
  const bar = byId('status-bar');
  if (total > 0) {
    bar.max = total;
    bar.value = done;
  } else bar.removeAttribute('value');
}

byId('stop').addEventListener('click', () => running?.stop());

async function request(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    lost();
    throw new Problem({message: 'the server does not answer', hint: 'start it again: scorefold explore'});
  }
  const type = response.headers.get('content-type') ?? '';
  if (!type.startsWith('application/json')) throw new Problem({message: `the server refused: ${(await response.text()).slice(0, 200)}`});
  return response.json();
}

function lost() {
  const bar = byId('lost');
  bar.textContent = 'The server has ended, so nothing new can be asked. What is on the page stays. '
    + 'Start it again with scorefold explore, and open the address that it prints.';
  bar.hidden = false;
}

// Asks one question. `title` is shown while it takes long; `onJob` gets a function that stops it.
// A `quiet` one is not shown at the foot of the page: `onProgress` shows it.
export async function ask(what, asked = {}, {title = what, onJob, onProgress, quiet = false} = {}) {
  if (still) {
    const found = answers[what + ordered(asked)];
    if (found === undefined) throw new Problem({message: 'this is not in the still page', hint: 'scorefold explore RUN computes it'});
    return found;
  }
  const body = JSON.stringify({what, asked});
  let facts = await request('ask', {method: 'POST', headers: {'content-type': 'application/json'}, body});
  if (facts.job === undefined || facts.state === 'done' || facts.state === 'failed') return result(facts);
  const entry = {title, facts, visible: !quiet};
  entry.stop = () => request(`jobs/${facts.job}`, {method: 'DELETE'}).catch(() => {});
  onJob?.(entry.stop);
  waiting.set(facts.job, entry);
  const number = facts.job;
  try {
    while (facts.state === 'waiting' || facts.state === 'running') {
      showProgress();
      onProgress?.(facts);
      facts = await request(`jobs/${number}`);
      entry.facts = facts;
      if (facts.job === undefined) break;
    }
  } finally {
    waiting.delete(number);
    showProgress();
  }
  return result(facts);
}

function result(facts) {
  if (facts.error) throw new Problem(facts.error);
  if (facts.state === 'stopped') throw new Stopped('stopped');
  return facts.result;
}

export function floats(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}
