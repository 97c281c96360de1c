// What all pages are made of. Texts of articles and users are only ever set as text.

/** An element with properties (or attributes, where there is no such property) and children. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key in made && key !== "list" && key !== "role") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((each) => each !== undefined && each !== null && each !== ""));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** The same for a drawing. */
export function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.flat());
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Says what went wrong; "" for nothing. */
export function problem(text) {
  const there = byId("problem");
  there.textContent = text;
  there.hidden = !text;
}

const SAID_SECONDS = 8;
let said = 0;

/** Says what has changed, also to those who do not see it; it goes away by itself, not to lie over what it is about. */
export function say(text) {
  const told = byId("told");
  told.textContent = text;
  clearTimeout(said);
  said = setTimeout(() => told.replaceChildren(), SAID_SECONDS * 1000);
}

export const id = () => [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");

/** A table with a caption. Cells are texts or elements; `numbers` are the columns set to the right. */
export function table(caption, heads, rows, numbers = []) {
  const kind = (place) => (numbers.includes(place) ? "number" : "");
  return element("div", { className: "table", tabIndex: 0, role: "region", "aria-label": caption },
    element("table", {},
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, heads.map((each, place) => element("th", { scope: "col", className: kind(place) }, each)))),
      element("tbody", {}, rows.map((row) => element("tr", {}, row.map((cell, place) =>
        place ? element("td", { className: kind(place) }, cell) : element("th", { scope: "row" }, cell)))))));
}

export const badge = (text, kind = "") => element("span", { className: `badge ${kind}` }, text);

/** A moment of the API, in microseconds, as the reader's clock has it. */
export function moment(at) {
  return new Date(at / 1000).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

export const clock = (at) => new Date(at / 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

/** A number with three digits that count. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && Math.abs(value) < 1) return Number(value.toPrecision(3)).toString();
  return Number(value.toPrecision(Math.max(3, Math.floor(Math.log10(Math.abs(value) || 1)) + 1))).toLocaleString("en");
}

export const percent = (value) => (value === null ? "–" : `${Number((100 * value).toPrecision(3))} %`);

/** Asks for a yes, and why; "" where no reason is asked for, null for a no. */
export function confirmed(title, sentence, action, { why = true } = {}) {
  return new Promise((resolve) => {
    const field = why ? element("input", { id: "why", required: true, maxLength: 500, autocomplete: "off" }) : null;
    const cancel = element("button", { type: "button", className: "quiet" }, "Cancel");
    const form = element("form", { className: "stack", method: "dialog" },
      element("h2", { id: "confirm-title" }, title),
      element("p", {}, sentence),
      field && element("div", {}, element("label", { htmlFor: "why" }, "Why; it is kept"), field),
      element("div", { className: "bar" }, element("button", { type: "submit", className: "strong" }, action), cancel));
    const dialog = element("dialog", { "aria-labelledby": "confirm-title" }, form);
    let given = null;
    form.addEventListener("submit", () => {
      given = field ? field.value.trim() || null : "";
    });
    cancel.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(given);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
