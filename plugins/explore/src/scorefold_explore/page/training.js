// A button in place of an answer that is missing: it says what is trained and for how long, shows progress, and stops.

import {byId, choices, el, panel, problem} from './elements.js';
import {ask, still, Stopped} from './api.js';

const MINUTES = [0.5, 1, 3, 10];

export function duration(seconds) {
  const whole = Math.max(5, Math.round(seconds / 5) * 5);
  if (whole < 60) return `${whole} s`;
  const rest = whole % 60;
  return whole < 600 && rest ? `${Math.floor(whole / 60)} min ${rest} s` : `${Math.round(whole / 60)} min`;
}

export const secondsOf = (plan, minutes) => 60 * minutes * plan.trained.length + plan.rest;

const joined = (names) => (names.length > 1 ? `${names.slice(0, -1).join(', ')} and ${names.at(-1)}` : names[0] ?? '');

// What is said, and a button, for an answer that the page lacks; `without` is said where nothing can be trained.
export function missingPart(page, answer, said) {
  const plan = page.overview.training[answer];
  const body = el('div', {class: 'missing'}, el('p', {}, said));
  if (still) return body;
  if (!plan || plan.refused) {
    if (plan) body.append(el('p', {class: 'quiet'}, plan.refused));
    return body;
  }
  body.append(offer(page, answer, plan, 'Train it'));
  return body;
}

function offer(page, answer, plan, title) {
  const minutes = () => Number(byId('minutes')?.value ?? MINUTES[0]);
  const time = () => duration(secondsOf(plan, minutes()));
  const button = el('button', {type: 'button', class: 'train', 'data-answer': answer, onclick: () => train(page, answer, minutes(), plan)});
  const said = el('p', {class: 'quiet'});
  const show = () => {
    button.textContent = `${title}: about ${time()}`;
    const models = plan.trained.length ? `${joined(plan.trained)} ${plan.trained.length > 1 ? 'train' : 'trains'} for ${duration(60 * minutes())}${plan.trained.length > 1 ? ' each' : ''}` : 'nothing has to be trained';
    const without = Object.entries(plan.without).map(([name, why]) => ` Not ${name}: ${why}.`).join('');
    said.textContent = `Adds ${joined(plan.adds)}; ${models}.${without}`;
  };
  show();
  page.onMinutes(show);
  return el('div', {class: 'offer'}, button, said);
}

async function train(page, answer, minutes, plan) {
  const scale = page.scale();
  await follow(page, {answer, minutes, ...(scale === 'own' ? {} : {scale})}, duration(secondsOf(plan, minutes)));
}

let running = false;

async function follow(page, given, time) {
  if (running) return;
  running = true;
  const place = byId('training');
  const bar = el('progress');
  const text = el('span', {'aria-live': 'polite'}, 'starting');
  let stop = () => {};
  const began = Date.now();
  const button = el('button', {type: 'button', id: 'stop-training', onclick: () => stop()}, 'Stop training');
  const head = el('p', {}, time ? `Training, about ${time} in all. The page can be used meanwhile.` : 'Training goes on.');
  place.replaceChildren(head, el('div', {class: 'row'}, bar, text, button));
  document.body.dataset.training = 'true';
  for (const one of document.querySelectorAll('button.train')) one.disabled = true;
  try {
    const found = await ask('train', given, {
      title: 'Training', quiet: true, onJob: (one) => { stop = one; },
      onProgress: ({done, total, text: said, state}) => {
        const taken = duration((Date.now() - began) / 1000);
        text.textContent = state === 'waiting' ? 'waits for another training' : `${said} (${taken} so far)`;
        if (total > 0) [bar.max, bar.value] = [total, done];
        else bar.removeAttribute('value');
      }});
    await page.renew();
    place.replaceChildren(el('p', {role: 'status'}, `Trained: ${joined(found.adds)}. It is kept in ${found.folder}`));
  } catch (error) {
    place.replaceChildren(error instanceof Stopped ? el('p', {class: 'quiet'}, 'The training was stopped. Nothing was added.') : problem(error));
  }
  running = false;
  delete document.body.dataset.training;
  for (const one of document.querySelectorAll('button.train')) one.disabled = false;
}

// Follows a training that goes on: the page was loaded anew, or another one began it.
export function goesOn(page) {
  if (page.overview.trains && !still) follow(page, {}, null);
}

// The panel above all others, where something is missing that can be trained.
export function trainingPanel(page) {
  const plan = page.overview.training.all;
  if (still || !plan) return;
  const body = panel('Train what is missing', 'train-panel');
  if (plan.refused) {
    body.append(el('p', {class: 'quiet'}, plan.refused));
    return;
  }
  const select = el('select', {id: 'minutes', 'aria-label': 'minutes for each model'});
  choices(select, MINUTES.map((one) => ({name: String(one), text: duration(60 * one)})), String(MINUTES[0]));
  select.addEventListener('change', () => page.minutesChanged());
  body.append(el('label', {}, 'Each model trains for ', select), offer(page, 'all', plan, 'Train what is missing'),
    el('p', {class: 'quiet'}, 'Longer is better: half a minute gives a first look. For results to report, write a run file.'));
}
