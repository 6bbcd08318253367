// One answer of the model while it is being written.

import { streamChat } from './api.js';
import { NUMBERS } from './store.js';

/** How often what changed is shown and kept, in ms. */
const SHOW_EVERY = 50;
const KEEP_EVERY = 1000;

/** What a model thought before its answer, which some write between these marks, and the answer. */
export function parts(content) {
  const match = /^\s*<think>([^]*?)(<\/think>|$)/.exec(content);
  if (!match) return { thought: '', thinking: false, text: content };
  return { thought: match[1].trim(), thinking: !match[2], text: content.slice(match[0].length).trimStart() };
}

/** The request for the answer that comes after `messages`. */
export function requestFor(messages, settings) {
  const sent = [];
  const system = settings.system.trim();
  if (system) sent.push({ role: 'system', content: system });
  for (const { role, content: whole } of messages) {
    // Old thoughts would only fill the context.
    const content = role === 'user' ? whole : parts(whole).text;
    // An answer that failed before its first word leaves two questions in a row; templates want turns.
    const last = sent.at(-1);
    if (role === 'user' && last?.role === 'user') last.content += `\n\n${content}`;
    else if (content) sent.push({ role, content });
  }
  const numbers = Object.keys(NUMBERS).filter((name) => settings[name] !== undefined);
  return { messages: sent, ...Object.fromEntries(numbers.map((name) => [name, settings[name]])) };
}

/**
 * Writes `answer`, the last message of `conversation`. Events: `change` as text comes in, `keep` when it
 * should be stored, `end` once. The outcome is in the message: its `finish`, `error` and `timings`.
 */
export class Generation extends EventTarget {
  constructor(conversation, answer, request) {
    super();
    this.conversation = conversation;
    this.answer = answer;
    this.request = request;
    this.aborter = new AbortController();
    /** Pieces of text so far, about one a token, and since when in ms. */
    this.pieces = 0;
    this.firstAt = 0;
    this.lastAt = 0;
    this.keptAt = performance.now();
    /** The page is being left: a lost connection is no fault then. */
    this.leaving = false;
  }

  /** Pieces of text per second, or null before there are enough of them. */
  get rate() {
    const seconds = (this.lastAt - this.firstAt) / 1000;
    return this.pieces > 2 && seconds > 0 ? (this.pieces - 1) / seconds : null;
  }

  stop() {
    this.aborter.abort();
  }

  async run() {
    const { answer } = this;
    // What a reload finds if the page goes away meanwhile.
    answer.finish = 'interrupted';
    this.emit('keep');
    try {
      let finish = null;
      for await (const chunk of streamChat(this.request, this.aborter.signal)) {
        const choice = chunk.choices?.[0];
        if (typeof choice?.delta?.content === 'string') this.add(choice.delta.content);
        if (choice?.finish_reason) finish = choice.finish_reason;
        if (chunk.timings) answer.timings = chunk.timings;
      }
      answer.finish = finish === 'length' ? 'length' : 'stop';
    } catch (error) {
      if (this.aborter.signal.aborted) {
        answer.finish = 'stopped';
      } else if (!this.leaving) {
        answer.finish = 'error';
        answer.error = error.message;
        this.error = error;
      }
    }
    clearTimeout(this.timer);
    this.emit('change');
    this.emit('end');
  }

  add(text) {
    if (!text) return;
    this.answer.content += text;
    this.pieces++;
    this.lastAt = performance.now();
    this.firstAt ||= this.lastAt;
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.emit('change');
      if (performance.now() - this.keptAt < KEEP_EVERY) return;
      this.keptAt = performance.now();
      this.emit('keep');
    }, SHOW_EVERY);
  }

  emit(name) {
    this.dispatchEvent(new Event(name));
  }
}
