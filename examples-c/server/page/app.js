// The page: puts its parts together and holds what they share. Each part has a module of its own:
//   store.js       what the browser keeps        api.js      the server's HTTP interface
//   generation.js  one answer being written      chat.js     the messages of a conversation
//   sidebar.js     the list of conversations     stats.js    speed, and the chart of active neurons
//   settings.js    the dialog of settings        markdown.js, inline.js   Markdown to nodes
//   layout.js      panels, theme, notices        dom.js      small helpers

import { getJson } from './api.js';
import { ChatView, counted } from './chat.js';
import { $, announce, download, el, fillIcons } from './dom.js';
import { Generation, requestFor } from './generation.js';
import { Layout } from './layout.js';
import { Settings } from './settings.js';
import { Sidebar } from './sidebar.js';
import { ActivityPanel, StatsPoll, speedLine } from './stats.js';
import * as store from './store.js';

const HEALTH_EVERY = 1500;

class App {
  constructor() {
    this.layout = new Layout();
    this.settings = new Settings(() => this.connect());
    this.panel = new ActivityPanel();
    this.poll = new StatsPoll((stats) => {
      this.stats = stats;
      this.panel.showStats(stats);
      this.showSpeed();
    });
    this.chat = new ChatView({
      suggest: (text) => this.suggest(text),
      regenerate: (answer) => this.regenerate(answer),
      resend: (message, text) => this.resend(message, text),
      rest: () => this.layout.rest(),
    });
    this.sidebar = new Sidebar({
      open: (id) => {
        location.hash = id;
        this.layout.closeDrawer();
      },
      rename: (id, title) => this.rename(id, title),
      remove: (id) => this.remove(id),
    });
    /** Answers being written, by the id of their conversation. */
    this.running = new Map();
    this.ready = false;
    this.listen();
    this.open(location.hash.slice(1));
    this.connect();
  }

