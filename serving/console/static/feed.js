// A user's history and feed; a click changes both.
import { address, attempt, get, itemsOf, post } from "/console/static/api.js";
import { badge, byId, element, id, moment, say, short } from "/console/static/page.js";
import { picture } from "/console/static/pictures.js";
import { offerUsers } from "/console/static/users.js";

const shown = { user: "", feed: null };

byId("who").addEventListener("submit", (event) => {
  event.preventDefault();
  show(byId("user").value.trim());
});

const users = await attempt(() => offerUsers("user", "latest"));
if (users?.length) {
  byId("picks").hidden = false;
  byId("users").replaceChildren(...users.slice(0, 8).map((each) => {
    const pick = element("button", { type: "button", className: "chip" }, each.user_id);
    pick.addEventListener("click", () => show(each.user_id));
    return element("li", {}, pick);
  }));
}
addEventListener("popstate", begin);
begin();

function begin() {
  const asked = new URLSearchParams(location.search).get("user") || users?.[0]?.user_id;
  if (asked) show(asked, { push: false });
}

async function show(user, { push = true } = {}) {
  if (!user) return;
  byId("user").value = user;
  if (push) history.pushState(null, "", address("/", { user }));
  shown.user = user;
  shown.feed = null;
  await attempt(async () => {
    await load();
    say(`The feed of ${user} has ${shown.feed.items.length} articles.`);
  });
}

async function load() {
  const user = shown.user;
  const k = Math.max(1, Number(byId("k").value) || 9);
  const before = shown.feed;
  const [feed, known] = await Promise.all([
    post("/v1/recommendations", { user_id: user, k }),
    get(`/v1/users/${encodeURIComponent(user)}`),
  ]);
  const items = await itemsOf(feed.items.map((each) => each.item_id));
  if (user !== shown.user) return 0; // somebody else was picked meanwhile
  shown.feed = feed;
  const places = before && new Map(before.items.map((each) => [each.item_id, each.position]));
  byId("feed-title").textContent = `Feed of ${user}`;
  byId("facts").textContent = facts(feed);
  byId("feed").replaceChildren(...feed.items.map((each) => card(each, items.get(each.item_id), places)));
  byId("read").textContent = known.history.length ? `${known.history.length} read, the latest first` : "Nothing is known of this user yet.";
  byId("history").replaceChildren(...known.history.map(row));
  return places ? feed.items.filter((each) => !places.has(each.item_id)).length : 0;
}

function facts(feed) {
  const version = feed.model.version === null ? "no version" : `version ${feed.model.version}`;
  const by = feed.fallback ? `fallback: ${feed.fallback}` : `by ${feed.model.name}, ${version}`;
  return `${by} · variant ${feed.variant}`;
}

function card(entry, item, places) {
  const title = item?.title || entry.item_id;
  const open = element("button", { type: "button", className: "open" }, title);
  open.addEventListener("click", () => click(entry, title));
  const moved = places && (places.has(entry.item_id) ? null : badge("new here", "good"));
  return element("li", { className: places && moved ? "card fresh" : "card" },
    picture(item),
    element("div", { className: "text" },
      element("h3", { lang: item?.language || null }, open),
      element("p", { className: "reason" }, entry.reason, moved ? " " : "", moved),
      element("p", { className: "meta" }, [item?.category, item?.language, `score ${short(entry.score)}`].filter(Boolean).join(" · "))));
}

function row(entry) {
  const item = entry.item;
  return element("li", {}, picture(item),
    element("div", { className: "text" },
      element("p", { className: "title", lang: item?.language || null }, item?.title || entry.item_id),
      element("p", { className: "meta" }, [item?.category, moment(entry.at)].filter(Boolean).join(" · "))));
}

async function click(entry, title) {
  const user = shown.user;
  await attempt(async () => {
    const event = { event_id: id(), user_id: user, item_id: entry.item_id, kind: "click" };
    await post("/v1/events", { ...event, request_id: shown.feed.request_id, position: entry.position });
    const fresh = await load();
    byId("feed-title").focus();
    const count = shown.feed.items.length;
    say(`${user} has read “${title}”. ${fresh} of ${count} articles of the feed are new.`);
  });
}
