// Speed and activity: figures of the last answer and of the server, and the share of neurons that each
// layer computes, as a chart and as a table.

import { getJson } from './api.js';
import { counted, pace, perSecond } from './chat.js';
import { $, el, svg } from './dom.js';

const POLL_EVERY = 1000;

// Of the chart, in its own units.
const WIDTH = 320;
const HEIGHT = 132;
const LEFT = 34;
const BOTTOM = 20;
const TOP = 8;

const percent = (share) => {
  const value = share * 100;
  return `${value !== 0 && value < 9.95 ? value.toFixed(1) : value.toFixed(0)}\u00a0%`;
};

const isShare = (value) => Number.isFinite(value) && value >= 0 && value <= 1;
const count = (value) => (Number.isFinite(value) ? value.toLocaleString('en') : '–');

/** Polls the server while answers are written and tells `changed` what it said. */
export class StatsPoll {
  constructor(changed) {
    this.changed = changed;
    this.wanted = false;
  }

  /** Asks once now, and each second as long as `busy` was true last. */
  async set(busy) {
    this.wanted = busy;
    if (this.asking) return;
    this.asking = true;
    clearTimeout(this.timer);
    try {
      this.changed(await getJson('stats'));
    } catch {
      // The figures stay as they are; what is wrong is said where messages are sent.
    }
    this.asking = false;
    if (this.wanted) this.timer = setTimeout(() => this.set(this.wanted), POLL_EVERY);
  }
}

export class ActivityPanel {
  constructor() {
    this.figures = el('dl', { class: 'figures' });
    this.server = el('dl', { class: 'figures' });
    this.kv = el('div', { class: 'meter' });
    this.neurons = el('div', { class: 'neurons' });
    this.table = el('div');
    this.details = el('details', { hidden: true }, el('summary', {}, 'Layers as a table'), this.table);
    $('activity-body').append(
      el('section', {}, el('h3', {}, 'Last answer'), this.figures),
      el('section', {}, el('h3', {}, 'Active neurons'), this.neurons, this.details),
      el('section', {}, el('h3', {}, 'Server'), this.server, this.kv));
    this.showAnswer(null, null);
    this.showStats(null);
  }

  /** Figures of an answer; while it is written, from the pace at which text comes in. */
  showAnswer(timings, rate) {
    rows(this.figures, [
      ['Prompt', perSecond(timings?.prompt_per_second), tokens(timings?.prompt_n)],
      ['Generation', perSecond(timings?.predicted_per_second ?? rate), tokens(timings?.predicted_n)],
    ]);
  }

  showStats(stats) {
    rows(this.server, [
      ['Prompt', perSecond(stats?.prompt_tokens_per_second)],
      ['Generation', perSecond(stats?.generation_tokens_per_second)],
      ['Slots in use', stats ? `${count(stats.slots_busy)} of ${count(stats.slots_total)}` : '–'],
      ['Waiting', count(stats?.queue)],
      ['Context memory', stats ? `${count(stats.kv_used)} of ${count(stats.kv_total)}` : '–'],
    ]);
    const used = stats?.kv_used / stats?.kv_total;
    // Without a style attribute, which the policy refuses; this way is allowed.
    const filled = el('span');
    filled.style.width = `${isShare(used) ? used * 100 : 0}%`;
    this.kv.replaceChildren(filled);
    this.showNeurons(stats);
  }

  showNeurons(stats) {
    const layers = measured(stats);
    this.details.hidden = layers.length === 0;
    if (layers.length === 0) {
      this.neurons.replaceChildren(el('p', { class: 'hint' }, absence(stats)));
      return;
    }
    const mean = layers.reduce((sum, layer) => sum + layer.active_share, 0) / layers.length;
    const share = isShare(stats.active_share) ? stats.active_share : mean;
    this.neurons.replaceChildren(
      el('p', { class: 'share' }, el('strong', {}, percent(share)), ' of the neurons are active per token'),
      chart(layers, share),
      el('p', { class: 'hint' }, summary(layers)));
    if (layers.some(isOff)) {
      this.neurons.append(el('p', { class: 'hint' }, 'Grey: sparse execution is off there, all neurons are computed.'));
    }
    this.table.replaceChildren(layerTable(layers));
  }
}

