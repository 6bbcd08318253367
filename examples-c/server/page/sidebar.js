// The list of conversations: open, rename, delete.

import { $, el, iconButton } from './dom.js';
import { titleOf } from './store.js';

const DAY = 86_400_000;

/** Under which heading a conversation stands. */
function period(updated) {
  const today = new Date();
  today.setHours(0, 0, 0, 0);
  if (updated >= today.getTime()) return 'Today';
  if (updated >= today.getTime() - 7 * DAY) return 'The last seven days';
  return 'Earlier';
}

function dot() {
  return el('span', { class: 'dot' }, el('span', { class: 'visually-hidden' }, ', answering'));
}

/** `actions`: open(id), rename(id, title), remove(id). */
export class Sidebar {
  constructor(actions) {
    this.actions = actions;
    this.root = $('conversations');
  }

  /** `running`: ids of conversations whose answer is being written. */
  show(conversations, current, running) {
    // A name that is being typed is not taken away by an answer that ends meanwhile.
    if (this.root.querySelector('.rename')) return;
    const focused = this.root.contains(document.activeElement)
      ? [document.activeElement.closest('li').dataset.id, document.activeElement.dataset.action] : null;
    const lists = [];
    let heading = null;
    for (const conversation of conversations) {
      if (period(conversation.updated) !== heading) {
        heading = period(conversation.updated);
        lists.push(el('h2', {}, heading), el('ul', { 'aria-label': heading }));
      }
      lists.at(-1).append(this.item(conversation, current, running));
    }
    this.root.replaceChildren(...(lists.length ? lists : [el('p', { class: 'none' }, 'No conversations yet.')]));
    if (focused) this.focus(...focused);
  }

  focus(id, action) {
    this.root.querySelector(`li[data-id="${id}"] [data-action="${action}"]`)?.focus();
  }

  item(conversation, current, running) {
    const { id } = conversation;
    const title = titleOf(conversation);
    const item = el('li', { 'data-id': id, class: id === current ? 'current' : null },
      el('button', {
        type: 'button',
        class: 'open',
        title,
        'data-action': 'open',
        'aria-current': id === current ? 'true' : null,
        click: () => this.actions.open(id),
      }, el('span', {}, title), running.has(id) ? dot() : null),
      iconButton('edit', `Rename ${title}`, () => this.rename(item, conversation), { 'data-action': 'rename' }),
      iconButton('trash', `Delete ${title}`, () => this.actions.remove(id), { 'data-action': 'remove' }));
    return item;
  }

  rename(item, conversation) {
    let done = false;
    const close = (title) => {
      // Taking the field away also blurs it.
      if (done) return;
      done = true;
      field.remove();
      this.actions.rename(conversation.id, title);
      this.focus(conversation.id, 'rename');
    };
    const field = el('input', {
      class: 'rename',
      maxlength: '200',
      'aria-label': 'Name of the conversation',
      keydown: (event) => {
        if (event.key === 'Enter' && !event.isComposing) close(field.value.trim());
        else if (event.key === 'Escape') close(null);
        else return;
        event.preventDefault();
        event.stopPropagation();
      },
      blur: () => close(field.value.trim()),
    });
    field.value = titleOf(conversation);
    item.replaceChildren(field);
    field.focus();
    field.select();
  }
}
