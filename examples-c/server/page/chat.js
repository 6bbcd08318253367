// The messages of one conversation, and what can be done with each.

import { $, announce, copyButton, el, icon, iconButton } from './dom.js';
import { parts } from './generation.js';
import { MarkdownView } from './markdown.js';

const SUGGESTIONS = [
  'Explain how a neural network learns, for a twelve-year-old',
  'Write a short poem about the sea in winter',
  'Compare three sorting algorithms in a table',
  'Help me plan a weekend in the mountains',
];

export const pace = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));

export const perSecond = (value) => (Number.isFinite(value) ? `${pace(value)}\u00a0tokens/s` : '–');

export const counted = (n, what) => `${n.toLocaleString('en')} ${n === 1 ? what : `${what}s`}`;

/** How an answer ended, when that is worth a word. */
function ending(message) {
  switch (message.finish) {
    case 'length': return 'Stopped at the limit of tokens.';
    case 'stopped': return 'You stopped this answer.';
    case 'interrupted': return 'This answer was interrupted.';
    default: return '';
  }
}

/** `actions`: what buttons lead to: suggest(text), regenerate(message), resend(message, text), rest(). */
export class ChatView {
  constructor(actions) {
    this.actions = actions;
    this.log = $('log');
    this.root = $('messages');
    this.jump = $('jump');
    this.nodes = new Map();
    /** Whether the end is kept in sight while text comes in. */
    this.follow = true;
    this.top = 0;
    this.log.addEventListener('scroll', () => {
      // Away from the end only by going up: text may have come in since the scrolling down to it.
      const near = this.distance() < 40;
      if (near || this.log.scrollTop < this.top) this.follow = near;
      this.top = this.log.scrollTop;
      this.jump.hidden = this.distance() < 200;
    }, { passive: true });
    this.jump.addEventListener('click', () => {
      this.toEnd();
      this.actions.rest();
    });
    new ResizeObserver(() => this.settle()).observe(this.root);
  }

