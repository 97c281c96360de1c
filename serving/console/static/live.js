// How it goes now: asked again every few seconds, unless paused or out of sight.
import { address, get } from "/console/static/api.js";
import { lineChart } from "/console/static/charts.js";
import { badge, byId, clock, element, moment, percent, problem, say, short, table } from "/console/static/page.js";

const SECONDS = 3;
const SLOW = 10; // of these turns is one for what monitors measure, which changes by the hour
const CACHES = ["state", "vector", "answer", "stale"];
const MOST_TURNS = 200;
const seen = [];
let paused = false;
let turn = 0;

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", paused);
  byId("pause").textContent = paused ? "Go on" : "Pause";
  say(paused ? "The charts stand still." : "The charts move again.");
});
for (;;) {
  if (!paused && !document.hidden) {
    try {
      await showLive();
      if (turn % SLOW === 0) await showWindows();
      problem("");
    } catch (error) {
      problem(error.message);
    }
    turn += 1;
  }
  await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000));
}

async function showLive() {
  const live = await get("/v1/live");
  seen.push({ at: live.at, caches: live.caches });
  if (seen.length > MOST_TURNS) seen.shift();
  const shortOf = live.complete_from > live.minutes[0].start ? ` All slates since ${clock(live.complete_from)} are counted.` : "";
  byId("now").textContent = `As of ${new Date(live.at / 1000).toLocaleTimeString("en-GB")}, every ${SECONDS} seconds.${shortOf}`;
  const total = Object.values(live.answers).reduce((sum, each) => sum + each, 0);
  const tiles = [
    ["Model", `${live.model} ${live.version ?? "away"}`],
    ["Items", short(live.items)],
    ["Live items", short(live.live_items)],
    ["Feeds since start", short(total)],
    ["Fallbacks since start", short(total - (live.answers.model ?? 0))],
    ["Events waiting", short(live.events_waiting)],
  ];
  if (live.slates_dropped) tiles.push(["Slates not recorded", short(live.slates_dropped)]);
  if (!live.model_is_asked) tiles.push(["Breaker", "open"]);
  byId("tiles").replaceChildren(...tiles.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const line = (name, value) => ({ name, points: live.minutes.map((each) => ({ at: each.start, value: value(each) })) });
  const charts = [
    lineChart("CTR", [line("CTR", (each) => (each.shown ? each.wanted / each.shown : null))], { show: percent }),
    lineChart("Latency", [line("median", (each) => each.latency_p50_ms), line("99th percentile", (each) => each.latency_p99_ms)], { show: (value) => `${short(value)} ms` }),
    lineChart("Feeds a minute", [line("all", (each) => each.slates), line("fallbacks", (each) => each.fallbacks)], { show: short }),
    lineChart("Cache hits", cacheLines(), { show: percent }),
  ];
  exchange("minutes", charts);
}

// Hits of a cache between two turns: counts since the start would hide what is happening now.
function cacheLines() {
  return CACHES.map((name) => ({
    name,
    points: seen.map((each, place) => {
      const [now, before] = [each.caches[name], seen[place - 1]?.caches[name] ?? { hits: 0, misses: 0 }];
      const [hits, misses] = [now.hits - before.hits, now.misses - before.misses];
      return { at: each.at, value: hits + misses > 0 ? hits / (hits + misses) : null };
    }),
  })).filter((each) => each.points.some((one) => one.value !== null));
}

async function showWindows() {
  const measured = await get(address("/v1/measures", { metric: ["ctr", "latency_p50_ms", "latency_p99_ms", "fallback_rate"] }));
  const none = measured.seconds === null;
  byId("windows-told").textContent = none ? "None yet: belfry monitor measures them." : `Windows of ${short(measured.seconds / 3600)} hours; bands are 95 % intervals.`;
  if (!none) {
    const found = Object.fromEntries(measured.series.map((each) => [each.metric, each.windows.map((one) => ({ ...one, at: one.start }))]));
    const drift = await Promise.all(["training", "live", "before"].map(async (role) => {
      const asked = { metric: "drifting", slice: `reference=${role}`, seconds: measured.seconds };
      const { series } = await get(address("/v1/measures", asked));
      return { name: `from ${role}`, points: series[0].windows.map((each) => ({ at: each.start, value: each.value })) };
    }));
    exchange("windows", [
      lineChart("CTR by window", [{ name: "CTR", points: found.ctr }], { show: percent, long: true }),
      lineChart("Features that drift", drift.filter((each) => each.points.length), { show: short, long: true }),
      lineChart("Latency by window", [{ name: "median", points: found.latency_p50_ms }, { name: "99th percentile", points: found.latency_p99_ms }], { show: (value) => `${short(value)} ms`, long: true }),
      lineChart("Fallbacks by window", [{ name: "share", points: found.fallback_rate }], { show: percent, long: true }),
    ]);
  }
  const { raised, alerts } = await get("/v1/alerts");
  byId("raised").replaceChildren(...(raised.length ? ["Raised: ", ...raised.flatMap((each) => [badge(each, "error"), " "])] : ["No rule is raised."]));
  const rows = alerts.map((each) => [moment(each.at), each.rule, badge(each.state, each.state === "raised" ? "error" : "good"), each.action, each.reason]);
  byId("alerts").replaceChildren(...(rows.length ? [table("The latest alerts", ["Time", "Rule", "State", "Action", "Reason"], rows)] : []));
}

// A chart that has the focus stays: whoever reads its figures is not thrown out.
function exchange(where, charts) {
  const there = [...byId(where).children];
  charts.forEach((chart, place) => {
    if (!there[place]) byId(where).append(chart);
    else if (!there[place].contains(document.activeElement)) there[place].replaceWith(chart);
  });
}
