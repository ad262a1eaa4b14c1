// The embedded data, and how its values are written.
const report = JSON.parse(document.getElementById("data").textContent);
const columns = report.columns;
const column = Object.fromEntries(columns.map((c) => [c.name, c]));
const rowCount = columns.length ? columns[0].values.length : 0;
const ABSENT = "–";

function value(col, row) {
  const cell = col.values[row];
  return cell !== null && col.names ? col.names[cell] : cell;
}

function bytes(size) {
  let unit = "B";
  for (const larger of ["KB", "MB", "GB", "TB"]) {
    if (Math.abs(size) < 999.5) break;
    size /= 1000;
    unit = larger;
  }
  return unit === "B" ? `${Math.round(size)} B` : `${size.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2)} ${unit}`;
}

function seconds(s) {
  if (s >= 7200) return `${(s / 3600).toFixed(1)} h`;
  return s >= 120 ? `${(s / 60).toFixed(1)} min` : `${s.toFixed(1)} s`;
}

const FORMS = {
  text: String,
  time: String,
  flag: (v) => (v ? "yes" : "no"),
  share: (v) => `${(100 * v).toFixed(2)} %`,
  points: (v) => `${(100 * v).toFixed(2)} pp`,
  bytes,
  seconds,
  ratio: (v) => `${v < 9.995 ? v.toFixed(2) : v.toFixed(1)}x`,
  number: (v) => v.toLocaleString("en-US", { maximumSignificantDigits: Number.isInteger(v) ? 21 : 5 }),
};

function shown(col, row) {
  const v = value(col, row);
  return v === null ? ABSENT : FORMS[col.kind](v);
}

function escaped(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// What a trial is, for a hovered point: its configuration, then what was measured.
const described = new Map();
function describe(row) {
  if (!described.has(row)) {
    const lines = [`<b>${escaped(value(column.label, row))}</b>`];
    const params = report.params.filter((name) => column[name].values[row] !== null);
    lines.push(...params.map((name) => `${escaped(column[name].title)} = ${escaped(shown(column[name], row))}`));
    for (const name of report.measured)
      if (column[name] && column[name].values[row] !== null)
        lines.push(`${escaped(column[name].title)}: ${escaped(shown(column[name], row))}`);
    const why = column.reason && value(column.reason, row);
    if (why) lines.push(escaped(why.length > 90 ? `${why.slice(0, 89)}…` : why));
    described.set(row, lines.join("<br>"));
  }
  return described.get(row);
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, v] of Object.entries(attributes || {})) {
    if (name in made && name !== "list") made[name] = v;
    else made.setAttribute(name, v);
  }
  made.append(...children);
  return made;
}