  distance() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight;
  }

  toEnd() {
    this.follow = true;
    this.log.scrollTop = this.log.scrollHeight;
  }

  settle() {
    if (this.follow) this.log.scrollTop = this.log.scrollHeight;
    this.jump.hidden = this.distance() < 200;
  }

  /** Shows a conversation from its beginning; `generation` is what runs in it. */
  show(conversation, generation) {
    this.conversation = conversation;
    this.nodes.clear();
    const messages = conversation.messages.map((message) => this.message(message, generation));
    this.root.replaceChildren(...(messages.length ? messages : [this.welcome()]));
    this.toEnd();
  }

  /** Shows one message again, for instance after text came in. */
  update(message, generation) {
    const shown = this.nodes.get(message.id);
    if (!shown) return;
    const busy = generation?.answer === message;
    this.write(shown, message);
    if (shown.busy === busy) return;
    shown.busy = busy;
    const hadFocus = shown.foot.contains(document.activeElement);
    this.finish(shown, message);
    if (hadFocus) this.actions.rest();
  }

  /** What a screen reader is told of a finished answer. */
  spoken(message) {
    const body = this.nodes.get(message.id)?.body;
    return body ? body.innerText.trim() : message.content;
  }

  welcome() {
    const suggestions = SUGGESTIONS.map((text) => el('li', {},
      el('button', { type: 'button', click: () => this.actions.suggest(text) }, text)));
    return el('section', { class: 'welcome' },
      el('img', { src: 'favicon.svg', alt: '', width: '48', height: '48' }),
      el('h2', {}, 'What shall we talk about?'),
      el('p', {}, 'Conversations stay in this browser. Messages go to this server and nowhere else.'),
      el('ul', {}, ...suggestions));
  }

  message(message, generation) {
    const user = message.role === 'user';
    const body = el('div', { class: user ? 'body' : 'body markdown' });
    const thought = user ? null : el('details', { class: 'thinking', hidden: true }, el('summary'), el('div'));
    const foot = el('div', { class: 'foot' });
    const props = { class: `message ${message.role}`, 'aria-label': user ? 'Your message' : 'Answer' };
    const node = el('article', props,
      el('h2', { class: 'visually-hidden' }, user ? 'You' : 'Answer'), thought, body, foot);
    const shown = { node, thought, body, foot, busy: generation?.answer === message };
    if (!user) shown.markdown = new MarkdownView(body, announce);
    this.write(shown, message);
    this.nodes.set(message.id, shown);
    this.finish(shown, message);
    return node;
  }

  /** The text of a message. */
  write(shown, message) {
    if (!shown.markdown) {
      shown.body.textContent = message.content;
      return;
    }
    const { thought, thinking, text } = parts(message.content);
    shown.thought.hidden = !thought && !thinking;
    shown.thought.firstChild.textContent = thinking ? 'Thinking …' : 'Thought before answering';
    shown.thought.lastChild.textContent = thought;
    shown.markdown.update(text);
  }

  /** The lines and buttons under a message. */
  finish(shown, message) {
    const { node, foot, busy } = shown;
    node.classList.toggle('busy', busy);
    node.setAttribute('aria-busy', String(busy));
    if (busy) {
      foot.replaceChildren();
      return;
    }
    const lines = [];
    if (message.finish === 'error') lines.push(this.failure(message));
    else if (ending(message)) lines.push(el('p', { class: 'ending' }, ending(message)));
    // A failure without text has its own button.
    if (message.content || message.finish !== 'error') lines.push(this.buttons(shown, message));
    foot.replaceChildren(...lines);
  }

  failure(message) {
    return el('div', { class: 'failure', role: 'alert' }, icon('alert'), el('p', {}, message.error),
      el('button', { type: 'button', click: () => this.actions.regenerate(message) }, 'Try again'));
  }

  buttons(shown, message) {
    const user = message.role === 'user';
    const buttons = [];
    if (message.content) {
      const text = () => (user ? message.content : parts(message.content).text);
      buttons.push(copyButton(text, user ? 'Copy message' : 'Copy answer', announce));
    }
    if (user) {
      buttons.push(iconButton('edit', 'Edit message', () => this.edit(message), { class: 'icon-button edit' }));
    } else {
      buttons.push(iconButton('retry', 'Regenerate answer', () => this.actions.regenerate(message)));
    }
    const { predicted_n: tokens, predicted_per_second: speed } = message.timings ?? {};
    const figures = Number.isFinite(tokens) && Number.isFinite(speed)
      ? el('span', { class: 'figures' }, `${counted(tokens, 'token')} · ${perSecond(speed)}`) : null;
    return el('div', { class: 'actions' }, ...buttons, figures);
  }

  /** The user's message becomes a field; sending it again drops what came after. */
  edit(message) {
    const shown = this.nodes.get(message.id);
    if (!shown || shown.node.classList.contains('editing')) return;
    const close = () => {
      shown.node.classList.remove('editing');
      shown.body.textContent = message.content;
      this.finish(shown, message);
      shown.foot.querySelector('.edit').focus();
    };
    const resend = () => {
      const text = field.value.trim();
      if (text) this.actions.resend(message, text);
    };
    const field = el('textarea', {
      'aria-label': 'Edit message',
      rows: '2',
      keydown: (event) => {
        if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) resend();
        else if (event.key === 'Escape') close();
        else return;
        event.preventDefault();
        event.stopPropagation();
      },
    });
    field.value = message.content;
    shown.node.classList.add('editing');
    shown.body.replaceChildren(field);
    shown.foot.replaceChildren(el('div', { class: 'buttons' },
      el('button', { type: 'button', class: 'quiet', click: close }, 'Cancel'),
      el('button', { type: 'button', class: 'primary', click: resend }, 'Send again')));
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  /** Opens the last message of the user's for editing; false where there is none. */
  editLast() {
    const last = this.conversation.messages.findLast((message) => message.role === 'user');
    if (last) this.edit(last);
    return Boolean(last);
  }
}
