"use strict";
const rows = [...document.querySelectorAll("tr[data-row]")];
const search = document.getElementById("search");
const head = document.getElementById("head");
const mark = document.getElementById("mark");

function wanted(row) {
  const marks = row.dataset.marks.split(" ");
  const words = search.value.toLowerCase().split(/\s+/);
  const text = row.dataset.text.toLowerCase();
  const value = mark.value;
  const marked = !value || (value[0] === "!" ? !marks.includes(value.slice(1)) : marks.includes(value));
  return marked && (!head.value || row.dataset.head === head.value) && words.every((word) => text.includes(word));
}

function filter() {
  for (const row of rows) row.hidden = !wanted(row);
  const shown = rows.filter((row) => !row.hidden).length;
  document.getElementById("count").textContent = `${shown} of ${rows.length} rows`;
}

function sort(header) {
  const table = header.closest("table");
  const column = header.cellIndex;
  const numeric = header.dataset.sort === "number";
  const first = numeric ? "descending" : "ascending";
  const other = numeric ? "ascending" : "descending";
  const order = header.getAttribute("aria-sort") === first ? other : first;
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const value = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => (numeric ? value(a) - value(b) : value(a).localeCompare(value(b)));
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)));
}

for (const header of document.querySelectorAll("th[data-sort]")) {
  header.tabIndex = 0;
  header.addEventListener("click", () => sort(header));
  header.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(header); });
}
for (const control of [search, head, mark]) control.addEventListener("input", filter);
document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
filter();

function reveal() {
  const target = document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", reveal);
reveal();

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
});
