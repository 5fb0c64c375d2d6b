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

// Shows single problems. Everything a model wrote is set as text, so it can never become markup.
(() => {
  const source = document.getElementById("explored");
  if (source === null) return;
  const tasks = JSON.parse(source.textContent);
  const field = (id) => document.getElementById(`explored-${id}`);
  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const fill = (select, labels, chosen) => {
    select.replaceChildren(...labels.map((label, i) => {
      const option = make("option", "", label);
      option.value = String(i);
      return option;
    }));
    select.value = String(chosen);
  };
  const SHOW = [
    ["all problems", () => true],
    ["only left is better", (a, b) => a > b],
    ["only right is better", (a, b) => b > a],
    ["both score", (a, b) => a > 0 && b > 0],
    ["neither scores", (a, b) => !(a > 0) && !(b > 0)],
  ];
  let task;
  let current = 0;
  const side = (name) => Number(field(name).value);
  const number = (value) => (value === null ? "" : (100 * value).toFixed(0));
  const chip = (value) => make(
    "span", `chip ${value === null ? "" : value > 0 ? "right" : "wrong"}`, number(value),
  );

  const answers = (problem, run) => {
    const box = make("div");
    const value = problem.values[run];
    box.append(make("h4", "", task.runs[run].label
      + (value === null ? "" : `: ${task.metric} ${number(value)}`)));
    problem.answers[run].forEach(([text, right, said], i) => {
      const row = make("div", right ? "answer right" : "answer");
      const body = make("div");
      body.append(make("pre", "", text));
      if (said) body.append(make("span", "said", said));
      row.append(make("span", "place", String(i + 1)), body);
      box.append(row);
    });
    if (problem.answers[run].length === 0) box.append(make("p", "note", "no answers kept"));
    return box;
  };

  const problem = () => {
    const shown = task.problems[current];
    const sides = make("div", "sides");
    sides.append(answers(shown, side("left")));
    if (side("right") !== side("left")) sides.append(answers(shown, side("right")));
    field("problem").replaceChildren(
      make("h3", "", shown.id),
      make("h4", "", "Prompt"), make("pre", "", shown.prompt),
      make("h4", "", "Reference"), make("pre", "", shown.reference),
      sides,
    );
    for (const button of field("list").querySelectorAll("button")) {
      button.setAttribute("aria-current", String(Number(button.dataset.place) === current));
    }
  };

  const list = () => {
    const keep = SHOW[Number(field("show").value)][1];
    const [left, right] = [side("left"), side("right")];
    const places = task.problems.map((_, i) => i).filter((i) => {
      const { values } = task.problems[i];
      return keep(values[left] ?? 0, values[right] ?? 0);
    });
    field("list").replaceChildren(...places.map((i) => {
      const { id, values } = task.problems[i];
      const item = make("li");
      const button = make("button");
      button.type = "button";
      button.dataset.place = String(i);
      button.append(make("span", "", id), chip(values[left]), chip(values[right]));
      button.addEventListener("click", () => { current = i; problem(); });
      item.append(button);
      return item;
    }));
    if (!places.includes(current) && places.length > 0) [current] = places;
    field("note").textContent = `${places.length} of ${task.problems.length} problems shown; the page`
      + ` has ${task.problems.length} of ${task.ofProblems} problems, ${task.runs.length} of`
      + ` ${task.ofRuns} runs.`;
    problem();
  };

  const choose = () => {
    task = tasks[Number(field("task").value)];
    current = 0;
    const labels = task.runs.map((run) => run.label);
    const names = task.runs.map((run) => run.name);
    const adapted = task.runs.findIndex((run) => names.includes(run.baseline));
    const right = adapted < 0 ? Math.min(1, names.length - 1) : adapted;
    fill(field("left"), labels, adapted < 0 ? 0 : names.indexOf(task.runs[adapted].baseline));
    fill(field("right"), labels, right);
    list();
  };

  fill(field("task"), tasks.map((each) => `${each.task} (${each.metric})`), 0);
  fill(field("show"), SHOW.map(([label]) => label), 0);
  field("task").addEventListener("input", choose);
  for (const name of ["left", "right", "show"]) field(name).addEventListener("input", list);
  document.getElementById("unscripted").hidden = true;
  document.getElementById("explorer").hidden = false;
  choose();
})();
