// Filters by column, as people write them, and the rows that pass them all.
const UNITS = {
  share: { "%": 0.01 },
  points: { pp: 0.01, "%": 0.01 },
  bytes: { b: 1, kb: 1e3, mb: 1e6, gb: 1e9, kib: 1024, mib: 1048576, gib: 1073741824 },
  ratio: { x: 1 },
  seconds: { s: 1, min: 60, h: 3600 },
};
const filters = new Map();
const visible = new Uint8Array(rowCount).fill(1);
let visibleCount = rowCount;
const listeners = [];

// The number that a text says in a column's unit; NaN for none. A share above 1 is a percentage.
function number(text, kind) {
  const found = /^(-?[\d_]*\.?\d+(?:e-?\d+)?)\s*([a-z%]*)$/i.exec(text.trim());
  if (!found) return NaN;
  const unit = found[2].toLowerCase();
  const n = Number(found[1].replace(/_/g, ""));
  // Without the last digits of the product: 57 % is 0.57, not 0.5700000000000001.
  if (unit) return Number((n * ((UNITS[kind] || {})[unit] ?? NaN)).toPrecision(12));
  return kind === "share" && Math.abs(n) > 1 ? n / 100 : n;
}

function clause(text, kind) {
  const span = /^(.+?)\s*\.\.\s*(.+)$/.exec(text);
  if (span) {
    const [low, high] = [number(span[1], kind), number(span[2], kind)];
    return Number.isNaN(low + high) ? null : (v) => v >= low && v <= high;
  }
  const [, sign, rest] = /^(>=|<=|>|<|=|≥|≤)?\s*(.+)$/.exec(text) || [];
  const n = rest === undefined ? NaN : number(rest, kind);
  if (Number.isNaN(n)) return null;
  const near = kind === "number" ? 1e-9 * Math.abs(n) : { share: 5e-5, points: 5e-5, ratio: 0.005, seconds: 0.05 }[kind] ?? 0.005 * Math.abs(n);
  switch (sign) {
    case ">": return (v) => v > n;
    case "<": return (v) => v < n;
    case ">=": case "≥": return (v) => v >= n;
    case "<=": case "≤": return (v) => v <= n;
    default: return (v) => Math.abs(v - n) <= near;
  }
}

// A filter as people read it.
function spoken(text) {
  return text.replace(/^=|(?<=, )=/g, "");
}

// A test of a row, or null when the text is no filter of this column.
function predicate(col, text) {
  if (col.kind === "flag") return (row) => col.values[row] === (text === "yes" ? 1 : 0);
  if (col.kind === "text" || col.kind === "time") {
    // Whole texts, as in "=l1, =l2", or a part of one.
    const exact = text.startsWith("=") ? text.slice(1).split(/, =/).map((name) => name.trim().toLowerCase()) : null;
    return (row) => {
      const v = value(col, row);
      return v !== null && (exact ? exact.includes(v.toLowerCase()) : v.toLowerCase().includes(text.toLowerCase()));
    };
  }
  const clauses = text.split(",").map((part) => clause(part.trim(), col.kind));
  if (clauses.some((c) => c === null)) return null;
  return (row) => col.values[row] !== null && clauses.some((c) => c(col.values[row]));
}

// Sets or removes a filter; false when the text says nothing that the column knows, which filters nothing.
function setFilter(name, text) {
  const test = text.trim() ? predicate(column[name], text.trim()) : null;
  if (test) filters.set(name, { text: text.trim(), test });
  else filters.delete(name);
  return Boolean(test) || !text.trim();
}

function applyFilters() {
  const tests = [...filters.values()].map((f) => f.test);
  visibleCount = 0;
  for (let row = 0; row < rowCount; row++) {
    visible[row] = tests.every((test) => test(row)) ? 1 : 0;
    visibleCount += visible[row];
  }
  listeners.forEach((listener) => listener());
}
