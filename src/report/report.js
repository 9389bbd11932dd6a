"use strict";
// Tables: a click on a header sorts, numerically or alphabetically; cells without a number come
// last.
const order = new Intl.Collator(undefined, { numeric: true });
const number = (text) => parseFloat(text.replace(/,/g, ""));
function sort(table, column, down) {
  const body = table.tBodies[0];
  const words = column < Number(table.dataset.left);
  const rows = [...body.rows].map((row) => [row, row.cells[column].textContent.trim()]);
  const sign = down ? -1 : 1;
  rows.sort(([, a], [, b]) => {
    if (words) return sign * order.compare(a, b);
    const [x, y] = [number(a), number(b)];
    return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y);
  });
  body.append(...rows.map(([row]) => row));
}
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(table, column, down);
    });
  });
}
// Charts: the point under the pointer, the finger or the arrow keys shows its label.
const tip = document.createElement("div");
tip.id = "tip";
tip.setAttribute("role", "status");
tip.hidden = true;
document.body.append(tip);
let shown = null;
const label = (mark) => {
  const title = mark.querySelector("title");
  if (title) {
    mark.dataset.label = title.textContent; // Otherwise the browser shows its own tooltip as well.
    title.remove();
  }
  return mark.dataset.label;
};
function hide() {
  if (shown) shown.classList.remove("on");
  shown = null;
  tip.hidden = true;
}
function show(mark, x, y) {
  hide();
  const text = label(mark);
  if (!text) return;
  shown = mark;
  mark.classList.add("on");
  tip.textContent = text;
  tip.hidden = false;
  const box = mark.getBoundingClientRect();
  const size = tip.getBoundingClientRect();
  const left = (x ?? box.x + box.width / 2) - size.width / 2;
  const top = (y ?? box.y) - size.height - 10;
  tip.style.left = Math.max(4, Math.min(left, document.documentElement.clientWidth - size.width - 4)) + "px";
  tip.style.top = (top < 4 ? (y ?? box.bottom) + 14 : top) + "px";
}
const named = (target) => (target.closest ? target.closest(".chart .m, .chart .l, .chart .c") : null);
for (const kind of ["pointerover", "click"])
  document.addEventListener(kind, (event) => {
    const mark = named(event.target);
    if (mark) show(mark, event.clientX, mark.matches(".l") ? event.clientY : undefined);
    else hide();
  });
document.addEventListener("scroll", hide, { passive: true });
for (const chart of document.querySelectorAll("svg.chart")) {
  const marks = () => [...chart.querySelectorAll(".m, .l, .c")].filter((mark) => label(mark));
  chart.setAttribute("tabindex", "0");
  chart.setAttribute("aria-roledescription", "chart; arrow keys step through its points");
  chart.addEventListener("blur", hide);
  chart.addEventListener("keydown", (event) => {
    const row = Number(chart.dataset.columns ?? 1);
    const step = { ArrowRight: 1, ArrowDown: row, ArrowLeft: -1, ArrowUp: -row }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    const list = marks();
    const at = list.indexOf(shown);
    if (list.length) show(list[(at < 0 ? (step > 0 ? 0 : -1) : ((at + step) % list.length) + list.length) % list.length] ?? list.at(-1));
  });
}
// On paper, collapsed parts are open.
let folded = [];
addEventListener("beforeprint", () => {
  hide();
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((part) => (part.open = true));
});
addEventListener("afterprint", () => folded.forEach((part) => (part.open = false)));
