// Articles' pictures. Those that there are come with the reader's key; for the others one is drawn by category.
import { call } from "/console/static/api.js";
import { drawn, element } from "/console/static/page.js";

const HUES = 8;
const kept = new Map();

/** The picture of an item, which says nothing that its title does not. */
export function picture(item) {
  const frame = element("div", { className: "picture" }, placeholder(item));
  if (item?.has_image) {
    load(item.item_id).then((address) => {
      if (address) frame.replaceChildren(element("img", { src: address, alt: "", decoding: "async" }));
    });
  }
  return frame;
}

/** The picture of an item was replaced. */
export const forget = (itemId) => kept.delete(itemId);

function load(itemId) {
  if (!kept.has(itemId)) {
    const asked = call("GET", `/v1/items/${encodeURIComponent(itemId)}/image`)
      .then(async (answer) => (answer.ok ? URL.createObjectURL(await answer.blob()) : null))
      .catch(() => null);
    kept.set(itemId, asked);
  }
  return kept.get(itemId);
}

function placeholder(item) {
  const category = item?.category || "";
  const number = hash(category || "none");
  const shapes = [];
  let state = hash(item?.item_id || "");
  for (let place = 0; place < 3; place += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const [x, y, r] = [40 + (state % 240), 20 + ((state >>> 8) % 140), 24 + ((state >>> 16) % 50)];
    shapes.push(drawn("circle", { cx: x, cy: y, r }));
  }
  const letter = drawn("text", { x: 160, y: 112, "text-anchor": "middle" });
  letter.textContent = (category[0] || "·").toUpperCase();
  return drawn("svg", { viewBox: "0 0 320 180", "aria-hidden": "true", class: `placeholder hue${number % HUES}`, preserveAspectRatio: "xMidYMid slice" },
    drawn("rect", { width: 320, height: 180 }), shapes, letter);
}

function hash(text) {
  let value = 2166136261;
  for (const each of new TextEncoder().encode(text)) value = Math.imul(value ^ each, 16777619) >>> 0;
  return (value ^ (value >>> 15)) >>> 0;
}
