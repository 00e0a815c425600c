import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, type LiveRecord, type SubscribeOptions, type SubscriptionState } from "../src/index.js";
import { clock, eachAlone, open, page, server, type Page } from "./world.js";

eachAlone();

test("what is subscribed to before there is a connection is asked for once there is one", async () => {
  const made = await page();
  const { handle } = subscribe(made, "event:42", { last: true, conflate: true, filter: { kind: ["bus", "tram"] } });
  server.socket.accept();
  assert.equal(server.socket.heard("subscribe").length, 0);
  server.socket.welcome();
  const asked = { type: "subscribe", id: "1", object: "event:42", last: true, conflate: true };
  assert.deepEqual(server.socket.heard("subscribe"), [{ ...asked, filter: { kind: ["bus", "tram"] } }]);
  assert.deepEqual(handle.state, { status: "waiting" });
});

test("records come once the server has said so, each to its own", async () => {
  const made = await open();
  const event = subscribe(made, "event:42");
  const other = subscribe(made, "event:43");
  answer("1", "p0");
  answer("2", "p0");
  server.socket.say(record("event:42", "p1", { speed: 7 }));
  assert.deepEqual(event.data, [{ speed: 7 }]);
  assert.deepEqual(other.data, []);
  assert.deepEqual(event.states, [{ status: "live" }]);
  assert.equal(event.handle.position, "p1");
});

test("a record reaches its object, all of that object's type, and what else it belongs to, each once", async () => {
  const made = await open();
  const all = ["event:42", "event:*", "organization:acme"].map((object) => subscribe(made, object));
  all.forEach((_, index) => answer(String(index + 1)));
  server.socket.say(record("event:42", "p1", 1, ["organization:acme", "stage:1", "event:42"]));
  assert.deepEqual(
    all.map(({ data }) => data),
    [[1], [1], [1]],
  );
});

test("what is held of a whole type is not passed by a record that only names an object of that type", async () => {
  const made = await open();
  const events = subscribe(made, "event:*");
  const organization = subscribe(made, "organization:1");
  answer("1", "p0");
  answer("2", "p0");
  // The server holds p1, of event:5, until it knows what holds of `event:*`. This one does not belong to that.
  server.socket.say(record("vehicle:1", "p2", "passes", ["organization:1", "event:7"]));
  assert.deepEqual([events.data, organization.data], [[], ["passes"]]);
  assert.deepEqual([events.handle.position, organization.handle.position], ["p0", "p2"]);
  server.socket.end(1006);
  await clock.pass(500);
  server.socket.welcome();
  assert.deepEqual(
    server.socket.heard("subscribe").map(({ object, position }) => [object, position]),
    [
      ["event:*", "p0"],
      ["organization:1", "p2"],
    ],
  );
  answer("1", "p0", true);
  server.socket.say({ ...record("event:5", "p1", "held"), id: "1" });
  assert.deepEqual(events.data, ["held"]);
});

test("a filter holds also where another subscription brings the record", async () => {
  const made = await open();
  const all = subscribe(made, "event:*");
  const buses = subscribe(made, "event:42", { filter: { kind: "bus", line: [1, 2] } });
  answer("1");
  answer("2");
  const vehicles = [
    { kind: "bus", line: 2 },
    { kind: "bus", line: 3 },
    { kind: "tram", line: 1 },
    { kind: "bus" },
    null,
  ];
  vehicles.forEach((vehicle, index) => server.socket.say(record("event:42", `p${index}`, vehicle)));
  assert.equal(all.data.length, 5);
  assert.deepEqual(buses.data, [{ kind: "bus", line: 2 }]);

  const unnamed = subscribe(made, "event:43", { filter: { driver: null } });
  answer("3");
  for (const driver of [null, undefined, "anne"]) server.socket.say(record("event:43", `q${driver}`, { driver }));
  assert.deepEqual(unnamed.data, [{ driver: null }, {}]);
});

