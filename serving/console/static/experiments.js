// Experiments: their state, the evidence so far, a ramp and an end.
import { attempt, get, post } from "/console/static/api.js";
import { intervals } from "/console/static/charts.js";
import { badge, byId, confirmed, element, moment, percent, say, short, table } from "/console/static/page.js";

const KINDS = { running: "good", won: "good", lost: "warning", undecided: "", guardrail: "error", broken: "error", stopped: "" };
const SETTINGS = { label: "model", category_share: "largest category share", explore: "explores", live_items: "live items" };

await attempt(showAll);

async function showAll() {
  const { experiments } = await get("/v1/experiments");
  byId("none").hidden = experiments.length > 0;
  const ordered = experiments.toReversed().sort((one, other) => (other.state === "running") - (one.state === "running"));
  const shown = await Promise.all(ordered.map((each) => get(`/v1/experiments/${each.experiment.name}`)));
  byId("experiments").replaceChildren(...shown.map(section));
}

function section(found) {
  const { experiment, state, looks } = found;
  const running = state === "running";
  const latest = looks.at(-1);
  const made = element("section", { className: "panel", "aria-labelledby": `of-${experiment.name}` },
    element("h2", { id: `of-${experiment.name}` }, experiment.name, " ", badge(running ? "running" : found.verdict || state, KINDS[running ? "running" : found.verdict] || "")),
    element("p", { className: "note" }, facts(found)),
    found.why ? element("p", {}, `Why it ended: ${found.why}`) : null,
    table(`Variants of ${experiment.name}`, ["Variant", "Share", "Changes", "Users", metric(experiment)],
      Object.entries(experiment.variants).map(([name, variant]) => [
        name === experiment.control && name !== "control" ? `${name} (control)` : name, percent(variant.share), changes(variant.treatment),
        short(latest?.users[name] ?? latest?.users.interleaved ?? null), short(latest?.value[name] ?? null)]), [1, 3, 4]),
    element("h3", {}, "Evidence"),
    ...evidence(experiment, latest));
  if (running) made.append(actions(found));
  return made;
}

function facts({ experiment, started_at: started, stopped_at: stopped }) {
  const times = stopped ? `${moment(started)} to ${moment(stopped)}` : `since ${moment(started)}`;
  return `${experiment.method}, by ${metric(experiment)} · ${times} · ramp ${percent(experiment.ramp)} · planned for ${short(experiment.planned_users)} users`;
}

function metric(experiment) {
  return experiment.metric === "ctr" ? "CTR" : experiment.metric;
}

function changes(treatment) {
  const told = Object.entries(treatment).filter(([, value]) => value !== null).map(([name, value]) => `${SETTINGS[name] || name} ${value}`);
  return told.join(", ") || "nothing";
}

function evidence(experiment, latest) {
  if (!latest) return [element("p", { className: "note" }, "Nobody has looked yet.")];
  const rows = Object.entries(latest.leads ?? {}).map(([name, lead]) => ({ name, ...lead }));
  return [
    rows.length ? intervals(`Lead over ${experiment.control} in ${metric(experiment)}`, rows, short) : null,
    element("p", {}, badge(latest.verdict, KINDS[latest.verdict] || ""), " ", latest.why),
    element("p", { className: "note" }, `Looked at ${moment(latest.at)}${latest.left_out ? `; ${latest.left_out} users saw two variants and are left out` : ""}.`),
  ].filter(Boolean);
}

function actions({ experiment }) {
  const { name } = experiment;
  const path = `/v1/experiments/${name}`;
  const look = element("button", { type: "button", className: "quiet", "aria-label": `Look at ${name} now` }, "Look now");
  look.addEventListener("click", () => attempt(async () => {
    const seen = await post(`${path}/look`);
    await showAll();
    say(`${name}: ${seen.why}`);
  }));
  const field = element("input", { id: `ramp-${name}`, type: "number", min: Math.ceil(100 * experiment.ramp), max: 100, step: 1, value: Math.round(100 * experiment.ramp) });
  const grow = element("form", { className: "bar" },
    element("div", {}, element("label", { htmlFor: `ramp-${name}` }, "Ramp in %"), field),
    element("button", { type: "submit", className: "quiet", "aria-label": `Set the ramp of ${name}` }, "Set"));
  grow.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      await post(`${path}/ramp`, { ramp: Number(field.value) / 100 });
      await showAll();
      say(`${name} is at ${field.value} % of its users.`);
    });
  });
  const stop = element("button", { type: "button", className: "strong", "aria-label": `Stop ${name}` }, "Stop");
  stop.addEventListener("click", () => attempt(async () => {
    const why = await confirmed(`Stop ${name}`, "Everybody is served as if there were no experiment. It cannot be started again.", "Stop it");
    if (why === null) return;
    await post(`${path}/stop`, { why });
    await showAll();
    say(`${name} has been stopped.`);
  }));
  return element("div", { className: "bar" }, look, stop, grow);
}
