// Articles: add one, find it, see who would get it, take it off offer.
import { address, attempt, get, json } from "/console/static/api.js";
import { badge, byId, confirmed, element, id, problem, say, short, table } from "/console/static/page.js";
import { forget, picture } from "/console/static/pictures.js";

const MOST_BYTES = 1 << 20;
const PLACES = 10;

byId("add").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(add);
});
byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(find);
});
await attempt(find);

async function add() {
  const title = byId("title").value.trim();
  const itemId = byId("item").value.trim() || named(title);
  const item = { title, body: byId("body").value, published_at: new Date().toISOString() };
  for (const name of ["category", "language"]) item[name] = byId(name).value.trim();
  item.tags = byId("tags").value.split(",").map((each) => each.trim()).filter(Boolean);
  const file = byId("image").files[0];
  if (file) {
    if (file.size > MOST_BYTES) return problem("The picture is larger than 1 MB.");
    item.image = await base64(file);
  }
  const stored = await json("PUT", path(itemId), item);
  forget(itemId);
  byId("add").reset();
  await readers(itemId, title, stored.live);
  byId("text").value = "";
  return find();
}

function named(title) {
  const words = title.normalize("NFKD").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60);
  return `${words || "article"}-${id().slice(0, 6)}`;
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The picture cannot be read."));
    reader.readAsDataURL(file);
  });
}

const path = (itemId) => `/v1/items/${encodeURIComponent(itemId)}`;

async function readers(itemId, title, live = true) {
  byId("readers-told").textContent = "Asking for the feeds of those who were active last.";
  byId("readers").replaceChildren();
  const found = await get(address(`${path(itemId)}/readers`, { k: PLACES }));
  const count = found.readers.length;
  const who = `“${title}” is in the first ${found.k} of ${count} of the ${found.asked} users who were active last.`;
  const told = [who, live ? "" : "It is not live yet: look again in a moment.", found.away ? `${found.away} could not be told.` : ""].filter(Boolean).join(" ");
  byId("readers-told").textContent = told;
  if (count) {
    const rows = found.readers.map((each) => [
      element("a", { href: address("/", { user: each.user_id }) }, each.user_id), `${each.position + 1}`, short(each.score), each.reason]);
    byId("readers").replaceChildren(table("In whose feed it is", ["User", "Place", "Score", "Reason"], rows, [1, 2]));
  }
  byId("readers-title").focus();
  say(told);
}

async function find() {
  const text = byId("text").value.trim();
  const { items } = await get(address("/v1/items", { text, limit: 12 }));
  byId("found-told").textContent = text ? `${items.length === 12 ? "The first 12" : items.length} found.` : "Those that changed last.";
  if (text) say(byId("found-told").textContent);
  byId("found").replaceChildren(...items.map(row));
  for (const [list, name] of [["categories", "category"], ["languages", "language"]]) {
    const there = new Set([...byId(list).children].map((each) => each.value));
    for (const item of items) if (item[name]) there.add(item[name]);
    byId(list).replaceChildren(...[...there].sort().map((each) => element("option", { value: each })));
  }
}

function row(item) {
  const title = item.title || item.item_id;
  const who = element("button", { type: "button", className: "quiet", "aria-label": `Who would get ${title}` }, "Who would get it");
  who.addEventListener("click", () => attempt(() => readers(item.item_id, title)));
  const off = element("button", { type: "button", className: "quiet", "aria-label": `Take ${title} off offer` }, "Take off offer");
  off.addEventListener("click", () => attempt(() => remove(item.item_id, title)));
  return element("li", {}, picture(item),
    element("div", { className: "text" },
      element("p", { className: "title", lang: item.language || null }, title, item.on_offer ? "" : " ", item.on_offer ? null : badge("off offer", "warning")),
      element("p", { className: "meta" }, [item.item_id, item.category, item.language, item.tags.join(", ")].filter(Boolean).join(" · "))),
    item.on_offer ? element("div", { className: "actions" }, who, off) : null);
}

async function remove(itemId, title) {
  const why = await confirmed("Take off offer", `“${title}” is shown to nobody any more. Histories still know it.`, "Take off offer", { why: false });
  if (why === null) return;
  await json("DELETE", path(itemId));
  say(`“${title}” is off offer.`);
  await find();
}