test("many subscriptions are taken up again without saying too much at once", async () => {
  const made = await open();
  for (let id = 0; id < 100; id += 1) subscribe(made, `event:${id}`);
  assert.equal(server.socket.said.length, 40);
  await clock.pass(1_000);
  assert.equal(server.socket.said.length, 80);
  server.socket.end(1001);
  await clock.pass(500);
  server.socket.welcome();
  await clock.pass(3_000);
  assert.equal(server.socket.heard("subscribe").length, 100);
});

test("a node that allows less is told less at once, and a renewed token all the same", async () => {
  const made = await open({ messagesPerSecond: 10 });
  for (let id = 0; id < 100; id += 1) subscribe(made, `event:${id}`);
  await clock.pass(1_000);
  server.socket.end(1001);
  await clock.pass(1_000);
  server.socket.welcome(12_000);
  assert.equal(server.socket.said.length, 10);
  for (let second = 1; second <= 6; second += 1) {
    await clock.pass(1_000);
    assert.equal(server.socket.said.length, (second + 1) * 10);
  }
  assert.equal(server.socket.heard("auth").length, 2, "the token does not wait for all subscriptions to be taken up");
  await clock.pass(5_000);
  assert.equal(server.socket.heard("subscribe").length, 100);
});

test("how much may be said is a number, and not none", () => {
  for (const messagesPerSecond of [0, -1, 0.5, NaN]) {
    assert.throws(
      () => connect({ url: "wss://edge.example/live", token: () => "token", messagesPerSecond }),
      new RangeError(`messagesPerSecond is ${messagesPerSecond}: give at least 1, and less than the node's own`),
    );
  }
});

test("a new connection goes on from the last position, and recovers", async () => {
  const made = await open();
  const { handle, states, data } = subscribe(made, "event:42", { last: true });
  answer("1", "p1");
  server.socket.say(record("event:42", "p1", "a"));
  server.socket.say(record("event:42", "p2", "b"));
  server.socket.end(1001);
  assert.deepEqual(handle.state, { status: "waiting" });
  await clock.pass(500);
  server.socket.welcome();
  assert.deepEqual(server.socket.heard("subscribe"), [
    { type: "subscribe", id: "1", object: "event:42", position: "p2", last: true },
  ]);
  answer("1", "p2", true);
  server.socket.say(record("event:42", "p2", "b"));
  server.socket.say(record("event:42", "p3", "c"));
  assert.deepEqual(states, [{ status: "live" }, { status: "waiting" }, { status: "live", recovered: true }]);
  assert.deepEqual(data, ["a", "b", "c"], "the last one again is not told again");
});

test("a quiet subscription goes on from where the server last said that it was told everything", async () => {
  const made = await open();
  const quiet = subscribe(made, "event:42");
  const waits = subscribe(made, "event:43");
  answer("1", "p1");
  server.socket.position = "p7";
  await clock.pass(10_000);
  assert.equal(quiet.handle.position, "p7");
  assert.equal(waits.handle.position, undefined, "what is not live yet was told nothing");
  server.socket.position = undefined;
  await clock.pass(10_000);
  assert.equal(quiet.handle.position, "p7", "the server cannot say now");
  server.socket.end(1001);
  await clock.pass(500);
  server.socket.welcome();
  assert.deepEqual(
    server.socket.heard("subscribe").map(({ id, position }) => [id, position]),
    [
      ["1", "p7"],
      ["2", undefined],
    ],
  );
  // Nothing was missed: it stands where the server stands.
  answer("1", "p9", true);
  assert.equal(quiet.handle.position, "p9");
});

test("what one subscription missed is no other's", async () => {
  const made = await open();
  const back = subscribe(made, "event:1", { position: "p0" });
  const shared = subscribe(made, "organization:1");
  answer("1", "p0", true);
  answer("2", "p9");
  server.socket.say({ ...record("event:1", "p3", "missed", ["organization:1"]), id: "1" });
  server.socket.say({ ...record("event:1", "p3", "missed", ["organization:1"]), id: "7" });
  assert.deepEqual([back.data, shared.data], [["missed"], []]);
  assert.deepEqual([back.handle.position, shared.handle.position], ["p3", "p9"]);
});

