// Two variants' feeds for one user.
import { attempt, get, itemsOf, post } from "/console/static/api.js";
import { badge, byId, element, say, short } from "/console/static/page.js";
import { picture } from "/console/static/pictures.js";
import { offerUsers } from "/console/static/users.js";

const FIELDS = [
  { name: "label", label: "Model's label", type: "text", pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]{0,63}" },
  { name: "category_share", label: "Most of one category", type: "number", min: 0.05, max: 1, step: 0.05 },
  { name: "live_items", label: "Live items considered", type: "number", min: 0, max: 1024, step: 1 },
];

for (const side of ["a", "b"]) {
  byId(side).append(...FIELDS.map(({ name, label, ...rest }) => element("div", {},
    element("label", { htmlFor: `${side}-${name}` }, label),
    element("input", { id: `${side}-${name}`, autocomplete: "off", ...rest }))));
}
byId("b-category_share").value = 0.25;

byId("which").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(compare);
});

const users = await attempt(() => offerUsers("user", "latest"));
byId("user").value ||= users?.[0]?.user_id ?? "";
await attempt(offerExperiments);

async function offerExperiments() {
  const { experiments } = await get("/v1/experiments");
  const running = experiments.filter((each) => each.state === "running");
  if (!running.length) return;
  byId("from").hidden = false;
  const choice = byId("experiment");
  choice.append(...running.map((each) => element("option", { value: each.experiment.name }, each.experiment.name)));
  choice.addEventListener("change", () => {
    const found = running.find((each) => each.experiment.name === choice.value)?.experiment;
    if (!found) return;
    const others = Object.keys(found.variants).filter((name) => name !== found.control);
    fill("a", found.variants[found.control].treatment);
    fill("b", found.variants[others[0]].treatment);
  });
}

function fill(side, treatment) {
  for (const { name } of FIELDS) byId(`${side}-${name}`).value = treatment[name] ?? "";
}

function treatment(side) {
  const found = {};
  for (const { name, type } of FIELDS) {
    const value = byId(`${side}-${name}`).value.trim();
    if (value) found[name] = type === "number" ? Number(value) : value;
  }
  return found;
}

async function compare() {
  const user = byId("user").value.trim();
  const variants = { A: treatment("a"), B: treatment("b") };
  const { feeds } = await post("/v1/preview", { user_id: user, k: Number(byId("k").value), variants });
  const items = await itemsOf(Object.values(feeds).flatMap((feed) => feed.items.map((each) => each.item_id)));
  const places = Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, new Map(feed.items.map((each) => [each.item_id, each.position]))]));
  byId("feeds").replaceChildren(side("A", feeds.A, places.B, items), side("B", feeds.B, places.A, items));
  const alone = feeds.A.items.filter((each) => !places.B.has(each.item_id)).length;
  const moved = feeds.A.items.filter((each) => places.B.has(each.item_id) && places.B.get(each.item_id) !== each.position).length;
  const told = alone || moved
    ? `Of ${feeds.A.items.length} articles of A, ${alone} are not in B, and ${moved} stand at another place there.`
    : "Both variants give the same feed.";
  byId("differences").hidden = false;
  byId("differences").textContent = told;
  say(told);
}

function side(name, feed, others, items) {
  const by = feed.fallback ? `its own model is away: the ${feed.fallback} one answered` : `${feed.model.name}, version ${feed.model.version}`;
  return element("section", { "aria-labelledby": `side-${name}` },
    element("h2", { id: `side-${name}` }, `Variant ${name}`),
    element("p", { className: "note" }, by),
    element("ol", { className: "rows numbered" }, feed.items.map((each) => row(each, others, items.get(each.item_id)))));
}

function row(entry, others, item) {
  const there = others.get(entry.item_id);
  const steps = there === undefined ? 0 : there - entry.position;
  const mark = there === undefined ? badge("only here", "good") : steps ? badge(`place ${there + 1} there`, "warning") : null;
  return element("li", { className: there === undefined ? "alone" : "" }, picture(item),
    element("div", { className: "text" },
      element("p", { className: "title", lang: item?.language || null }, item?.title || entry.item_id, mark ? " " : "", mark),
      element("p", { className: "meta" }, [item?.category, entry.reason, `score ${short(entry.score)}`].filter(Boolean).join(" · "))));
}
