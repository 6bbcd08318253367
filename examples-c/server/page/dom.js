// Small helpers around the DOM. Text from people and models only ever becomes text nodes: nothing in
// this page parses HTML.

const SVG = 'http://www.w3.org/2000/svg';

// 24 by 24, drawn with strokes.
const ICONS = {
  menu: 'M4 7h16M4 12h16M4 17h16',
  plus: 'M12 5v14M5 12h14',
  close: 'M6 6l12 12M18 6L6 18',
  send: 'M12 19V5M5.5 11.5L12 5l6.5 6.5',
  stop: 'M7 7h10v10H7z',
  copy: 'M9 9h10v11H9zM15 9V4H5v11h4',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  edit: 'M4 20l1-4.5L16 4.5l3.5 3.5-11 11zM13.5 7l3.5 3.5',
  retry: 'M19.5 12a7.5 7.5 0 1 1-2.3-5.4M19.5 3.5v4.3h-4.3',
  trash: 'M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.5 10.5v5.5M13.5 10.5v5.5',
  download: 'M12 4v11M7 10.5l5 5 5-5M5 20h14',
  upload: 'M12 15.5V4.5M7 9l5-5 5 5M5 20h14',
  settings: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5',
  chart: 'M5 20v-7M10 20V6M15 20v-10M20 20v-4',
  theme: 'M12 3.5a8.5 8.5 0 1 0 0 17zM12 3.5a8.5 8.5 0 0 1 0 17z',
  down: 'M12 5v14M5.5 12.5L12 19l6.5-6.5',
  alert: 'M12 4.5l8.5 15h-17zM12 10v4.5M12 17v.2',
};

export function $(id) {
  return document.getElementById(id);
}

/**
 * An element. In `props`, a function is a listener, `true` an empty attribute, `false` and `null` none;
 * `style` has no place here, since the policy of the page refuses style attributes.
 */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === 'function') node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function icon(name) {
  const props = { class: 'icon', viewBox: '0 0 24 24', 'aria-hidden': 'true', focusable: 'false' };
  return svg('svg', props, svg('path', { d: ICONS[name] }));
}

/** A button that shows an icon only; its label is for screen readers and the tooltip. */
export function iconButton(name, label, onClick, props = {}) {
  const own = { type: 'button', class: 'icon-button', 'aria-label': label, title: label, click: onClick };
  return el('button', { ...own, ...props }, icon(name));
}

/** Gives the buttons written in HTML their icons. */
export function fillIcons(root) {
  for (const node of root.querySelectorAll('[data-icon]')) node.prepend(icon(node.dataset.icon));
}

/** Copies text, also on pages without the clipboard interface (plain HTTP from another machine). */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const focused = document.activeElement;
    const area = el('textarea', { class: 'visually-hidden', 'aria-hidden': 'true', tabindex: '-1' });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    focused?.focus();
    return done;
  }
}

/** A button that copies what `text()` gives and says for a moment that it did. */
export function copyButton(text, label, announce) {
  const button = iconButton('copy', label, async () => {
    const done = await copyText(text());
    announce(done ? 'Copied' : 'The browser refused to copy');
    if (!done) return;
    button.replaceChildren(icon('check'));
    setTimeout(() => button.replaceChildren(icon('copy')), 1500);
  });
  return button;
}

/** Saves text as a file of the user's. */
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = el('a', { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

let speaking;

/** Says something through the page's one polite live region. */
export function announce(text) {
  const region = $('announcer');
  region.textContent = '';
  clearTimeout(speaking);
  // A change of an empty region is what screen readers notice, even if the words are the same.
  speaking = setTimeout(() => {
    region.textContent = text;
    // Nobody should find it again when reading through the page.
    speaking = setTimeout(() => { region.textContent = ''; }, 15_000);
  }, 50);
}