test("what is told after a subscription has ended is not its own, and leaves its position as it is", async () => {
  const made = await open();
  const held = subscribe(made, "event:1");
  const shared = subscribe(made, "organization:1");
  answer("1", "p1");
  answer("2", "p1");
  // What was held of the first was dropped; what comes behind that is told by the second alone.
  server.socket.say({ type: "unsubscribed", id: "1", reason: "authority_unreachable" });
  server.socket.say(record("event:1", "p3", "c", ["organization:1"]));
  assert.deepEqual([held.data, shared.data], [[], ["c"]]);
  assert.deepEqual([held.handle.position, shared.handle.position], ["p1", "p3"]);
});

test("the last record of before does not lead back", async () => {
  const made = await open();
  const { handle, data } = subscribe(made, "event:42", { last: true });
  answer("1", "p5");
  server.socket.say(record("event:42", "p1", "old"));
  assert.equal(handle.position, "p5");
  server.socket.say(record("event:42", "p6", "new"));
  assert.equal(handle.position, "p6");
  assert.deepEqual(data, ["old", "new"]);
});

test("a gap is told, and what follows goes on from there", async () => {
  const made = await open();
  const { handle, states } = subscribe(made, "event:42");
  answer("1", "p1");
  server.socket.end(1006);
  await clock.pass(500);
  server.socket.welcome();
  answer("1", "p9", false);
  assert.deepEqual(states.at(-1), { status: "live", recovered: false });
  assert.equal(handle.position, "p9");
});

test("without a position there is no telling what was missed", async () => {
  const made = await open();
  const { states } = subscribe(made, "event:42");
  answer("1");
  server.socket.end(1006);
  await clock.pass(500);
  server.socket.welcome();
  answer("1");
  assert.deepEqual(states.at(-1), { status: "live", recovered: false });
});

test("a position kept from before is gone on from", async () => {
  const made = await open();
  subscribe(made, "event:42", { position: "p7" });
  assert.equal(server.socket.heard("subscribe")[0]?.position, "p7");
});

test("a denial ends the subscription and says what was denied", async () => {
  const made = await open();
  const { states } = subscribe(made, "event:42");
  const denied = { user: "user:anne", relation: "can_watch", object: "event:42" };
  server.socket.say({ type: "error", id: "1", code: 403, message: "no", denied });
  assert.deepEqual(states, [{ status: "ended", reason: "denied", code: 403, message: "no", denied }]);
  server.socket.end(1001);
  await clock.pass(500);
  server.socket.welcome();
  assert.equal(server.socket.heard("subscribe").length, 0, "it is not asked for again");
});

test("what makes no sense ends the subscription, and the object is free again", async () => {
  const made = await open();
  for (const code of [400, 404, 409, 413]) {
    const { states } = subscribe(made, "event:42");
    const id = server.socket.heard("subscribe").at(-1)?.id ?? "";
    server.socket.say({ type: "error", id, code, message: "no" });
    assert.deepEqual(states, [{ status: "ended", reason: "refused", code, message: "no" }]);
  }
});

test("what passes is asked for again, after longer each time", async () => {
  const made = await open();
  const { states } = subscribe(made, "event:42");
  const waits = [];
  for (let times = 1; times <= 3; times += 1) {
    server.socket.say({ type: "error", id: "1", code: 503, message: "the authority is away" });
    const from = Date.now();
    while (server.socket.heard("subscribe").length === times) await clock.pass(100);
    waits.push(Date.now() - from);
  }
  assert.deepEqual(waits, [1000, 1500, 2500]);
  assert.deepEqual(states.at(-1), { status: "waiting", reason: "the authority is away" });
  answer("1");
  server.socket.say({ type: "unsubscribed", id: "1", reason: "authority_unreachable" });
  assert.deepEqual(states.at(-1), { status: "waiting", reason: "authority_unreachable" });
  await clock.pass(1_000);
  assert.equal(server.socket.heard("subscribe").length, 5);
});

