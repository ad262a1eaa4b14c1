// One trial chosen everywhere at once; the theme; and, while a search runs, newer pages.
function choose(row, { scroll }) {
  chosen = row;
  turnTo(row);
  for (const tr of table.tBodies[0].rows) tr.setAttribute("aria-selected", tr.dataset.row === String(row) ? "true" : "false");
  details(row);
  drawLinked();
  if (scroll) document.getElementById(report.explore).scrollIntoView();
}

function details(row) {
  const box = document.getElementById("details");
  if (!box) return;
  const label = value(column.label, row);
  const id = value(column.trial_id, row);
  const reason = column.reason && value(column.reason, row);
  const more = element("details", { open: moreIsOpen }, element("summary", { textContent: "More" }), listed(row, (col) => !col.shown));
  more.addEventListener("toggle", () => { moreIsOpen = more.open; });
  box.replaceChildren(
    element("p", { className: "name", textContent: label }),
    element("p", { className: "chips" }, ...marksOf(row).map((text) => element("span", {}, text))),
    ...(reason ? [element("p", { className: "warning", textContent: reason })] : []),
    listed(row, (col) => col.shown && !SAID.includes(col.name)),
    more);
  if (value(column.state, row) === "complete") {
    box.append(element("p", { className: "muted small", textContent: `Packed file: artifacts/${id}/model.mbq` }));
    const handle = report.by_id.includes(row) ? id : label;
    for (const command of ["export", "reproduce"])
      box.append(element("code", { textContent: `tune-app ${command} ${report.folder} ${quoted(handle)}` }));
  }
  const link = document.getElementById("chosen");
  link.hidden = false;
  link.textContent = `Chosen: ${label}`;
}

// What stands in the panel outside its lists; in its head the state and, where they tell trials apart, rung,
// frontier and constraints.
const SAID = ["label", "state", "rung", "on_frontier", "feasible", "reason", "trial_id"];
const FEW_PARAMS = 6;
function marksOf(row) {
  const found = [value(column.state, row)];
  if (column.rung.shown) found.push(value(column.rung, row));
  if (column.on_frontier.values[row]) found.push("on the frontier");
  if (column.feasible.values[row] === 0 && found[0] === "complete") found.push("outside the constraints");
  return found;
}

let moreIsOpen = !narrow.matches && report.params.length <= FEW_PARAMS;
function listed(row, wanted) {
  const list = element("dl");
  for (const col of columns)
    if (wanted(col) && !SAID.includes(col.name) && col.values[row] !== null)
      list.append(element("dt", { textContent: col.title }), element("dd", { textContent: shown(col, row) }));
  return list;
}

// A word of a command line, whatever is in it.
function quoted(word) {
  return /^[\w@%+=:,./#-]+$/.test(word) ? word : `'${word.replace(/'/g, `'"'"'`)}'`;
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  try { localStorage.setItem("tune-app-theme", name); } catch { /* a file may have no storage */ }
  themeButton();
  drawAll();
}

function themeButton() {
  const button = document.getElementById("theme");
  button.textContent = theme() === "dark" ? "Light" : "Dark";
  button.setAttribute("aria-label", `Switch to ${theme() === "dark" ? "light" : "dark"} colors`);
  button.setAttribute("aria-pressed", String(theme() === "dark"));
}

// What a reader has set, kept over a reload of a followed page.
const KEPT = "tune-app-report";
function keep() {
  const state = {
    filters: [...filters].map(([name, f]) => [name, f.text]), chosen: chosen === null ? null : value(column.trial_id, chosen),
    sorts: sorts.map((s) => [s.col.name, s.falling]), page, scroll: window.scrollY, colorBy, moreIsOpen, per: document.getElementById("per-page").value,
  };
  try { sessionStorage.setItem(KEPT, JSON.stringify(state)); } catch { /* a reader without storage starts anew */ }
}

function recall() {
  let state = null;
  try { state = JSON.parse(sessionStorage.getItem(KEPT)); } catch { /* as above */ }
  if (!state) return;
  for (const [name, text] of state.filters) if (column[name]) filterBy(name, text);
  for (const [name, falling] of state.sorts.reverse()) if (column[name]) sortBy(name, falling);
  document.getElementById("per-page").value = state.per;
  colorBy = column[state.colorBy] ? state.colorBy : "";
  moreIsOpen = state.moreIsOpen;
  page = state.page;
  const row = rowCount ? column.trial_id.values.indexOf(state.chosen) : -1;
  if (row >= 0) { chosen = row; details(row); }
  requestAnimationFrame(() => window.scrollTo(0, state.scroll));
}

function follow(version) {
  setInterval(async () => {
    try {
      const answer = await fetch("/version", { cache: "no-store" });
      if (answer.ok && (await answer.text()) !== version) {
        keep();
        location.reload();
      }
    } catch { document.body.removeAttribute("data-watch"); }
  }, 2000);
}

function start() {
  try {
    const stored = localStorage.getItem("tune-app-theme");
    if (stored === "dark" || stored === "light") document.documentElement.dataset.theme = stored;
  } catch { /* as above */ }
  const version = document.body.dataset.watch;
  heads();
  listeners.push(renderFilters, renderTable, drawLinked);
  if (column.size_bytes) sortBy("size_bytes", false);
  if (column.on_frontier) sortBy("on_frontier", true);
  if (version) recall();
  for (const place of places) near.observe(place);
  if (chosen === null && report.chosen !== null) {
    chosen = report.chosen;
    details(chosen);
  }
  applyFilters();
  themeButton();

  const select = document.getElementById("color");
  if (select) {
    for (const name of report.params) select.append(element("option", { value: name }, column[name].title));
    select.value = colorBy;
    select.addEventListener("change", () => { colorBy = select.value; colorLegend(); draw(report.pareto); });
    colorLegend();
  }
  const parallel = document.querySelector(`[data-figure="${report.parallel}"]`);
  if (parallel) brushing(parallel);

  const turn = (to) => () => { page = to(); renderTable(); };
  document.getElementById("first").addEventListener("click", turn(() => 0));
  document.getElementById("previous").addEventListener("click", turn(() => page - 1));
  document.getElementById("next").addEventListener("click", turn(() => page + 1));
  document.getElementById("last").addEventListener("click", turn(() => Infinity));
  document.getElementById("per-page").addEventListener("change", turn(() => 0));
  document.getElementById("clear").addEventListener("click", () => {
    for (const name of [...filters.keys()]) filterBy(name, "");
  });
  table.tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-row]");
    if (!row) return;
    const byKey = event.target.closest("button");
    choose(Number(row.dataset.row), { scroll: false });
    if (byKey) table.querySelector(`tr[data-row="${row.dataset.row}"] button`)?.focus();
  });
  for (const link of document.querySelectorAll("button[data-row]"))
    link.addEventListener("click", () => choose(Number(link.dataset.row), { scroll: true }));
  document.getElementById("theme").addEventListener("click", () => setTheme(theme() === "dark" ? "light" : "dark"));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { themeButton(); drawAll(); });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    requestAnimationFrame(drawAll);
  });
  window.addEventListener("beforeprint", () => setPaper(true));
  window.addEventListener("afterprint", () => setPaper(false));
  if (version) follow(version);
}

start();
