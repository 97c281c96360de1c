// The gateway's API, with the key of whoever looks: kept for this tab alone, and sent with each call.
import { element, problem } from "/console/static/page.js";

const KEPT = "belfry-key";
let asking = null;
let declined = false; // who has said no once is not asked again by every call that follows

document.getElementById("key").addEventListener("click", () => askKey("").then((given) => given && location.reload()));

/** Calls the API. Asks for a key where one is needed; what is refused otherwise is an Error with the API's sentence. */
export async function call(method, path, body) {
  for (;;) {
    const key = sessionStorage.getItem(KEPT);
    const answer = await send(method, path, body, key);
    if (answer.status !== 401) return answer;
    if (key && sessionStorage.getItem(KEPT) === key) sessionStorage.removeItem(KEPT);
    else if (sessionStorage.getItem(KEPT)) continue; // another call was given a key meanwhile
    if (declined || !(await askKey(key ? "The gateway does not know this key: it is wrong, or revoked." : ""))) return answer;
  }
}

/** The JSON of an answer. */
export async function json(method, path, body) {
  const answer = await call(method, path, body);
  const content = await answer.json().catch(() => ({ error: `The gateway answered with status ${answer.status}.` }));
  if (!answer.ok) throw Object.assign(new Error(content.error), { status: answer.status });
  return content;
}

export const get = (path) => json("GET", path);
export const post = (path, body) => json("POST", path, body);

/** An address with a query; a list is repeated. */
export function address(path, query) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) for (const each of [value].flat()) parts.append(name, each);
  return `${path}?${parts}`;
}

/** Items by id, as a Map; what the store does not have is not in it. */
export async function itemsOf(ids) {
  const found = new Map();
  const wanted = [...new Set(ids)];
  for (let start = 0; start < wanted.length; start += 100) {
    const { items } = await get(address("/v1/items", { item_id: wanted.slice(start, start + 100) }));
    for (const item of items) found.set(item.item_id, item);
  }
  return found;
}

/** Runs what a reader asked for, and tells what went wrong. */
export async function attempt(work) {
  problem("");
  try {
    return await work();
  } catch (error) {
    problem(error.message);
    return undefined;
  }
}

async function send(method, path, body, key) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The gateway gives no answer.");
  }
}

// One dialog, however many calls wait for a key.
function askKey(why) {
  asking ??= new Promise((resolve) => {
    const field = element("input", { id: "key-field", type: "password", autocomplete: "off", required: true });
    const told = element("p", { id: "key-told", className: "problem", role: "alert", hidden: !why }, why);
    const form = element("form", { className: "stack", method: "dialog" },
      element("h2", { id: "key-title" }, "Key"),
      element("p", {}, "The gateway's API asks for a key, such as belfry keys create makes. It stays in this tab."),
      told,
      element("div", {}, element("label", { htmlFor: "key-field" }, "API key"), field),
      element("div", { className: "bar" },
        element("button", { type: "submit" }, "Use key"),
        element("button", { type: "button", className: "quiet", id: "key-cancel" }, "Cancel")));
    const dialog = element("dialog", { "aria-labelledby": "key-title" }, form);
    let given = false;
    form.addEventListener("submit", () => {
      sessionStorage.setItem(KEPT, field.value.trim());
      given = true;
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      asking = null;
      declined = !given;
      resolve(given);
    });
    document.body.append(dialog);
    document.getElementById("key-cancel").addEventListener("click", () => dialog.close());
    dialog.showModal();
  });
  return asking;
}