test("a revocation ends the subscription, and nothing more is told", async () => {
  const made = await open();
  const { states, data } = subscribe(made, "event:42");
  answer("1");
  server.socket.say({ type: "unsubscribed", id: "1", reason: "revoked" });
  server.socket.say(record("event:42", "p1", "late"));
  assert.deepEqual(states, [{ status: "live" }, { status: "ended", reason: "revoked" }]);
  assert.deepEqual(data, []);
});

test("who hears of the end may subscribe anew", async () => {
  const made = await open();
  let again = 0;
  subscribe(made, "event:42", {
    onState: (state) => {
      if (state.status === "ended") again = subscribe(made, "event:42").states.length + 1;
    },
  });
  server.socket.say({ type: "unsubscribed", id: "1", reason: "revoked" });
  assert.equal(again, 1);
  assert.deepEqual(
    server.socket.heard("subscribe").map(({ id }) => id),
    ["1", "2"],
  );
});

test("unsubscribe says so, once, and is told nothing more", async () => {
  const made = await open();
  const { handle, states, data } = subscribe(made, "event:42");
  answer("1");
  handle.unsubscribe();
  handle.unsubscribe();
  server.socket.say(record("event:42", "p1", "late"));
  server.socket.say({ type: "unsubscribed", id: "1", reason: "asked" });
  assert.deepEqual(server.socket.heard("unsubscribe"), [{ type: "unsubscribe", id: "1" }]);
  assert.deepEqual(states, [{ status: "live" }, { status: "ended", reason: "asked" }]);
  assert.deepEqual(data, []);
});

test("an object is subscribed to once", async () => {
  const made = await open();
  subscribe(made, "event:42");
  assert.throws(() => subscribe(made, "event:42"), /there is a subscription to event:42 already/);
});

test("a slow page is told what it lost", async () => {
  const made = await open();
  server.socket.say({ type: "lagged", lost: 17 });
  server.socket.end(4508, "slow");
  assert.deepEqual(made.notices, ["too slow: the server has dropped 17 records"]);
  assert.equal(made.live.state.status, "waiting");
});

test("errors that are of no subscription are notices", async () => {
  const made = await open();
  server.socket.say({ type: "error", code: 429, message: "too many messages" });
  assert.deepEqual(made.notices, ["the server says 429: too many messages"]);
});

test("what a page's function throws is the page's to see, and breaks nothing", async () => {
  const made = await open();
  const thrown: unknown[] = [];
  globalThis.reportError = (error) => thrown.push(error);
  subscribe(made, "event:*", {
    onRecord: () => {
      throw new Error("of the page");
    },
  });
  const other = subscribe(made, "event:42");
  answer("1");
  answer("2");
  server.socket.say(record("event:42", "p1", 1));
  assert.deepEqual(other.data, [1]);
  assert.deepEqual(thrown, [new Error("of the page")]);
});

function subscribe(made: Page, object: string, options: Partial<SubscribeOptions> = {}) {
  const states: SubscriptionState[] = [];
  const data: unknown[] = [];
  const handle = made.live.subscribe(object, {
    onRecord: (record: LiveRecord) => data.push(record.data),
    onState: (state) => states.push(state),
    ...options,
  });
  return { handle, states, data };
}

function answer(id: string, position?: string, recovered?: boolean): void {
  server.socket.say({
    type: "subscribed",
    id,
    object: "as asked",
    ...(position !== undefined && { position }),
    ...(recovered !== undefined && { recovered }),
  });
}

function record(object: string, position: string, data: unknown, objects?: string[]) {
  const at = "2026-01-01T00:00:00Z";
  return { type: "record", object, position, at, data, ...(objects && { objects }) } as const;
}
