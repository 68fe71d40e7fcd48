"use strict";
// A click on a column's title sorts its table: numbers by value, the rest as text; a third click brings back the order of execution.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => head.querySelector("button").addEventListener("click", () => {
    const next = { ascending: "none", descending: "ascending" }[head.getAttribute("aria-sort")] ?? "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    const rows = [...original];
    if (next !== "none") {
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const key = (row) => row.cells[index].dataset.value === undefined ? null : Number(row.cells[index].dataset.value);
      rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === null && y === null) return sign * a.cells[index].textContent.localeCompare(b.cells[index].textContent);
        if (x === null || y === null) return x === null ? 1 : -1;
        return sign * (x - y);
      });
    }
    body.append(...rows);
  }));
}
