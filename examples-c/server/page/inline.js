// Markdown inside a line. Returns nodes; what is not understood stays text.

import { el } from './dom.js';

const MAX_DEPTH = 12;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}_]/u;
const SPACE = /\s/;
const TAGS = { '*': 'em', '**': 'strong', '_': 'em', '__': 'strong', '~~': 'del' };

/** The address when a link may lead there: http and https alone. */
export function safeUrl(text) {
  try {
    const url = new URL(text);
    return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : null;
  } catch {
    return null;
  }
}

function link(url, children) {
  return el('a', { href: url, rel: 'noopener noreferrer', target: '_blank' }, ...children);
}

/** The nodes of `text`. */
export function inline(text, depth = 0) {
  return new Line(text, depth).nodes();
}

class Line {
  constructor(text, depth) {
    this.text = text;
    this.depth = depth;
    this.at = 0;
    this.found = [];
    this.plain = '';
    // Marks that have no second one further on; looking once is enough.
    this.single = new Set();
  }

  nodes() {
    while (this.at < this.text.length) {
      const node = this.special();
      if (node) this.push(node);
      else if (node === null) this.plain += this.text[this.at++];
    }
    this.flush();
    return this.found;
  }

  flush() {
    if (this.plain) this.found.push(document.createTextNode(this.plain));
    this.plain = '';
  }

  push(node) {
    this.flush();
    this.found.push(node);
  }

  /** A node when one begins here, undefined when text was taken, null for a plain letter. */
  special() {
    switch (this.text[this.at]) {
      case '\\': return this.escape();
      case '\n': return this.lineBreak();
      case '`': return this.code();
      case '!': return this.text[this.at + 1] === '[' ? this.link(1) : null;
      case '[': return this.link(0);
      case '<': return this.angle();
      case 'h': return this.bareLink();
      case '*': case '_': case '~': return this.emphasis();
      default: return null;
    }
  }

  take(text) {
    this.plain += text;
    this.at += text.length;
  }

  lineBreak() {
    this.plain = this.plain.trimEnd();
    this.at++;
    return el('br');
  }

  escape() {
    const next = this.text[this.at + 1];
    // Formulas are shown as they were written.
    if (next === '(' || next === '[') {
      const end = this.find(next === '(' ? '\\)' : '\\]', this.at + 2);
      if (end > 0) {
        const formula = this.text.slice(this.at + 2, end).trim();
        this.at = end + 2;
        return el('code', { class: 'formula' }, formula);
      }
    }
    if (next === undefined || !PUNCTUATION.test(next)) return null;
    this.plain += next;
    this.at += 2;
    return undefined;
  }

  find(mark, from) {
    if (this.single.has(mark)) return -1;
    const end = this.text.indexOf(mark, from);
    if (end < 0) this.single.add(mark);
    return end;
  }

  run(at) {
    let end = at;
    while (this.text[end] === this.text[at]) end++;
    return end - at;
  }

  code() {
    const length = this.run(this.at);
    const end = this.codeEnd(this.at, length);
    if (end < 0) {
      this.take('`'.repeat(length));
      return undefined;
    }
    const inside = this.text.slice(this.at + length, end).replaceAll('\n', ' ');
    this.at = end + length;
    const padded = inside.length > 2 && inside.startsWith(' ') && inside.endsWith(' ') && inside.trim();
    return el('code', {}, padded ? inside.slice(1, -1) : inside);
  }

  /** Where the run of as many backticks begins that closes the one at `at`. */
  codeEnd(at, length) {
    const mark = `code${length}`;
    if (this.single.has(mark)) return -1;
    for (let i = this.text.indexOf('`', at + length); i >= 0;) {
      const there = this.run(i);
      if (there === length) return i;
      i = this.text.indexOf('`', i + there);
    }
    this.single.add(mark);
    return -1;
  }

  /** [text](address), and images, which become links: nothing is loaded from elsewhere. */
  link(skip) {
    const open = this.at + skip;
    const length = this.text.slice(open, open + 500).indexOf('](');
    const label = this.text.slice(open + 1, open + Math.max(length, 1));
    // Of nested brackets the innermost are meant.
    if (length < 0 || label.includes('[')) return null;
    const close = open + length;
    const rest = this.text.slice(close + 2, close + 2050);
    const address = /^<?((?:[^\s()<>]|\([^\s()<>]*\))+)>?(?: +"[^"]*")?\)/.exec(rest);
    const url = address && safeUrl(address[1]);
    if (!url) return null;
    this.at = close + 2 + address[0].length;
    return link(url, label ? this.inside(label) : [url]);
  }

  angle() {
    const match = /^<(https?:\/\/[^\s<>]{1,2000})>/.exec(this.text.slice(this.at, this.at + 2012));
    const url = match && safeUrl(match[1]);
    if (!url) return null;
    this.at += match[0].length;
    return link(url, [match[1]]);
  }

  bareLink() {
    if (!this.text.startsWith('http', this.at) || WORD.test(this.text[this.at - 1] ?? ' ')) return null;
    const match = /^https?:\/\/[^\s<>`*]{1,2000}/.exec(this.text.slice(this.at, this.at + 2008));
    if (!match) return null;
    // What ends a sentence is not of the address, nor a bracket that was opened before it.
    let shown = match[0].replace(/[.,:;!?'"\]}]+$/, '');
    if (shown.endsWith(')') && !shown.includes('(')) shown = shown.slice(0, -1);
    const url = safeUrl(shown);
    if (!url) return null;
    this.at += shown.length;
    return link(url, [shown]);
  }

  emphasis() {
    const char = this.text[this.at];
    const length = this.run(this.at);
    const after = this.text[this.at + length] ?? ' ';
    const inWord = char === '_' && WORD.test(this.text[this.at - 1] ?? ' ');
    if (length > 3 || (char === '~' && length !== 2) || SPACE.test(after) || inWord ||
        this.depth >= MAX_DEPTH) {
      this.take(char.repeat(length));
      return undefined;
    }
    // Three are bold and italic, or one of the two with the other inside.
    for (const size of length === 3 ? [3, 2, 1] : [length]) {
      const mark = char.repeat(size);
      const end = this.emphasisEnd(this.at + size, mark);
      if (end < 0) continue;
      const inside = this.inside(this.text.slice(this.at + size, end));
      this.at = end + size;
      return size === 3 ? el('strong', {}, el('em', {}, ...inside)) : el(TAGS[mark], {}, ...inside);
    }
    this.take(char.repeat(length));
    return undefined;
  }

  emphasisEnd(from, mark) {
    if (this.single.has(mark)) return -1;
    for (let i = from; i < this.text.length;) {
      const char = this.text[i];
      if (char === '\\') i += 2;
      else if (char === '`') {
        const length = this.run(i);
        const end = this.codeEnd(i, length);
        i = (end < 0 ? i : end) + length;
      } else if (char === mark[0]) {
        const length = this.run(i);
        const other = mark.length < 3 && length === 3 - mark.length;
        const closes = !SPACE.test(this.text[i - 1]) && i > from &&
          (char !== '_' || !WORD.test(this.text[i + length] ?? ' '));
        if (length >= mark.length && !other && closes) return i + length - mark.length;
        i += length;
      } else i++;
    }
    this.single.add(mark);
    return -1;
  }

  inside(text) {
    return inline(text, this.depth + 1);
  }
}
