/**
 * Serves the page, and drives vehicles around: `node examples/live-map/run.mjs`.
 *
 * Options: `--api URL` of a node's HTTP (default http://127.0.0.1:8080), `--live URL` of the node that the page connects to (default
 * http://127.0.0.1:8100), `--port PORT` of the page (default 8200).
 */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    api: { type: "string", default: "http://127.0.0.1:8080" },
    live: { type: "string", default: "http://127.0.0.1:8100" },
    port: { type: "string", default: "8200" },
  },
});
const OBJECT = "event:42";
const USER = "anne";
const PERMISSION = { user: `user:${USER}`, relation: "can_watch", object: OBJECT };
const STEP_MS = 200;

const page = `http://127.0.0.1:${options.port}`;

let isAllowed = true;
const files = {
  "/": "index.html",
  "/map.css": "map.css",
  "/map.js": "map.js",
};
const documents = {
  "/settings.json": () => ({ url: new URL("/live", options.live).href, storeId, object: OBJECT }),
};
const types = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript" };

const storeId = await prepare();
createServer((request, response) => {
  answer(request, response).catch((error) => response.writeHead(500).end(String(error)));
}).listen(Number(options.port), "127.0.0.1");
drive();
console.log(`The map: ${page}/   store ${storeId}, ${OBJECT}`);
console.log("Enter takes the permission away, and gives it back. Ctrl-C ends.");
process.stdin.on("data", async () => {
  await write(isAllowed ? "deletes" : "writes");
  isAllowed = !isAllowed;
  console.log(isAllowed ? `${USER} may watch ${OBJECT} again` : `${USER} may not watch ${OBJECT} any longer`);
});

async function answer(request, response) {
  const { pathname } = new URL(request.url, page);
  if (documents[pathname]) return send(response, "application/json", JSON.stringify(documents[pathname]()));
  // Where nobody shows who they are, as with `cargo xtask dev`, a token is its user's name. A real page asks its login for a JWT.
  if (pathname === "/token") return send(response, "text/plain", USER);
  const client = pathname.match(/^\/client\/([a-z]+\.js)$/)?.[1];
  const file = client ? `../../clients/live/dist/${client}` : files[pathname];
  if (!file) return response.writeHead(404).end();
  const content = await readFile(new URL(file, import.meta.url));
  return send(response, types[extname(file)], content);
}

function send(response, type, content) {
  response.writeHead(200, { "content-type": type, "cache-control": "no-store" }).end(content);
}

/** A store of its own, in which events have watchers. */
async function prepare() {
  const { id } = await call("/stores", { name: "live-map" });
  await call(`/stores/${id}/authorization-models`, {
    schema_version: "1.1",
    type_definitions: [
      { type: "user" },
      {
        type: "event",
        relations: { can_watch: { this: {} } },
        metadata: { relations: { can_watch: { directly_related_user_types: [{ type: "user" }] } } },
      },
    ],
  });
  await call(`/stores/${id}/write`, { writes: { tuple_keys: [PERMISSION] } });
  return id;
}

function write(what) {
  return call(`/stores/${storeId}/write`, { [what]: { tuple_keys: [PERMISSION] } });
}

/** Twelve vehicles on circles of their own, as records of themselves that belong to the event. */
function drive() {
  setInterval(async () => {
    const at = Date.now() / 1000;
    const records = Array.from({ length: 12 }, (_, index) => {
      const angle = at / (3 + index) + index;
      const data = {
        lat: 52.52 + (0.006 + 0.0015 * index) * Math.sin(angle),
        lon: 13.38 + (0.02 + 0.004 * index) * Math.cos(angle),
      };
      return { object: `vehicle:${index + 1}`, objects: [OBJECT], data };
    });
    await call(`/stores/${storeId}/live/publish`, { records }).catch((error) => console.error(error.message));
  }, STEP_MS);
}

async function call(path, body) {
  const response = await fetch(new URL(path, options.api), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  }).catch((error) => {
    throw new Error(`no answer from ${options.api} (${error.cause ?? error}): is a node running there?`);
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`POST ${path}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : {};
}
