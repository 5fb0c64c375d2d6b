"use strict";
// Sorts and filters the table; without it the table stands whole, as written.
(() => {
  const table = document.getElementById("runs");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const field = (id) => document.getElementById(id);
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  // A missing value comes last in either direction.
  const compare = (column, number, sign) => (a, b) => {
    const left = a.cells[column].dataset.value;
    const right = b.cells[column].dataset.value;
    if (left === undefined || right === undefined) {
      return (left === undefined) - (right === undefined);
    }
    return sign * (number
      ? Number(left) - Number(right)
      : left.localeCompare(right, undefined, { numeric: true }));
  };

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const number = "number" in head.dataset;
      const now = head.getAttribute("aria-sort");
      // Figures are mostly looked at from the top, names from A.
      const first = number ? "descending" : "ascending";
      const other = number ? "ascending" : "descending";
      const next = now === first ? other : first;
      heads.forEach((each) => each.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", next);
      rows.sort(compare(column, number, next === "ascending" ? 1 : -1));
      body.append(...rows);
    });
  });

  const update = () => {
    const words = field("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const task = field("task").value;
    const measured = field("measured") !== null && field("measured").checked;
    let shown = 0;
    rows.forEach((row) => {
      const keep = words.every((word) => texts.get(row).includes(word))
        && (task === "" || row.dataset.task === task)
        && !(measured && "demonstration" in row.dataset);
      row.hidden = !keep;
      shown += keep ? 1 : 0;
    });
    field("count").textContent = `${shown} of ${rows.length}`;
    table.classList.toggle("compact", !field("all").checked);
  };

  field("controls").hidden = false;
  field("controls").addEventListener("input", update);
  update();
})();
