// Versions of the model: which serves, promote, retire, roll back.
import { attempt, get, post } from "/console/static/api.js";
import { badge, byId, confirmed, element, moment, say, table } from "/console/static/page.js";

const KINDS = { champion: "good", canary: "warning", candidate: "", retired: "" };
const SECONDS = 2;
let shown = null;

byId("rollback").addEventListener("click", () => {
  const { before } = shown;
  act("rollback", {}, "Roll back", `Version ${before} answers again. It is still loaded, so that this takes a second.`, `Version ${before} is the champion again.`);
});
await attempt(load);
// The gateway follows the champion by itself: see it happen.
setInterval(() => {
  if (shown && !document.hidden && !document.querySelector("dialog")) load().catch(() => {});
}, SECONDS * 1000);

async function load() {
  show(await get("/v1/models"));
}

function show(found) {
  if (JSON.stringify(found) === JSON.stringify(shown)) return; // nothing to move under a reader's hands
  shown = found;
  const champion = found.versions.find((each) => each.state === "champion")?.version;
  const asked = found.asked === null ? "no version answers here" : `version ${found.asked} answers here`;
  byId("asked").textContent = `${found.model}: ${asked}${champion !== undefined && champion !== found.asked ? `, and version ${champion} is about to` : ""}.`;
  byId("rollback").hidden = found.before === null;
  byId("rollback").textContent = `Roll back to version ${found.before}`;
  const rows = found.versions.map((each) => [`${each.version}`, badge(each.state, KINDS[each.state]), each.labels.join(", ") || "–", actions(each)]);
  byId("versions").replaceChildren(table("Versions", ["Version", "State", "Loaded as", "Change"], rows));
  const changes = found.history.map((each) => [moment(each.at), `${each.version}`, each.state, each.why || "–"]);
  byId("history").replaceChildren(table("How it came to that", ["Time", "Version", "Became", "Why"], changes));
}

function actions({ version, state }) {
  if (!["candidate", "canary"].includes(state)) return "–";
  const promote = element("button", { type: "button", className: "quiet", "aria-label": `Promote version ${version}` }, "Promote");
  promote.addEventListener("click", () => act("promote", { version }, `Promote version ${version}`, "It becomes the champion, which answers everybody. The one before stays loaded.", `Version ${version} is the champion.`));
  const retire = element("button", { type: "button", className: "quiet", "aria-label": `Retire version ${version}` }, "Retire");
  retire.addEventListener("click", () => act("retire", { version }, `Retire version ${version}`, "It is taken out for good.", `Version ${version} is retired.`));
  return element("div", { className: "actions" }, promote, retire);
}

async function act(what, body, title, sentence, told) {
  await attempt(async () => {
    const why = await confirmed(title, sentence, title);
    if (why === null) return;
    show(await post(`/v1/models/${what}`, { ...body, why }));
    say(told);
  });
}
