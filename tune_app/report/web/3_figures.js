// Figures: colors of the theme, rows that the filters leave, and the trial that is chosen.
const CONFIG = {
  responsive: true,
  displaylogo: false,
  // plotly offers to upload a chart: nothing leaves this page.
  showSendToCloud: false,
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  toImageButtonOptions: { format: "png", scale: 2 },
};
const narrow = window.matchMedia("(max-width: 640px)");
const places = [...document.querySelectorAll("[data-figure]")];
let onPaper = false;
const drawn = new Set();
let chosen = null;
let colorBy = "";

function theme() {
  if (onPaper) return "light";
  const set = document.documentElement.dataset.theme;
  return set || (window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function painted(part, palette) {
  if (typeof part === "string") return part[0] === "@" ? palette[part.slice(1)] || part : part;
  if (Array.isArray(part)) return typeof part[0] === "object" || typeof part[0] === "string" ? part.map((p) => painted(p, palette)) : part;
  if (part && typeof part === "object") return Object.fromEntries(Object.entries(part).map(([k, v]) => [k, painted(v, palette)]));
  return part;
}

// Which rows a figure draws: what the filters leave and, of very many, the frontier and an even choice of the others.
function drawnRows(name, figure) {
  if (!figure.most) return (row) => visible[row];
  const left = [...new Set(figure.data.flatMap((trace) => trace.customdata || []))].filter((row) => visible[row]);
  const every = Math.ceil(left.length / figure.most);
  const front = column.on_frontier.values;
  const kept = new Set(left.filter((row, i) => front[row] || i % every === 0));
  const note = document.querySelector(`[data-note="${name}"]`);
  note.hidden = kept.size === left.length;
  note.textContent = `${kept.size.toLocaleString("en-US")} of ${left.length.toLocaleString("en-US")} lines are drawn: the frontier and an even choice of the others. A filter that leaves at most ${figure.most.toLocaleString("en-US")} shows all.`;
  return (row) => kept.has(row);
}

function linkedTrace(trace, figure, keeps) {
  const rows = trace.customdata;
  const kept = [];
  for (let i = 0; i < rows.length; i++) if (!figure.linked || keeps(rows[i])) kept.push(i);
  const pick = (array) => (Array.isArray(array) && array.length === rows.length ? kept.map((i) => array[i]) : array);
  const copy = { ...trace, x: pick(trace.x), y: pick(trace.y), customdata: pick(rows) };
  if (trace.base) copy.base = pick(trace.base);
  for (const bars of ["error_x", "error_y"]) if (trace[bars]) copy[bars] = { ...trace[bars], array: pick(trace[bars].array) };
  const what = trace.meta && trace.meta.what;
  copy.text = kept.map((i) => (what ? `${escaped(what[i])}<br>${describe(rows[i])}` : describe(rows[i])));
  return copy;
}

// The ring around the chosen trial, wherever a figure shows it as a point.
function ring(data, palette) {
  for (const trace of data) {
    if (chosen === null || !trace.customdata || trace.type !== "scatter" || trace.mode !== "markers") continue;
    const i = trace.customdata.indexOf(chosen);
    if (i >= 0)
      return {
        type: "scatter", mode: "markers", x: [trace.x[i]], y: [trace.y[i]], hoverinfo: "skip", showlegend: false,
        marker: { symbol: "circle-open", size: 20, color: palette.ink, line: { width: 2.5, color: palette.ink } },
      };
  }
  return null;
}

function chosenLine(data, palette) {
  for (const trace of data) {
    const start = chosen === null || trace.mode !== "lines" || !trace.customdata ? -1 : trace.customdata.indexOf(chosen);
    if (start < 0) continue;
    const stop = trace.customdata.lastIndexOf(chosen);
    return {
      type: "scatter", mode: "lines", x: trace.x.slice(start, stop), y: trace.y.slice(start, stop), hoverinfo: "skip",
      showlegend: false, line: { color: palette.ink, width: 3.5 },
    };
  }
  return null;
}

function recolored(trace, palette) {
  const col = column[colorBy];
  if (!col || !trace.customdata || !["dominated", "frontier"].includes(trace.name)) return trace;
  const scale = colors(col, palette);
  const line = trace.name === "frontier" ? { width: 1.5, color: palette.ink } : { width: 0 };
  return { ...trace, marker: { ...trace.marker, opacity: 0.95, line, color: trace.customdata.map((row) => scale(col.values[row])) } };
}

// A color for each value: of few values one of the palette's, of many one between two ends.
function colors(col, palette) {
  const values = [...new Set(col.values.filter((v) => v !== null))].sort((a, b) => a - b);
  if (values.length <= 7) return (v) => (v === null ? palette.dim : palette[`c${values.indexOf(v)}`]);
  const [low, high] = [values[0], values[values.length - 1]];
  return (v) => (v === null ? palette.dim : viridis((v - low) / (high - low)));
}

const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
function viridis(at) {
  const place = Math.min(3.9999, Math.max(0, 4 * at));
  const [a, b, t] = [VIRIDIS[Math.floor(place)], VIRIDIS[Math.floor(place) + 1], place % 1];
  return `rgb(${a.map((c, i) => Math.round(c + t * (b[i] - c))).join(",")})`;
}

function colorLegend() {
  const box = document.getElementById("color-legend");
  const col = column[colorBy];
  box.replaceChildren();
  if (!col) return;
  const palette = report.palettes[theme()];
  const scale = colors(col, palette);
  const values = [...new Set(col.values.filter((v) => v !== null))].sort((a, b) => a - b);
  const ends = values.length <= 7 ? values : [0, 0.25, 0.5, 0.75, 1].map((t) => values[Math.round(t * (values.length - 1))]);
  for (const v of ends) {
    const dot = element("i");
    dot.style.background = scale(v);
    box.append(element("span", {}, dot, FORMS[col.kind](col.names ? col.names[v] : v)));
  }
}

// The training of the chosen trial: its stages one after another, as the page's maker drew the first one.
function ofChosen(figure) {
  const row = chosen === null ? report.chosen : chosen;
  const stages = (report.curves.rows[row] || []).map((place) => report.curves.stages[place]);
  const starts = [];
  let epochs = 0;
  for (const stage of stages) {
    starts.push(epochs);
    epochs += stage.loss.length;
  }
  const x = Array.from({ length: epochs }, (_, i) => i + 1);
  const label = row === null ? "" : value(column.label, row);
  const title = document.querySelector(`#figure-${report.curves.name} h3`);
  if (label && title) title.textContent = `${report.curves.title}: ${label}`;
  const { rows: lines, step, top } = report.curves.names;
  const text = { yref: "paper", yanchor: "top", showarrow: false, borderpad: 0, bgcolor: "@surface", font: { size: 11, color: "@muted" } };
  const line = { color: "@muted", width: 1, dash: "dot" };
  const none = { ...text, text: "The page has no epochs of it", x: 0.5, y: 0.7, xref: "paper", xanchor: "center" };
  const named = (stage, i) => {
    const late = starts[i] > epochs / 2;
    const x = late ? (starts[i + 1] ?? epochs) + 0.5 : starts[i] + 0.5;
    return { ...text, text: escaped(stage.kind), x, xanchor: late ? "right" : "left", y: top - step * (i % lines) };
  };
  return {
    ...figure,
    data: figure.data.map((trace, i) => ({ ...trace, x, y: stages.flatMap((stage) => stage[report.curves.columns[i]]) })),
    layout: {
      ...figure.layout,
      shapes: starts.slice(1).map((s) => ({ type: "line", x0: s + 0.5, x1: s + 0.5, y0: 0, y1: 1, yref: "paper", line })),
      annotations: stages.length ? stages.map(named) : [none],
      uirevision: label,
    },
  };
}

// The height of the legend of each figure; the figure is so much higher.
const legends = new Map();

function draw(name, again = true) {
  const figure = name === report.curves.name ? ofChosen(report.figures[name]) : report.figures[name];
  const place = document.querySelector(`[data-figure="${name}"]`);
  if (!place) return;
  const palette = report.palettes[theme()];
  const keeps = drawnRows(name, figure);
  let data = figure.data.map((trace) => painted(trace.customdata ? linkedTrace(trace, figure, keeps) : trace, palette));
  const upright = isUpright(figure, place);
  if (upright) data = data.map((trace) => ({ ...trace, x: trace.y, y: trace.x }));
  if (name === report.pareto) data = data.map((trace) => recolored(trace, palette));
  const extra = name === report.parallel ? chosenLine(data, palette) : ring(data, palette);
  if (extra) data.push(extra);
  const layout = painted(upright ? figure.upright : figure.layout, palette);
  layout.height += legends.get(name) || 0;
  if (narrow.matches && !onPaper) {
    layout.dragmode = false;
    layout.margin = { ...layout.margin, l: Math.min(layout.margin.l, 40) };
    layout.legend = { ...layout.legend, font: { size: 11 } };
    if (layout.xaxis.type === "date") Object.assign(layout.xaxis, { nticks: 4, tickangle: 0 });
  }
  for (const axis of ["xaxis", "yaxis", "yaxis2"]) {
    const { title, domain } = layout[axis] || {};
    const inner = layout.height - layout.margin.t - layout.margin.b - (legends.get(name) || 0);
    const room = axis === "xaxis" ? place.clientWidth - 80 : inner * (domain ? domain[1] - domain[0] : 1);
    if (title && title.text) layout[axis] = { ...layout[axis], title: { ...title, text: wrapped(title.text, room) } };
  }
  const first = !drawn.has(name);
  drawn.add(name);
  // What a reader sees stays the frame, also when few points are left in it.
  if (figure.linked && !figure.upright && !first)
    for (const axis of ["xaxis", "yaxis"])
      layout[axis] = { ...layout[axis], range: [...place._fullLayout[axis].range], autorange: false };
  Plotly.react(place, data, layout, CONFIG);
  const legend = place.querySelector(".legend .bg");
  const room = legend ? Math.ceil(legend.getBBox().height) : 0;
  if (again && room !== (legends.get(name) || 0)) {
    legends.set(name, room);
    draw(name, false);
  }
  if (!first) return;
  place.on("plotly_click", (event) => {
    const row = event.points[0].customdata;
    if (Number.isInteger(row)) choose(row, { scroll: false });
  });
}

// The title of an axis on as many lines as it takes in so many pixels.
const LETTER_PX = 6.9;
function wrapped(text, room) {
  const lines = [];
  for (const word of text.split(" ")) {
    const last = lines.length - 1;
    if (last >= 0 && (lines[last].length + 1 + word.length) * LETTER_PX <= room) lines[last] += ` ${word}`;
    else lines.push(word);
  }
  return lines.join("<br>");
}

// Whether a figure has too little room for its axes beside one another.
function isUpright(figure, place) {
  return Boolean(figure.upright) && place.clientWidth < figure.least_width;
}

function drawLinked() {
  for (const name of drawn) if (report.figures[name].linked || name === report.curves.name) draw(name);
}

function drawAll() {
  drawn.forEach((name) => draw(name));
  if (document.getElementById("color-legend")) colorLegend();
}

// Paper has its own width and light colors, and shows every figure.
function setPaper(wanted) {
  onPaper = wanted;
  document.documentElement.classList.toggle("paper", wanted);
  for (const place of places) {
    near.unobserve(place);
    draw(place.dataset.figure);
  }
  if (document.getElementById("color-legend")) colorLegend();
}

// Figures far below are drawn when they come near.
const near = new IntersectionObserver((entries) => {
  for (const entry of entries)
    if (entry.isIntersecting) {
      near.unobserve(entry.target);
      if (!drawn.has(entry.target.dataset.figure)) draw(entry.target.dataset.figure);
    }
}, { rootMargin: "800px" });