/** The layers whose share is known: none before the first token. */
function measured(stats) {
  const layers = (Array.isArray(stats?.layers) ? stats.layers : []).filter((layer) => isShare(layer?.active_share));
  return layers.some((layer) => layer.active_share > 0) ? layers : [];
}

/** Why there is no chart. */
function absence(stats) {
  if (!stats) return 'The server has given no figures yet.';
  if (!stats.layers?.length) return 'Dense model: all neurons are computed.';
  return 'Not measured yet: shares appear with the first answer.';
}

const isOff = (layer) => layer.mode === 'off';

/** The line below the message field. */
export function speedLine(timings, rate, stats) {
  const speed = timings?.predicted_per_second ?? rate;
  return [
    Number.isFinite(timings?.prompt_per_second) ? `prompt ${pace(timings.prompt_per_second)}` : null,
    Number.isFinite(speed) ? `answer ${pace(speed)}\u00a0tokens/s` : null,
    measured(stats).length && isShare(stats.active_share) ? `${percent(stats.active_share)} active` : null,
  ].filter(Boolean).join(' · ');
}

const tokens = (n) => (Number.isFinite(n) ? counted(n, 'token') : '');

function rows(list, figures) {
  list.replaceChildren(...figures.map(([name, value, more]) => el('div', {},
    el('dt', {}, name), el('dd', {}, value, more ? el('span', { class: 'more' }, more) : null))));
}

/** Modes of the layers, and the two that stand out. */
function summary(layers) {
  const least = layers.reduce((a, b) => (b.active_share < a.active_share ? b : a));
  const most = layers.reduce((a, b) => (b.active_share > a.active_share ? b : a));
  const modes = [...new Set(layers.filter((layer) => !isOff(layer)).map((layer) => String(layer.mode)))].join(', ');
  return `${layers.length} layers, mode ${modes || 'off'}. Least: layer ${least.layer} with ` +
    `${percent(least.active_share)}; most: layer ${most.layer} with ${percent(most.active_share)}.`;
}

/** The top of the scale: a round share above all bars. */
function ceiling(most) {
  return [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1].find((top) => top >= most) ?? 1;
}

function chart(layers, mean) {
  const top = ceiling(Math.max(...layers.map((layer) => layer.active_share)));
  const width = WIDTH - LEFT;
  const height = HEIGHT - BOTTOM - TOP;
  const step = width / layers.length;
  const y = (share) => TOP + height * (1 - share / top);
  const lines = [0, top / 2, top].flatMap((share) => [
    svg('line', { class: 'grid', x1: LEFT, x2: WIDTH, y1: y(share), y2: y(share) }),
    svg('text', { class: 'scale', x: LEFT - 6, y: y(share) + 3.5, 'text-anchor': 'end' }, percent(share)),
  ]);
  const bars = layers.map((layer, i) => {
    const gap = step > 4 ? Math.min(2, step * 0.25) : 0;
    const tall = Math.max(height * layer.active_share / top, 1);
    return svg('rect', {
      class: isOff(layer) ? 'bar off' : 'bar', x: LEFT + i * step + gap / 2, y: TOP + height - tall,
      width: step - gap, height: tall, rx: Math.min(1.5, (step - gap) / 2),
    }, svg('title', {}, `Layer ${layer.layer}: ${percent(layer.active_share)} (${layer.mode})`));
  });
  const ends = [[LEFT, 'start', layers[0].layer], [WIDTH, 'end', layers.at(-1).layer]].map(([x, anchor, layer]) => (
    svg('text', { class: 'scale', x, y: HEIGHT - 5, 'text-anchor': anchor }, `layer ${layer}`)));
  return svg('svg', {
    class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img',
    'aria-label': `Share of active neurons in each layer. ${summary(layers)}`,
  }, ...lines, ...bars, ...(layers.length > 1 ? ends : ends.slice(0, 1)),
    svg('line', { class: 'mean', x1: LEFT, x2: WIDTH, y1: y(mean), y2: y(mean) }));
}

function layerTable(layers) {
  const line = (layer) => el('tr', {}, el('th', { scope: 'row' }, String(layer.layer)),
    el('td', {}, String(layer.mode)), el('td', {}, percent(layer.active_share)));
  return el('table', {},
    el('thead', {}, el('tr', {}, ...['Layer', 'Mode', 'Active'].map((name) => el('th', { scope: 'col' }, name)))),
    el('tbody', {}, ...layers.map(line)));
}
