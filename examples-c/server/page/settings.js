// The dialog of settings. Empty fields mean the server's defaults, which are shown in them.

import { $, el } from './dom.js';
import { NUMBERS, apiKey, loadSettings, saveSettings, setApiKey, validNumber } from './store.js';

const LABELS = {
  temperature: ['Temperature', 'Higher is more varied; 0 always takes the likeliest token.'],
  top_k: ['Top-k', 'Only the k likeliest tokens; 0 for all.'],
  top_p: ['Top-p', 'The likeliest tokens that make up this share.'],
  min_p: ['Min-p', 'Tokens at least this likely, next to the likeliest.'],
  max_tokens: ['Longest answer', 'In tokens.'],
  seed: ['Seed', 'The same seed gives the same answer.'],
};

/** In fields whose default the server does not tell. */
const UNKNOWN = { seed: 'random', max_tokens: 'no limit' };

export class Settings {
  /** `saved` is called when the user saved. */
  constructor(saved) {
    this.dialog = $('settings');
    this.values = loadSettings();
    this.fields = new Map();
    this.errors = new Map();
    for (const [name, bounds] of Object.entries(NUMBERS)) $('numbers').append(this.field(name, bounds));
    $('settings-open').addEventListener('click', () => this.open());
    $('settings-close').addEventListener('click', () => this.dialog.close());
    $('settings-reset').addEventListener('click', () => this.fill({ system: '' }));
    $('settings-form').addEventListener('submit', (event) => {
      event.preventDefault();
      if (!this.save()) return;
      this.dialog.close();
      saved();
    });
    // A click beside the dialog is one on the dialog itself.
    this.dialog.addEventListener('mousedown', (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
  }

  field(name, { min, max, step }) {
    const [label, hint] = LABELS[name];
    const input = el('input', {
      id: `set-${name}`, type: 'number', min: String(min), max: String(max), step: String(step),
      inputmode: step < 1 ? 'decimal' : 'numeric', 'aria-describedby': `hint-${name}`,
    });
    const error = el('p', { class: 'error', id: `error-${name}`, role: 'alert' });
    this.fields.set(name, input);
    this.errors.set(name, error);
    return el('div', { class: 'field' }, el('label', { for: `set-${name}` }, label), input,
      el('p', { class: 'hint', id: `hint-${name}` }, hint), error);
  }

  /** Shows what the server takes where a field is empty. */
  setDefaults(params) {
    for (const [name, input] of this.fields) {
      const value = params?.[name];
      const known = validNumber(name, value);
      // A float32 arrives as 0.949999988.
      input.placeholder = known ? String(Number(value.toFixed(4))) : UNKNOWN[name] ?? 'default';
    }
  }

  open(field = null) {
    this.fill(this.values);
    $('key').value = apiKey();
    this.dialog.showModal();
    if (field) $(field).focus();
  }

  fill(values) {
    $('system').value = values.system;
    for (const [name, input] of this.fields) {
      input.value = values[name] ?? '';
      this.refuse(name, '');
    }
  }

  refuse(name, message) {
    const input = this.fields.get(name);
    this.errors.get(name).textContent = message;
    if (message) {
      input.setAttribute('aria-invalid', 'true');
      input.setAttribute('aria-describedby', `error-${name} hint-${name}`);
    } else {
      input.removeAttribute('aria-invalid');
      input.setAttribute('aria-describedby', `hint-${name}`);
    }
  }

  /** False: a field is wrong, and has the focus. */
  save() {
    const values = { system: $('system').value };
    let wrong = null;
    for (const [name, input] of this.fields) {
      const { min, max, step } = NUMBERS[name];
      const text = input.value.trim();
      const value = Number(text);
      // A browser hands out '' for what is no number.
      const fits = !input.validity.badInput && (text === '' || validNumber(name, value));
      this.refuse(name, fits ? '' : `A ${step < 1 ? '' : 'whole '}number from ${min} to ${max}.`);
      if (!fits) wrong ??= input;
      else if (text !== '') values[name] = value;
    }
    if (wrong) {
      wrong.focus();
      return false;
    }
    this.values = values;
    saveSettings(values);
    setApiKey($('key').value.trim());
    return true;
  }
}
