// Dragging along an axis of the parallel coordinates filters the table by its column.
function brushing(place) {
  const dimensions = report.dimensions;
  let start = null;
  let bar = null;
  let clicked = -Infinity;

  const where = (event) => {
    const box = place.getBoundingClientRect();
    const { xaxis, yaxis } = place._fullLayout;
    const [left, top] = [event.clientX - box.left, event.clientY - box.top];
    const [x, y] = [xaxis.p2d(left - xaxis._offset), yaxis.p2d(top - yaxis._offset)];
    // An axis is crossed by its number, and its values lie along it.
    const upright = isUpright(report.figures[report.parallel], place);
    return upright ? { number: y, height: x, along: left, across: top, upright } : { number: x, height: y, along: top, across: left, upright };
  };

  const valueAt = (d, height) => {
    const at = Math.min(1, Math.max(0, height));
    return d.log ? d.low * (d.high / d.low) ** at : d.low + at * (d.high - d.low);
  };

  place.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" || event.button !== 0 || event.target.closest(".modebar, .legend")) return;
    const point = where(event);
    const axis = Math.round(point.number);
    if (axis < 0 || axis >= dimensions.length || Math.abs(point.number - axis) > 0.2) return;
    start = { ...point, axis };
    bar = element("div", { className: "brush" });
    place.append(bar);
  });
  window.addEventListener("pointermove", (event) => {
    if (!start) return;
    const now = where(event);
    const [from, length] = [Math.min(start.along, now.along), Math.abs(now.along - start.along)];
    const [side, size, other, thickness] = start.upright ? ["left", "width", "top", "height"] : ["top", "height", "left", "width"];
    Object.assign(bar.style, { [side]: `${from}px`, [size]: `${length}px`, [other]: `${start.across - 7}px`, [thickness]: "14px" });
  });
  window.addEventListener("pointerup", (event) => {
    if (!start) return;
    const { axis, height, along } = start;
    const now = where(event);
    bar.remove();
    start = null;
    const d = dimensions[axis];
    if (Math.abs(now.along - along) < 6) {
      if (event.timeStamp - clicked < 400) filterBy(d.column, "");
      clicked = event.timeStamp;
      return;
    }
    const [low, high] = [height, now.height].sort((a, b) => a - b);
    if (low > 1.05 || high < -0.05) return;
    if (d.names.length) {
      const inside = d.names.filter((_, i) => i / Math.max(1, d.names.length - 1) >= low && i / Math.max(1, d.names.length - 1) <= high);
      filterBy(d.column, inside.map((name) => `=${name}`).join(", "));
      return;
    }
    // Five digits, rounded away from what is inside: the value at the end of an axis is.
    const form = (v, round) => {
      const unit = v ? 10 ** (Math.floor(Math.log10(Math.abs(v))) - 4) : 1;
      return String(Number((round(Number((v / unit).toPrecision(12))) * unit).toPrecision(5)));
    };
    const kind = column[d.column].kind;
    const [from, to] = [valueAt(d, low), valueAt(d, high)];
    const [scale, sign] = kind === "share" ? [100, "%"] : [1, ""];
    filterBy(d.column, `${form(scale * from, Math.floor)}${sign} .. ${form(scale * to, Math.ceil)}${sign}`);
  });
}
