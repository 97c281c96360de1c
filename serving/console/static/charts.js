// Line charts and intervals as SVG. Each has its figures as a table too, for those who do not see it.
import { clock, drawn, element, moment, table } from "/console/static/page.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [520, 170, 56, 10, 10, 22];
const opened = new Set(); // tables that somebody reads stay open while the chart moves

/**
 * A chart of lines over time.
 *
 * lines: [{ name, points: [{ at, value, low, high }] }], where a value may be null: nothing is known then.
 * show: a value as text. long: whether times are days rather than minutes.
 */
export function lineChart(title, lines, { show, long = false, from = 0 }) {
  const points = lines.flatMap((each) => each.points);
  const known = points.filter((each) => each.value !== null);
  const tell = long ? moment : clock;
  const latest = lines.map((each) => [each.name, each.points.findLast((one) => one.value !== null)]);
  const told = latest.map(([name, point]) => `${lines.length > 1 ? `${name} ` : ""}${point ? show(point.value) : "–"}`).join(", ");
  const caption = element("figcaption", {}, `${title}: `, element("b", {}, known.length ? told : "nothing yet"));
  const figure = element("figure", {}, caption);
  if (!known.length) return figure;
  const times = points.map((each) => each.at);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const values = known.flatMap((each) => [each.value, each.high ?? each.value, each.low ?? each.value]);
  const [bottom, top] = [Math.min(from, ...values), Math.max(...values)];
  const height = top > bottom ? top : bottom + 1;
  const x = (at) => (last > first ? LEFT + ((at - first) / (last - first)) * (WIDTH - LEFT - RIGHT) : (LEFT + WIDTH - RIGHT) / 2);
  const y = (value) => HEIGHT - BOTTOM - ((value - bottom) / (height - bottom)) * (HEIGHT - TOP - BOTTOM);
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}; now ${told}` });
  for (const share of [0, 0.5, 1]) {
    const value = bottom + share * (height - bottom);
    svg.append(drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }), text(LEFT - 6, y(value) + 4, show(value), "end"));
  }
  svg.append(text(LEFT, HEIGHT - 5, tell(first), "start"));
  if (last > first) svg.append(text(WIDTH - RIGHT, HEIGHT - 5, tell(last), "end"));
  lines.forEach((line, place) => svg.append(...drawLine(line.points, place, x, y)));
  figure.append(svg);
  if (lines.length > 1) {
    figure.append(element("ul", { className: "legend" }, lines.map((each, place) => element("li", {},
      drawn("svg", { viewBox: "0 0 28 8", "aria-hidden": "true" }, drawn("line", { class: `line s${place} d${place}`, x1: 1, x2: 27, y1: 4, y2: 4 })), each.name))));
  }
  figure.append(figures(title, lines, show, tell));
  return figure;
}

function drawLine(points, place, x, y) {
  const made = [];
  const banded = points.filter((each) => each.value !== null && each.low !== null && each.low !== undefined);
  if (banded.length > 1) {
    const there = banded.map((each) => `${x(each.at)},${y(each.high)}`);
    const back = banded.toReversed().map((each) => `${x(each.at)},${y(each.low)}`);
    made.push(drawn("polygon", { class: `band f${place}`, points: [...there, ...back].join(" ") }));
  }
  let part = [];
  const end = () => {
    if (part.length === 1) made.push(drawn("circle", { class: `f${place}`, cx: x(part[0].at), cy: y(part[0].value), r: 3 }));
    else if (part.length) made.push(drawn("polyline", { class: `line s${place} d${place}`, points: part.map((each) => `${x(each.at)},${y(each.value)}`).join(" ") }));
    part = [];
  };
  for (const each of points) {
    if (each.value === null) end();
    else part.push(each);
  }
  end();
  return made;
}

function figures(title, lines, show, tell) {
  const times = [...new Set(lines.flatMap((each) => each.points.map((one) => one.at)))].sort((one, other) => other - one);
  const values = lines.map((each) => new Map(each.points.map((one) => [one.at, one.value])));
  const cell = (value) => (value === null || value === undefined ? "–" : show(value));
  const rows = () => times.map((at) => [tell(at), ...values.map((each) => cell(each.get(at)))]);
  const details = element("details", { open: opened.has(title) }, element("summary", {}, "Figures", element("span", { className: "hidden" }, ` of ${title}`)));
  const fill = () => details.open && details.children.length < 2 && details.append(table(title, ["Time", ...lines.map((each) => each.name)], rows(), lines.map((_, place) => place + 1)));
  fill();
  details.addEventListener("toggle", () => {
    if (details.open) opened.add(title);
    else opened.delete(title);
    fill();
  });
  return details;
}

/** Intervals about zero: [{ name, value, low, high }]. */
export function intervals(title, rows, show) {
  const reach = Math.max(...rows.flatMap((each) => [Math.abs(each.low), Math.abs(each.high)]), 1e-9) * 1.1;
  const [left, wide, step] = [90, 250, 28];
  const x = (value) => left + ((value + reach) / (2 * reach)) * (wide - 10);
  const height = rows.length * step + 24;
  const told = rows.map((each) => `${each.name} ${show(each.value)}, from ${show(each.low)} to ${show(each.high)}`).join("; ");
  const svg = drawn("svg", { viewBox: `0 0 ${left + wide} ${height}`, role: "img", "aria-label": `${title}: ${told}`, class: "intervals" });
  svg.append(drawn("line", { class: "axis", x1: x(0), x2: x(0), y1: 4, y2: height - 20 }), text(x(0), height - 6, "0", "middle"));
  svg.append(text(left, height - 6, show(-reach), "start"), text(left + wide - 10, height - 6, show(reach), "end"));
  rows.forEach((each, place) => {
    const middle = place * step + 18;
    const kind = each.low > 0 ? "better" : each.high < 0 ? "worse" : "open";
    svg.append(text(left - 8, middle + 4, each.name, "end"),
      drawn("line", { class: `interval ${kind}`, x1: x(each.low), x2: x(each.high), y1: middle, y2: middle }),
      drawn("circle", { class: `point ${kind}`, cx: x(each.value), cy: middle, r: 5 }));
  });
  return element("figure", { className: "evidence" }, element("figcaption", {}, title), svg, element("p", { className: "note" }, told));
}

function text(x, y, content, anchor) {
  const made = drawn("text", { x, y, "text-anchor": anchor });
  made.textContent = content;
  return made;
}