  listen() {
    $('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.send();
    });
    $('input').addEventListener('keydown', (event) => this.key(event));
    $('input').addEventListener('input', () => this.showComposer());
    $('stop').addEventListener('click', () => this.stop());
    $('new').addEventListener('click', () => this.startNew());
    $('export').addEventListener('click', () => this.export());
    $('import').addEventListener('click', () => $('import-file').click());
    $('import-file').addEventListener('change', (event) => this.import(event.target));
    document.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || event.defaultPrevented || $('settings').open) return;
      if (!this.layout.closeDrawer()) this.stop();
    });
    window.addEventListener('hashchange', () => this.open(location.hash.slice(1)));
    for (const name of ['beforeunload', 'pagehide']) window.addEventListener(name, () => this.leave());
    store.onOtherTab((id) => this.changedElsewhere(id));
  }

  /** The page goes away, and with it the connections: what came so far is kept. */
  leave() {
    for (const generation of this.running.values()) {
      generation.leaving = true;
      store.saveConversation(generation.conversation);
    }
  }

  get generation() {
    return this.running.get(this.conversation.id);
  }

  // ---- the server ----

  /** Waits until the server is ready, then asks what it serves. */
  async connect() {
    clearTimeout(this.retry);
    try {
      await getJson('health');
    } catch (error) {
      this.ready = false;
      this.layout.banner(error.status === 503 ? 'The server is loading the model.'
        : `${error.message} Trying again.`, { busy: true });
      this.retry = setTimeout(() => this.connect(), HEALTH_EVERY);
      this.showComposer();
      return;
    }
    this.ready = true;
    this.layout.banner(null);
    this.showComposer();
    this.poll.set(this.running.size > 0);
    try {
      const [models, props] = await Promise.all([getJson('v1/models'), getJson('props')]);
      this.showModel(models, props);
    } catch (error) {
      if (error.status === 401) this.askForKey();
      else this.layout.banner(`What the server serves could not be asked: ${error.message}`);
    }
  }

  showModel(models, props) {
    const path = models?.data?.[0]?.id ?? props?.model_path;
    const name = typeof path === 'string' ? path.split('/').at(-1).replace(/\.gguf$/, '') : '';
    const context = props?.default_generation_settings?.n_ctx;
    $('model').textContent = [name, Number.isFinite(context) ? `${context.toLocaleString('en')} tokens of context` : '']
      .filter(Boolean).join(' · ');
    this.settings.setDefaults(props?.default_generation_settings?.params);
  }

  askForKey() {
    this.layout.banner('This server asks for an API key.',
      { action: ['Enter the key', () => this.settings.open('key')] });
  }

  // ---- conversations ----

  /** Shows the conversation with this id, or a new one. */
  open(id) {
    if (this.conversation?.id === id) return;
    this.layout.clearToast();
    this.conversation = this.running.get(id)?.conversation ?? store.loadConversation(id) ?? store.newConversation();
    this.layout.closeDrawer();
    this.refresh();
    this.layout.rest();
  }

  refresh() {
    this.chat.show(this.conversation, this.generation);
    this.showList();
    this.showComposer();
    this.showSpeed();
  }

  showList() {
    const title = store.titleOf(this.conversation);
    $('title').textContent = title;
    document.title = this.conversation.messages.length ? `${title} – PowerInfer` : 'PowerInfer';
    this.sidebar.show(store.listConversations(), this.conversation.id, this.running);
    $('export').disabled = this.conversation.messages.length === 0;
  }

  startNew() {
    history.pushState(null, '', location.pathname + location.search);
    this.open('');
    announce('New conversation');
  }

  /** Keeps the conversation; `touched`: it has a new message. */
  keep(conversation, touched = true) {
    if (touched) conversation.updated = Date.now();
    if (store.saveConversation(conversation) || this.warned) return;
    this.warned = true;
    this.layout.banner('The browser’s storage is full or switched off: new messages are lost when this ' +
      'page is closed. Export what you need, or delete conversations.', { close: true });
  }

  rename(id, title) {
    const conversation = id === this.conversation.id ? this.conversation : store.loadConversation(id);
    if (conversation && title !== null && title !== store.titleOf(conversation)) {
      conversation.title = title;
      this.keep(conversation, false);
    }
    this.showList();
  }

  remove(id) {
    const conversation = this.running.get(id)?.conversation ?? store.loadConversation(id);
    this.running.get(id)?.stop();
    store.removeConversation(id);
    if (id === this.conversation.id) this.startNew();
    else this.showList();
    if (!conversation) return;
    this.undoable('Conversation deleted', () => {
      this.keep(conversation, false);
      location.hash = id;
      this.showList();
    });
    this.layout.rest();
  }

  changedElsewhere(id) {
    if (id === this.conversation.id && !this.generation) {
      const changed = store.loadConversation(id);
      if (changed) this.conversation = changed;
      if (changed && !document.querySelector('.editing')) this.chat.show(changed, null);
    }
    this.showList();
  }

  export() {
    const name = store.titleOf(this.conversation).replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '').slice(0, 60);
    const text = JSON.stringify({ format: 'powerinfer-conversation', version: 1, ...this.conversation }, null, 2);
    download(`${name || 'conversation'}.json`, 'application/json', `${text}\n`);
    announce('Exported');
  }

  async import(field) {
    const [file] = field.files;
    field.value = '';
    let conversation = null;
    try {
      conversation = store.checkedConversation(JSON.parse(await file.text()));
    } catch {
      // Not JSON: refused below.
    }
    if (!conversation?.messages.length) {
      this.layout.toast(`${file.name} is not a conversation exported from this page.`);
      return;
    }
    // What is here already stays as it is.
    if (store.loadConversation(conversation.id)) conversation.id = store.newConversation().id;
    this.keep(conversation);
    location.hash = conversation.id;
  }

  // ---- messages ----

  suggest(text) {
    $('input').value = text;
    this.showComposer();
    $('input').focus();
  }

  send() {
    const text = $('input').value.trim();
    if (!text || this.generation || !this.ready) return;
    $('input').value = '';
    // To undo what was before would now drop this message.
    this.layout.clearToast();
    this.conversation.messages.push(store.newMessage('user', text));
    this.answer();
  }

  regenerate(answer) {
    this.cutAt(answer, 'Answer replaced');
    this.answer();
  }

  resend(message, text) {
    this.cutAt(message, 'Later messages dropped');
    this.conversation.messages.push(store.newMessage('user', text));
    this.answer();
  }

  /** Drops a message and all after it; they can be had back. */
  cutAt(message, note) {
    const { conversation } = this;
    const before = conversation.messages;
    this.layout.clearToast();
    this.generation?.stop();
    conversation.messages = before.slice(0, before.indexOf(message));
    const worth = before.slice(conversation.messages.length).some((each) => each.content && each.finish !== 'error');
    if (!worth) return;
    this.undoable(note, () => {
      this.running.get(conversation.id)?.stop();
      conversation.messages = before;
      this.keep(conversation);
      if (conversation === this.conversation) this.refresh();
    });
  }

  /** Lets the model write what comes after the last message. */
  answer() {
    const { conversation } = this;
    const request = requestFor(conversation.messages, this.settings.values);
    const answer = store.newMessage('assistant', '');
    conversation.messages.push(answer);
    const generation = new Generation(conversation, answer, request);
    const shown = () => conversation === this.conversation && conversation.messages.includes(answer);
    generation.addEventListener('change', () => {
      if (!shown()) return;
      this.chat.update(answer, generation);
      this.showSpeed();
    });
    generation.addEventListener('keep', () => {
      // What was deleted meanwhile does not come back.
      if (this.running.get(conversation.id) === generation) this.keep(conversation);
    });
    generation.addEventListener('end', () => this.ended(generation, shown()));
    this.running.set(conversation.id, generation);
    if (location.hash.slice(1) !== conversation.id) history.replaceState(null, '', `#${conversation.id}`);
    generation.run();
    this.refresh();
    announce('The answer is being written.');
    this.layout.rest();
    this.poll.set(true);
  }

  ended(generation, shown) {
    const { conversation, answer, error } = generation;
    if (error?.status === 503) answer.error = this.busyNote(error);
    if (this.running.get(conversation.id) === generation) {
      this.running.delete(conversation.id);
      if (store.loadConversation(conversation.id)) this.keep(conversation);
    }
    this.poll.set(this.running.size > 0);
    this.showList();
    if (error?.status === 401) this.askForKey();
    if (error?.status === 0) this.connect();
    if (conversation === this.conversation) {
      this.showComposer();
      this.showSpeed();
    }
    if (!shown) return;
    this.chat.update(answer, null);
    if (!error) announce(answer.finish === 'stopped' ? 'Stopped.' : `Answer: ${this.chat.spoken(answer)}`);
  }

  /** Status 503: the queue is full, or the server is shutting down; its own words say which. */
  busyNote({ message, retryAfter }) {
    const when = retryAfter ? `in ${counted(retryAfter, 'second')}` : 'in a moment';
    return `The server is busy (${message.replace(/\.$/, '')}). Try again ${when}.`;
  }

  stop() {
    if (!this.generation) return;
    this.generation.stop();
    this.layout.rest();
  }

  undoable(note, undo) {
    this.layout.toast(note, ['Undo', undo]);
  }

  // ---- the message field ----

  key(event) {
    if (event.isComposing || event.keyCode === 229) return;
    // On a phone's keyboard there is no Shift+Enter: the button sends.
    if (event.key === 'Enter' && !event.shiftKey && !this.layout.touch) {
      event.preventDefault();
      this.send();
    } else if (event.key === 'ArrowUp' && !$('input').value && !this.generation) {
      if (this.chat.editLast()) event.preventDefault();
    }
  }

  showComposer() {
    const busy = Boolean(this.generation);
    $('send').hidden = busy;
    $('stop').hidden = !busy;
    $('send').disabled = !this.ready || !$('input').value.trim();
    const keys = busy ? [['Esc', 'stops']] : [['Enter', 'sends'], ['Shift+Enter', 'new line']];
    const hints = keys.flatMap(([key, what]) => [el('kbd', {}, key), ` ${what} `]);
    $('hint').replaceChildren(...(this.layout.touch ? [] : hints));
    this.layout.grow($('input'));
  }

  showSpeed() {
    const answer = this.conversation.messages.findLast((message) => message.role === 'assistant');
    const rate = this.generation?.rate ?? null;
    this.panel.showAnswer(answer?.timings, rate);
    $('speed').textContent = speedLine(answer?.timings, rate, this.stats);
  }
}

fillIcons(document);
new App();
