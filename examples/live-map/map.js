/** The page: one connection, one subscription, and what is shown of both. */

import { connect } from "./client/index.js";

/** What the map shows of the earth, and where on the drawing. */
const NORTH = 52.55;
const SOUTH = 52.49;
const WEST = 13.3;
const EAST = 13.46;
const WIDTH = 1000;
const HEIGHT = 600;

const element = (id) => document.getElementById(id);
const vehicles = new Map();
let records = 0;

const settings = await (await fetch("settings.json")).json();
const live = connect({
  url: settings.url,
  storeId: settings.storeId,
  timing: settings.timing,
  token: async (why) => {
    const answer = await fetch(`token?why=${why}`);
    if (!answer.ok) throw new Error(`no token: ${answer.status}`);
    return answer.text();
  },
  onState: showConnection,
  onNotice: (error) => console.info(error.message),
});
subscribe();
element("again").onclick = subscribe;

function subscribe() {
  element("again").hidden = true;
  live.subscribe(settings.object, { last: true, conflate: true, onRecord: showRecord, onState: showSubscription });
}

/** Moves the vehicle that a record is about. */
function showRecord({ object, data }) {
  records += 1;
  element("records").textContent = records;
  const x = ((data.lon - WEST) / (EAST - WEST)) * WIDTH;
  const y = ((NORTH - data.lat) / (NORTH - SOUTH)) * HEIGHT;
  const vehicle = vehicles.get(object) ?? addVehicle(object);
  vehicle.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
  vehicle.classList.remove("stale");
}

function addVehicle(object) {
  const make = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const vehicle = make("g", { "data-vehicle": object });
  const label = make("text", { y: 5 });
  label.textContent = object.split(":").at(-1);
  vehicle.append(make("circle", { r: 16 }), label);
  element("vehicles").append(vehicle);
  vehicles.set(object, vehicle);
  return vehicle;
}

function showConnection(state) {
  const texts = {
    connecting: () => "connecting",
    open: () => `connected to ${state.node} as ${state.user}`,
    waiting: () => `no connection (${state.code} ${state.reason}), again in ${seconds(state.retryAt)} s`,
    closed: () => `closed (${state.code} ${state.reason})`,
  };
  show("connection", state.status, texts[state.status]());
}

function showSubscription(state) {
  const texts = {
    waiting: () => `${settings.object}: waiting ${state.reason ?? ""}`,
    live: () => `${settings.object}: live`,
    ended: () => `${settings.object}: ${state.reason} ${state.message ?? ""}`,
  };
  show("subscription", state.status, texts[state.status]());
  if (state.status === "live") element("gap").hidden = state.recovered !== false;
  else vehicles.forEach((vehicle) => vehicle.classList.add("stale"));
  element("again").hidden = state.status !== "ended" || live.state.status === "closed";
}

function show(id, status, text) {
  element(id).dataset.status = status;
  element(id).textContent = text;
}

function seconds(at) {
  return Math.max(0, Math.ceil((at - Date.now()) / 1000));
}
