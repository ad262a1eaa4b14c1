// The table: pages of the rows that pass the filters, sorted by any column.
const table = document.getElementById("trial-table");
const FEW_NAMES = 12;
const HINTS = { share: "> 95%", points: "< 1pp", bytes: "< 300KB", ratio: "> 10x", seconds: "< 60", number: "2, 4..8", text: "contains" };
const shownColumns = columns.filter((c) => c.shown);
const sorts = [];
let order = [];
let page = 0;

function compare(col, a, b) {
  const [x, y] = [value(col, a), value(col, b)];
  if (x === y) return 0;
  if (x === null) return 2;
  if (y === null) return -2;
  return x < y ? -1 : 1;
}

// The newest wish counts first; missing values stay last in both directions.
function sortRows() {
  order = [];
  for (let row = 0; row < rowCount; row++) if (visible[row]) order.push(row);
  order.sort((a, b) => {
    for (const { col, falling } of sorts) {
      const c = compare(col, a, b);
      if (c) return Math.abs(c) === 2 ? c : falling ? -c : c;
    }
    return a - b;
  });
}

function sortBy(name, falling) {
  const col = column[name];
  const known = sorts.findIndex((s) => s.col === col);
  const flip = known === 0 ? !sorts[0].falling : ["share", "ratio", "flag"].includes(col.kind);
  if (known >= 0) sorts.splice(known, 1);
  sorts.unshift({ col, falling: falling === undefined ? flip : falling });
  sorts.length = Math.min(sorts.length, 3);
}

function heads() {
  const titles = element("tr");
  const inputs = element("tr");
  for (const col of shownColumns) {
    const button = element("button", { type: "button", textContent: col.title });
    button.addEventListener("click", () => {
      sortBy(col.name);
      page = 0;
      renderTable();
    });
    const numeric = !["text", "time", "flag"].includes(col.kind);
    titles.append(element("th", { scope: "col", className: numeric ? "n" : "", "data-column": col.name, "aria-sort": "none" }, button));
    inputs.append(element("td", {}, filterField(col)));
  }
  table.tHead.append(titles, inputs);
}

function filterField(col) {
  const label = `Filter ${col.title}`;
  const choices = col.kind === "flag" ? ["yes", "no"] : col.names && col.names.length <= FEW_NAMES && col.names.every((n) => n.length < 30) ? col.names.map((n) => `=${n}`) : null;
  if (choices) {
    const select = element("select", { "data-filter": col.name, "aria-label": label }, element("option", { value: "" }, "all"));
    for (const choice of choices) select.append(element("option", { value: choice }, spoken(choice)));
    select.addEventListener("change", () => filterBy(col.name, select.value));
    return select;
  }
  const input = element("input", {
    type: "text", "data-filter": col.name, "aria-label": label, "aria-describedby": "filter-help", placeholder: HINTS[col.kind],
    autocomplete: "off", spellcheck: false,
  });
  let timer = 0;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => filterBy(col.name, input.value), 150);
  });
  return input;
}

function filterBy(name, text) {
  const understood = setFilter(name, text);
  const field = table.querySelector(`[data-filter="${CSS.escape(name)}"]`);
  if (field) {
    const unlisted = field.options && ![...field.options].some((option) => option.value === text);
    if (unlisted) field.append(element("option", { value: text }, spoken(text)));
    if (field.value !== text) field.value = text;
    field.setAttribute("aria-invalid", understood ? "false" : "true");
    field.title = understood ? "" : `write it like ${HINTS[column[name].kind]}`;
  }
  page = 0;
  applyFilters();
}

function rowElement(row) {
  const made = element("tr", { "data-row": row, "aria-selected": row === chosen ? "true" : "false" });
  if (column.on_frontier.values[row]) made.className = "front";
  for (const col of shownColumns) {
    const text = shown(col, row);
    if (col.name === "label") {
      made.append(element("th", { scope: "row" }, element("button", { type: "button", textContent: text })));
      continue;
    }
    const numeric = !["text", "time", "flag"].includes(col.kind);
    const cell = element("td", { className: numeric ? "n" : "cut", textContent: col.kind === "flag" && text === "no" ? "" : text });
    if (col.kind === "text" && text.length > 30) cell.title = text;
    made.append(cell);
  }
  return made;
}

function renderTable() {
  sortRows();
  const per = Number(document.getElementById("per-page").value);
  const pages = Math.max(1, Math.ceil(order.length / per));
  page = Math.min(Math.max(0, page), pages - 1);
  table.tBodies[0].replaceChildren(...order.slice(page * per, (page + 1) * per).map(rowElement));
  if (!order.length) {
    const words = rowCount ? "No trial passes the filters." : "No trial has finished yet.";
    table.tBodies[0].append(element("tr", {}, element("td", { colSpan: shownColumns.length, className: "muted", textContent: words })));
  }
  for (const th of table.tHead.rows[0].cells) {
    const first = sorts[0] && sorts[0].col.name === th.dataset.column ? sorts[0] : null;
    th.setAttribute("aria-sort", first ? (first.falling ? "descending" : "ascending") : "none");
  }
  document.getElementById("page").textContent = `${page + 1} of ${pages}`;
  document.getElementById("first").disabled = document.getElementById("previous").disabled = page === 0;
  document.getElementById("next").disabled = document.getElementById("last").disabled = page === pages - 1;
}

function renderFilters() {
  const all = `${rowCount.toLocaleString("en-US")} ${rowCount === 1 ? "trial" : "trials"}`;
  document.getElementById("count").textContent =
    visibleCount === rowCount ? all : `${visibleCount.toLocaleString("en-US")} of ${all}`;
  document.getElementById("chips").replaceChildren(
    ...[...filters].map(([name, f]) => element("span", {}, `${column[name].title} ${spoken(f.text)}`)));
  document.getElementById("clear").hidden = !filters.size;
}

// Shows the page on which a row stands.
function turnTo(row) {
  const place = order.indexOf(row);
  if (place < 0) return;
  page = Math.floor(place / Number(document.getElementById("per-page").value));
  renderTable();
}
