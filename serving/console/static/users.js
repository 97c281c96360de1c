// Users to pick from: those who were active last.
import { address, get } from "/console/static/api.js";
import { byId, element } from "/console/static/page.js";

/** Fills the list behind a field, and keeps it to what is typed; gives the latest. */
export async function offerUsers(field, list) {
  const fill = async (prefix) => {
    const { users } = await get(address("/v1/users", { prefix, limit: 20 }));
    byId(list).replaceChildren(...users.map((each) => element("option", { value: each.user_id })));
    return users;
  };
  let waiting = 0;
  byId(field).addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => fill(event.target.value.trim()).catch(() => {}), 200);
  });
  return fill("");
}
