// Panels at the sides, the theme, the banner at the top and the notice above the message field.

import { $, el, icon, iconButton } from './dom.js';
import { flag, isDark, setFlag, toggleTheme } from './store.js';

export class Layout {
  constructor() {
    this.narrow = matchMedia('(max-width: 52rem)');
    this.medium = matchMedia('(max-width: 75rem)');
    /** A device with nothing but a touch screen. */
    this.touch = matchMedia('(hover: none) and (pointer: coarse)').matches;
    this.sidebar = new Panel('sidebar', 'sidebar-open', 'sidebar-close', this.narrow);
    this.activity = new Panel('activity', 'activity-toggle', 'activity-close', this.medium);
    this.panels = [this.sidebar, this.activity];
    for (const panel of this.panels) {
      panel.changed = () => this.shade();
      panel.place();
    }
    $('shade').addEventListener('click', () => this.closeDrawer());
    this.theme();
    $('skip').addEventListener('click', (event) => {
      event.preventDefault();
      $('input').focus();
    });
  }

  /** Where the focus rests: the message field, but without calling up the keyboard of a phone. */
  rest() {
    $(this.touch ? 'log' : 'input').focus();
  }

  theme() {
    const show = () => $('theme').setAttribute('aria-pressed', String(isDark()));
    $('theme').addEventListener('click', () => {
      toggleTheme();
      show();
    });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show);
    show();
  }

  /** Closes what lies over the page; false where nothing did. */
  closeDrawer() {
    const open = this.panels.find((panel) => panel.isDrawer && panel.isOpen);
    open?.set(false, true);
    return Boolean(open);
  }

  /** What lies under an open drawer can be neither seen well nor reached. */
  shade() {
    const open = this.panels.find((panel) => panel.isDrawer && panel.isOpen);
    $('shade').hidden = !open;
    $('column').inert = Boolean(open);
    for (const panel of this.panels) panel.root.inert = Boolean(open) && panel !== open;
  }

  /** A line at the top, or none; with something turning, a button, or a way to close it. */
  banner(text, { busy = false, action = null, close = false } = {}) {
    const root = $('banner');
    root.hidden = text === null;
    const parts = [];
    if (text !== null) {
      parts.push(busy ? el('span', { class: 'spinner', 'aria-hidden': 'true' }) : icon('alert'), el('p', {}, text));
    }
    if (action) parts.push(el('button', { type: 'button', click: action[1] }, action[0]));
    if (close) parts.push(iconButton('close', 'Close this notice', () => this.banner(null)));
    // The same line again is not said again.
    if (root.textContent !== parts.map((part) => part.textContent).join('')) root.replaceChildren(...parts);
  }

  /** A notice above the message field, until it is closed or something else happens. */
  toast(text, action = null) {
    const button = action && el('button', {
      type: 'button',
      click: () => {
        this.clearToast();
        this.rest();
        action[1]();
      },
    }, action[0]);
    $('toast').replaceChildren(el('div', {}, el('p', {}, text), button,
      iconButton('close', 'Close this notice', () => {
        this.clearToast();
        this.rest();
      })));
  }

  clearToast() {
    $('toast').replaceChildren();
  }

  /** As high as its text, up to the limit of the style sheet; newer browsers do this alone. */
  grow(field) {
    if (CSS.supports('field-sizing', 'content')) return;
    field.style.height = 'auto';
    field.style.height = `${field.scrollHeight}px`;
  }
}

/** A panel at the side: beside the page where there is room, over it, as a drawer, where there is none. */
class Panel {
  constructor(name, opener, closer, small) {
    this.name = name;
    this.root = $(name);
    this.opener = $(opener);
    this.small = small;
    this.opener.addEventListener('click', () => this.set(!this.isOpen, true));
    $(closer).addEventListener('click', () => this.set(false, true));
    small.addEventListener('change', () => this.place());
  }

  get isDrawer() {
    return this.small.matches;
  }

  get isOpen() {
    return !this.root.hidden;
  }

  /** As the user left it where there is room; a drawer begins closed. */
  place() {
    this.set(!this.isDrawer && (flag(this.name) ?? true));
  }

  set(open, byUser = false) {
    const hadFocus = this.root.contains(document.activeElement);
    this.root.hidden = !open;
    this.opener.setAttribute('aria-expanded', String(open));
    if (byUser && !this.isDrawer) setFlag(this.name, open);
    this.changed?.();
    if (open && byUser) this.root.querySelector('.close, .icon-button')?.focus();
    else if (!open && (hadFocus || this.isDrawer) && byUser) this.opener.focus();
  }
}
