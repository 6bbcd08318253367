// What the browser keeps: conversations and settings in localStorage, the API key for this tab only.
// What lies there may have been written by another version, by hand or by an attacker on the same
// origin: everything read is checked, and what does not fit is left out.

const PREFIX = 'powerinfer.conversation.';
const SETTINGS = 'powerinfer.settings';
const KEY = 'powerinfer.key';

/** Settings of requests: bounds, and whether they are whole numbers. Empty: the server's default. */
export const NUMBERS = {
  temperature: { min: 0, max: 5, step: 0.05 },
  top_k: { min: 0, max: 100_000, step: 1 },
  top_p: { min: 0, max: 1, step: 0.01 },
  min_p: { min: 0, max: 1, step: 0.01 },
  max_tokens: { min: 1, max: 1_000_000, step: 1 },
  seed: { min: 0, max: 4_294_967_295, step: 1 },
};

const FINISHES = new Set(['stop', 'length', 'stopped', 'interrupted', 'error']);

/** Storage that may be switched off, full or absent; then a map takes its place until the page closes. */
class Box {
  constructor(open) {
    this.spare = new Map();
    try {
      this.storage = open();
    } catch {
      this.storage = null;
    }
  }

  keys() {
    const keys = new Set(this.spare.keys());
    try {
      for (let i = 0; i < (this.storage?.length ?? 0); i++) keys.add(this.storage.key(i));
    } catch {
      // Then there are those of this page alone.
    }
    return [...keys];
  }

  get(key) {
    if (this.spare.has(key)) return this.spare.get(key);
    try {
      return this.storage?.getItem(key) ?? null;
    } catch {
      return null;
    }
  }

  /** False: it is kept only until the page closes. */
  set(key, value) {
    try {
      if (!this.storage) throw new Error('no storage');
      this.storage.setItem(key, value);
      this.spare.delete(key);
      return true;
    } catch {
      this.spare.set(key, value);
      return false;
    }
  }

  remove(key) {
    this.spare.delete(key);
    try {
      this.storage?.removeItem(key);
    } catch {
      // Nothing was there.
    }
  }
}

const local = new Box(() => window.localStorage);
const session = new Box(() => window.sessionStorage);

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function id() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_');
}

// ---- conversations ----

export function newMessage(role, content) {
  return { id: id(), role, content, created: Date.now() };
}

export function newConversation() {
  const now = Date.now();
  return { id: id(), title: '', created: now, updated: now, messages: [] };
}

/** The title given by the user, or the beginning of the first message. */
export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = conversation.messages.find((message) => message.role === 'user');
  const line = first?.content.trim().split('\n')[0].trim() ?? '';
  const letters = [...line];
  return letters.length > 60 ? `${letters.slice(0, 59).join('').trimEnd()}…` : line || 'New conversation';
}

const time = (value) => (Number.isFinite(value) ? value : 0);
const isId = (value) => typeof value === 'string' && /^[\w-]{1,64}$/.test(value);

function checkedTimings(raw) {
  if (typeof raw !== 'object' || raw === null) return undefined;
  const timings = {};
  for (const name of ['prompt_n', 'prompt_per_second', 'predicted_n', 'predicted_per_second']) {
    if (Number.isFinite(raw[name]) && raw[name] >= 0) timings[name] = raw[name];
  }
  return timings;
}

function checkedMessage(raw) {
  if (typeof raw !== 'object' || raw === null) return null;
  const { role, content } = raw;
  if ((role !== 'user' && role !== 'assistant') || typeof content !== 'string') return null;
  const message = { id: isId(raw.id) ? raw.id : id(), role, content, created: time(raw.created) };
  if (FINISHES.has(raw.finish)) message.finish = raw.finish;
  if (typeof raw.error === 'string') message.error = raw.error;
  const timings = checkedTimings(raw.timings);
  if (timings) message.timings = timings;
  return message;
}

/** A conversation from outside, or null. */
export function checkedConversation(raw) {
  if (typeof raw !== 'object' || raw === null || !isId(raw.id) || !Array.isArray(raw.messages)) return null;
  const seen = new Set();
  const messages = raw.messages.map(checkedMessage).filter((message) => {
    const fresh = message !== null && !seen.has(message.id);
    if (fresh) seen.add(message.id);
    return fresh;
  });
  return {
    id: raw.id,
    title: typeof raw.title === 'string' ? raw.title.slice(0, 200) : '',
    created: time(raw.created),
    updated: time(raw.updated),
    messages,
  };
}

export function loadConversation(which) {
  const conversation = checkedConversation(parse(local.get(PREFIX + which)));
  return conversation?.id === which ? conversation : null;
}

/** All that can be read, newest first. */
export function listConversations() {
  return local.keys()
    .filter((key) => key.startsWith(PREFIX))
    .map((key) => loadConversation(key.slice(PREFIX.length)))
    .filter((conversation) => conversation !== null)
    .sort((a, b) => b.updated - a.updated);
}

/** False: the browser's storage is full or off, and it is kept only until the page closes. */
export function saveConversation(conversation) {
  return local.set(PREFIX + conversation.id, JSON.stringify(conversation));
}

export function removeConversation(which) {
  local.remove(PREFIX + which);
}

/** Calls back with the id of a conversation that another tab changed. */
export function onOtherTab(changed) {
  window.addEventListener('storage', (event) => {
    if (event.key?.startsWith(PREFIX)) changed(event.key.slice(PREFIX.length));
  });
}

// ---- settings ----

/** Whether `value` may be sent as the setting `name`. */
export function validNumber(name, value) {
  const { min, max, step } = NUMBERS[name];
  return Number.isFinite(value) && value >= min && value <= max && (step < 1 || Number.isInteger(value));
}

export function loadSettings() {
  const raw = parse(local.get(SETTINGS)) ?? {};
  const settings = { system: typeof raw.system === 'string' ? raw.system : '' };
  for (const name of Object.keys(NUMBERS)) {
    if (validNumber(name, raw[name])) settings[name] = raw[name];
  }
  return settings;
}

export function saveSettings(settings) {
  return local.set(SETTINGS, JSON.stringify(settings));
}

export function apiKey() {
  return session.get(KEY) ?? '';
}

export function setApiKey(key) {
  if (key) session.set(KEY, key);
  else session.remove(KEY);
}

// ---- look ----

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

/** The other theme; where that is the system's own, nothing is kept, and the page follows the system. */
export function toggleTheme() {
  const theme = isDark() ? 'light' : 'dark';
  const system = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  if (theme === system) {
    delete document.documentElement.dataset.theme;
    local.remove('powerinfer.theme');
  } else {
    document.documentElement.dataset.theme = theme;
    local.set('powerinfer.theme', theme);
  }
}

/** Small choices about the look, such as which panels are open. */
export function flag(name) {
  const value = local.get(`powerinfer.look.${name}`);
  return value === null ? null : value === 'yes';
}

export function setFlag(name, value) {
  local.set(`powerinfer.look.${name}`, value ? 'yes' : 'no');
}
