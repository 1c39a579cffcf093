"use strict";
// A column's head sorts its table: numbers by the number that a cell begins with, cells without one last.
function sort(head) {
  const table = head.closest("table"), column = head.cellIndex, numeric = head.classList.contains("number");
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => {
    const text = row.cells[column].textContent.trim();
    return numeric ? parseFloat(text) : text;
  };
  const empty = (value) => value === "" || Number.isNaN(value);
  const compare = (a, b) => {
    if (empty(a) || empty(b)) return empty(a) - empty(b);
    const order = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
    return down ? -order : order;
  };
  const rows = Array.from(table.tBodies[0].rows).map((row) => [key(row), row]);
  rows.sort((a, b) => compare(a[0], b[0]));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sort(button.parentElement));
}

// A point's <title> is shown at once, also under a finger and for the keyboard; taken out, so that the browser does not show it again.
const said = document.getElementById("said");
function show(point, x, y) {
  said.textContent = point.getAttribute("aria-label");
  said.hidden = false;
  const { width, height } = said.getBoundingClientRect();
  said.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 4))}px`;
  said.style.top = `${y + 18 + height < innerHeight ? y + 18 : Math.max(4, y - height - 12)}px`;
}
for (const point of document.querySelectorAll("svg .point")) {
  const title = point.querySelector("title");
  point.setAttribute("aria-label", title.textContent);
  title.remove();
  point.addEventListener("pointermove", (event) => show(point, event.clientX, event.clientY));
  point.addEventListener("pointerleave", () => { said.hidden = true; });
  point.addEventListener("focus", () => {
    const { right, bottom } = point.getBoundingClientRect();
    show(point, right, bottom);
  });
  point.addEventListener("blur", () => { said.hidden = true; });
}
addEventListener("keydown", (event) => { if (event.key === "Escape") said.hidden = true; });
