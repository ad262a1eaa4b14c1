// Dragging along an axis of the parallel coordinates filters the table by its column.
function brushing(place) {
  const dimensions = report.dimensions;
  let start = null;
  let bar = null;
  let clicked = -Infinity;

  const where = (event) => {
    const box = place.getBoundingClientRect();
    const { xaxis, yaxis } = place._fullLayout;
    const x = xaxis.p2d(event.clientX - box.left - xaxis._offset);
    const y = yaxis.p2d(event.clientY - box.top - yaxis._offset);
    return { x, y, left: event.clientX - box.left, top: event.clientY - box.top };
  };

  const valueAt = (d, height) => {
    const at = Math.min(1, Math.max(0, height));
    return d.log ? d.low * (d.high / d.low) ** at : d.low + at * (d.high - d.low);
  };

  place.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" || event.button !== 0 || event.target.closest(".modebar, .legend")) return;
    const point = where(event);
    const axis = Math.round(point.x);
    if (axis < 0 || axis >= dimensions.length || Math.abs(point.x - axis) > 0.2) return;
    start = { ...point, axis };
    bar = element("div", { className: "brush" });
    place.append(bar);
  });
  window.addEventListener("pointermove", (event) => {
    if (!start) return;
    const now = where(event);
    Object.assign(bar.style, {
      left: `${start.left - 7}px`, width: "14px",
      top: `${Math.min(start.top, now.top)}px`, height: `${Math.abs(now.top - start.top)}px`,
    });
  });
  window.addEventListener("pointerup", (event) => {
    if (!start) return;
    const { axis, y, top } = start;
    const now = where(event);
    bar.remove();
    start = null;
    const d = dimensions[axis];
    if (Math.abs(now.top - top) < 6) {
      if (event.timeStamp - clicked < 400) filterBy(d.column, "");
      clicked = event.timeStamp;
      return;
    }
    const [low, high] = [y, now.y].sort((a, b) => a - b);
    if (low > 1.05 || high < -0.05) return;
    if (d.names.length) {
      const inside = d.names.filter((_, i) => i / Math.max(1, d.names.length - 1) >= low && i / Math.max(1, d.names.length - 1) <= high);
      filterBy(d.column, inside.length === 1 ? `=${inside[0]}` : "");
      return;
    }
    const form = (v) => String(Number(v.toPrecision(5)));
    const kind = column[d.column].kind;
    const [from, to] = [valueAt(d, low), valueAt(d, high)];
    filterBy(d.column, kind === "share" ? `${form(100 * from)}% .. ${form(100 * to)}%` : `${form(from)} .. ${form(to)}`);
  });
}
