// Markdown of a model's answer to DOM nodes. Blocks: paragraphs, headings, lists, quotes, tables, fenced
// code, rules; inline: code, bold, italic, struck out, links. What is not Markdown stays text, HTML too.
// All loops are linear in the text up to the small limit on nesting.

import { copyButton, el } from './dom.js';
import { inline } from './inline.js';

const MAX_DEPTH = 8;

// ---- blocks ----

const FENCE = /^( {0,3})(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:( {1,4})(?=\S)|[ \t]*$|(?= ))/;

const isBlank = (line) => line.trim() === '';
const indentOf = (line) => line.length - line.trimStart().length;

/** The blocks of `text`; each has its `source`, by which unchanged ones are known while text comes in. */
export function parse(text) {
  return blocks(text.replaceAll('\r\n', '\n').replaceAll('\t', '    ').split('\n'), 0);
}

function blocks(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) {
      at++;
      continue;
    }
    const [block, next] = blockAt(lines, at, depth);
    block.source = `${block.type}:${lines.slice(at, next).join('\n')}`;
    found.push(block);
    at = next;
  }
  return found;
}

function blockAt(lines, at, depth) {
  const line = lines[at];
  if (depth < MAX_DEPTH) {
    if (FENCE.test(line)) return fence(lines, at);
    if (HEADING.test(line)) return [heading(line), at + 1];
    if (RULE.test(line)) return [{ type: 'rule' }, at + 1];
    if (QUOTE.test(line)) return quote(lines, at, depth);
    if (ITEM.test(line)) return list(lines, at, depth);
    if (startsTable(lines, at)) return table(lines, at);
  }
  let next = at + 1;
  while (next < lines.length && !isBlank(lines[next]) && !interrupts(lines, next, depth)) next++;
  const text = lines.slice(at, next).map((each) => each.trimStart()).join('\n');
  return [{ type: 'paragraph', text }, next];
}

/** Whether a line ends the paragraph before it. */
function interrupts(lines, at, depth) {
  if (depth >= MAX_DEPTH) return false;
  const line = lines[at];
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) ||
    /^ {0,3}(?:[-*+]|\d{1,2}[.)]) +\S/.test(line) || startsTable(lines, at);
}

function fence(lines, at) {
  const [, indent, mark, info] = FENCE.exec(lines[at]);
  const body = [];
  let next = at + 1;
  for (; next < lines.length; next++) {
    const line = lines[next].trim();
    if (line.length >= mark.length && [...line].every((char) => char === mark[0])) break;
    body.push(lines[next].slice(Math.min(indent.length, indentOf(lines[next]))));
  }
  const language = info.trim().split(/\s/)[0].slice(0, 30);
  return [{ type: 'code', language, text: body.join('\n') }, Math.min(next + 1, lines.length)];
}

