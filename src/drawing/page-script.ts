/**
 * What a page does by itself: it steps through a drawing, shows what is known of the row that is
 * pointed at, and filters. As text, because it goes into the page; it makes no markup from text, and
 * copies only nodes that are in the page already.
 *
 * Each drawing is a `section` with its rows twice: as groups of the SVG, and as rows of a table that
 * hold the details. `data-row` connects them.
 */
export const PAGE_SCRIPT = `'use strict';
(() => {
  const sections = [...document.querySelectorAll('section.drawing')].map((root) => {
    const rows = [...root.querySelectorAll('svg .row')];
    const cells = [...root.querySelectorAll('tbody tr')];
    const panel = root.querySelector('.panel-body');
    const view = { root, rows, cells, panel, at: -1, hint: [...panel.childNodes] };
    rows[0]?.setAttribute('tabindex', '0');
    return view;
  });
  let current = sections[0];

  /** Puts what the table holds of a row into the panel. */
  const show = (view, index) => {
    const cell = view.cells[index];
    view.panel.replaceChildren(
      ...(cell === undefined ? view.hint : [...cell.querySelector('.what').childNodes].map((node) => node.cloneNode(true))),
    );
    for (const [i, row] of view.rows.entries()) row.classList.toggle('shown', i === index);
  };
  /** Goes to a row: those after it have not happened yet. */
  const go = (view, index, focus) => {
    current = view;
    view.at = index;
    for (const [i, row] of view.rows.entries()) {
      row.classList.toggle('later', index >= 0 && i > index);
      row.setAttribute('tabindex', i === Math.max(0, index) ? '0' : '-1');
    }
    show(view, index);
    view.root.querySelector('.step').textContent = index < 0 ? '' : index + 1 + ' of ' + view.rows.length;
    if (focus && index >= 0) {
      view.rows[index].focus({ preventScroll: true });
      view.rows[index].scrollIntoView({ block: 'nearest' });
    }
  };
  const isHidden = (row) => row === undefined ? false : row.classList.contains('hidden');
  const step = (view, by) => {
    let index = view.at + by;
    while (isHidden(view.rows[index])) index += by;
    if (index < -1 || index >= view.rows.length) return;
    go(view, index, true);
  };

  for (const view of sections) {
    view.rows.forEach((row, index) => {
      row.addEventListener('pointerenter', () => show(view, index));
      row.addEventListener('pointerleave', () => show(view, view.at));
      row.addEventListener('click', () => go(view, index, true));
      row.addEventListener('focus', () => {
        if (view.at !== index) go(view, index, false);
      });
    });
    view.root.querySelector('.back').addEventListener('click', () => step(view, -1));
    view.root.querySelector('.next').addEventListener('click', () => step(view, 1));
    view.root.querySelector('.all').addEventListener('click', () => go(view, -1, false));
    const words = view.root.querySelector('.words');
    const groups = [...view.root.querySelectorAll('.group')];
    const filter = () => {
      const wanted = words.value.trim().toLowerCase();
      const off = new Set(groups.filter((box) => !box.checked).map((box) => box.value));
      view.rows.forEach((row, index) => {
        const cell = view.cells[index];
        const hidden =
          [...off].some((group) => row.classList.contains(group)) ||
          (wanted !== '' && !cell.textContent.toLowerCase().includes(wanted));
        row.classList.toggle('hidden', hidden);
        cell.hidden = hidden;
      });
    };
    words.addEventListener('input', filter);
    for (const box of groups) box.addEventListener('change', filter);
  }

  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || current === undefined) return;
    if (event.target instanceof HTMLInputElement && event.target.type !== 'checkbox') return;
    const inside = event.target instanceof Element && event.target.closest('svg') !== null;
    const { key } = event;
    if (key === 'ArrowRight' || key === 'j' || (inside && key === 'ArrowDown')) step(current, 1);
    else if (key === 'ArrowLeft' || key === 'k' || (inside && key === 'ArrowUp')) step(current, -1);
    else if (inside && key === 'Home') go(current, 0, true);
    else if (inside && key === 'End') go(current, current.rows.length - 1, true);
    else if (key === 'Escape') go(current, -1, false);
    else return;
    event.preventDefault();
  });
})();
`;
