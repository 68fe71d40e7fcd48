"use strict";
// Every table sorts by the column that is clicked; a long one has a box to filter it by; a tree folds. Without scripts all rows are shown.
const LONG = 8; // rows from which on there is something to filter
const FOLDED = 24; // rows from which on a tree begins with its first level

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const nodes = [...body.rows].map((row) => ({ row, depth: Number(row.dataset.depth ?? 0), text: textOf(row), children: [], open: true }));
  const tops = nodes.filter((node, index) => !adopted(node, index));
  const tools = Object.assign(document.createElement("div"), { className: "tools" });
  const found = document.createElement("span");
  let wanted = "";

  /** The node goes to the last one above it that is less deep; false where there is none. */
  function adopted(node, index) {
    for (let above = index - 1; above >= 0; above--) {
      if (nodes[above].depth < node.depth) {
        nodes[above].children.push(node);
        return true;
      }
    }
    return false;
  }

  function textOf(row) {
    return [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
  }

  /** Hides what is folded away or does not have the words that are asked for; what is above a row that has them stays. */
  function show() {
    const matches = (node) => wanted.split(/\s+/).every((word) => node.text.includes(word));
    const visit = (node, visible) => {
      const below = node.children.map((child) => visit(child, visible && node.open)).some(Boolean);
      const hit = matches(node);
      node.row.hidden = wanted ? !(hit || below) : !visible;
      return hit || below;
    };
    tops.forEach((node) => visit(node, true));
    found.textContent = wanted ? `${nodes.filter(matches).length} of ${nodes.length}` : "";
    for (const { row, open } of nodes) row.querySelector(".fold")?.setAttribute("aria-expanded", String(open || wanted !== ""));
  }

  function filterBox() {
    const box = Object.assign(document.createElement("input"), { type: "search", placeholder: "filter the rows" });
    box.setAttribute("aria-label", "show only rows with these words");
    box.addEventListener("input", () => {
      wanted = box.value.trim().toLowerCase();
      show();
    });
    tools.append(box, found);
  }

  function folds() {
    table.classList.add("folds");
    for (const node of nodes.filter(({ children }) => children.length)) {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "fold" });
      button.setAttribute("aria-label", `what is in ${node.row.cells[0].textContent}`);
      button.addEventListener("click", () => {
        node.open = !node.open;
        show();
      });
      node.row.cells[0].prepend(button);
      node.open = nodes.length < FOLDED || node.depth < 1;
    }
    for (const [label, open] of [["unfold all", () => true], ["fold all", (node) => node.depth < 1]]) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
      button.addEventListener("click", () => {
        nodes.forEach((node) => (node.open = open(node)));
        show();
      });
      tools.append(button);
    }
  }

  /** Siblings by the column: numbers by value, the rest as text; gaps last. */
  function sorted(siblings, index, sign) {
    const key = ({ row }) => (row.cells[index].dataset.value === undefined ? null : Number(row.cells[index].dataset.value));
    const words = ({ row }) => row.cells[index].textContent;
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null && y === null) return sign * words(a).localeCompare(words(b));
      if (x === null || y === null) return x === null ? 1 : -1;
      return sign * (x - y);
    };
    const ordered = sign ? [...siblings].sort(order) : siblings;
    return ordered.flatMap((node) => [node.row, ...sorted(node.children, index, sign)]);
  }

  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => head.querySelector("button").addEventListener("click", () => {
    // A third click brings back the order of execution.
    const next = { ascending: "none", descending: "ascending" }[head.getAttribute("aria-sort")] ?? "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    if (next !== "none") head.setAttribute("aria-sort", next);
    body.append(...sorted(tops, index, { ascending: 1, descending: -1, none: 0 }[next]));
  }));

  if (nodes.length >= LONG) filterBox();
  if (tops.length < nodes.length) folds();
  if (tools.children.length) table.parentElement.before(tools);
  show();
}