function heading(line) {
  const text = line.trim();
  const level = HEADING.exec(line)[1].length;
  const content = text.slice(level).trim();
  // "# Title #": the closing marks do not count.
  const open = content.replace(/#+$/, '');
  return { type: 'heading', level, text: open === '' || open.endsWith(' ') ? open.trim() : content };
}

function quote(lines, at, depth) {
  let next = at;
  const inside = [];
  while (next < lines.length && QUOTE.test(lines[next])) inside.push(lines[next++].replace(QUOTE, ''));
  return [{ type: 'quote', blocks: blocks(inside, depth + 1) }, next];
}

function list(lines, at, depth) {
  const kind = (match) => (/\d/.test(match[2]) ? match[2].at(-1) : match[2]);
  const first = ITEM.exec(lines[at]);
  const items = [];
  let next = at;
  while (next < lines.length) {
    const match = ITEM.exec(lines[next]);
    if (!match || RULE.test(lines[next]) || kind(match) !== kind(first)) break;
    // What is indented as far as the item's text belongs to it.
    const inner = match[1].length + match[2].length + (match[3]?.length ?? 1);
    const inside = [lines[next].slice(match[0].length)];
    next++;
    while (next < lines.length) {
      const line = lines[next];
      if (isBlank(line)) {
        if (!belongs(lines, next, match[1].length)) break;
      } else if (indentOf(line) <= match[1].length && (ITEM.test(line) || isBlank(lines[next - 1]))) {
        break;
      } else if (indentOf(line) < inner && interrupts(lines, next, depth) && !ITEM.test(line)) {
        break;
      }
      inside.push(line.slice(Math.min(inner, indentOf(line))));
      next++;
    }
    items.push(blocks(inside, depth + 1));
    // Blank lines between items.
    const more = skipBlank(lines, next);
    if (more < lines.length && ITEM.test(lines[more]) && indentOf(lines[more]) >= first[1].length) next = more;
  }
  const ordered = /\d/.test(first[2]);
  return [{ type: 'list', ordered, start: ordered ? Number.parseInt(first[2], 10) : 1, items }, next];
}

function skipBlank(lines, at) {
  let next = at;
  while (next < lines.length && isBlank(lines[next])) next++;
  return next;
}

/** Whether what follows blank lines is indented deeper than the marker of the item. */
function belongs(lines, at, marker) {
  const next = skipBlank(lines, at);
  return next < lines.length && indentOf(lines[next]) > marker;
}

function cells(line) {
  const row = line.trim().replace(/^\|/, '');
  const found = [];
  let cell = '';
  let code = false;
  for (let i = 0; i < row.length; i++) {
    if (row[i] === '\\' && row[i + 1] === '|') cell += row[++i];
    else if (row[i] === '|' && !code) {
      found.push(cell.trim());
      cell = '';
    } else {
      // A pipe in a code span does not part cells.
      if (row[i] === '`' && (code || row.indexOf('`', i + 1) > 0)) code = !code;
      cell += row[i];
    }
  }
  if (cell.trim() || !row.endsWith('|')) found.push(cell.trim());
  return found;
}

function startsTable(lines, at) {
  const below = lines[at + 1];
  if (!below || !lines[at].includes('|') || !below.includes('-')) return false;
  const marks = cells(below);
  return marks.every((mark) => /^:?-+:?$/.test(mark)) && cells(lines[at]).length === marks.length;
}

function table(lines, at) {
  const head = cells(lines[at]);
  const align = cells(lines[at + 1]).map((mark) => {
    if (mark.endsWith(':')) return mark.startsWith(':') ? 'center' : 'right';
    return 'left';
  });
  const rows = [];
  let next = at + 2;
  while (next < lines.length && !isBlank(lines[next]) && lines[next].includes('|')) {
    const row = cells(lines[next++]);
    rows.push(head.map((_, column) => row[column] ?? ''));
  }
  return [{ type: 'table', head, align, rows }, next];
}

// ---- nodes ----

/**
 * Shows Markdown in `root`. Text may grow by many updates: blocks that stay as they were keep their
 * nodes, and with them the selection, the focus and how far they are scrolled.
 */
export class MarkdownView {
  constructor(root, announce) {
    this.root = root;
    this.announce = announce;
    this.shown = [];
  }

  update(text) {
    const wanted = parse(text);
    let same = 0;
    while (same < wanted.length && wanted[same].source === this.shown[same]?.block.source) same++;
    const last = this.shown[same];
    if (last?.block.type === 'code' && wanted[same]?.type === 'code' &&
        last.block.language === wanted[same].language) {
      last.node.querySelector('code').textContent = wanted[same].text;
      last.block = wanted[same++];
    }
    for (const { node } of this.shown.splice(same)) node.remove();
    for (const block of wanted.slice(same)) {
      const node = this.node(block, this.shown.findLast((each) => each.level)?.level ?? 2);
      this.root.append(node);
      const level = block.type === 'heading' ? Number(node.tagName[1]) : 0;
      this.shown.push({ block, node, level });
    }
  }

  /** `above`: the level of the heading before; levels of headings are never left out. */
  node(block, above) {
    switch (block.type) {
      case 'code': return this.code(block);
      case 'heading': {
        const level = Math.min(above + 1, block.level + 2, 6);
        return el(`h${level}`, { class: `heading-${Math.min(block.level, 4)}` }, ...inline(block.text));
      }
      case 'rule': return el('hr');
      case 'quote': return el('blockquote', {}, ...block.blocks.map((each) => this.node(each, above)));
      case 'list': return this.list(block, above);
      case 'table': return this.table(block);
      default: return el('p', {}, ...inline(block.text));
    }
  }

  code(block) {
    const code = el('code', {}, block.text);
    const label = block.language ? `Code, ${block.language}` : 'Code';
    return el('figure', { class: 'code' },
      el('figcaption', {}, el('span', {}, block.language || 'text'),
        copyButton(() => code.textContent, 'Copy code', this.announce)),
      el('pre', { tabindex: '0', role: 'region', 'aria-label': label }, code));
  }

  list(block, above) {
    const items = block.items.map((blocksOf) => el('li', {}, ...blocksOf.flatMap((each, i) => (
      // The text of a tight item stands in it directly.
      i === 0 && each.type === 'paragraph' ? inline(each.text) : [this.node(each, above)]
    ))));
    return el(block.ordered ? 'ol' : 'ul', { start: block.start === 1 ? null : String(block.start) }, ...items);
  }

  table(block) {
    const cell = (tag, props) => (text, column) => (
      el(tag, { class: block.align[column], ...props }, ...inline(text)));
    return el('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table' },
      el('table', {},
        el('thead', {}, el('tr', {}, ...block.head.map(cell('th', { scope: 'col' })))),
        el('tbody', {}, ...block.rows.map((row) => el('tr', {}, ...row.map(cell('td')))))));
  }
}
