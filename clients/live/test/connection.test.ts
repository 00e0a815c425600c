import assert from "node:assert/strict";
import { test } from "node:test";

import { clock, eachAlone, open, page, server } from "./world.js";

eachAlone();

test("connects with the store in the address and the token in the first message", async () => {
  const { live, states } = await page();
  assert.equal(server.socket.url, "wss://edge.example/live?store_id=01STORE");
  assert.equal(server.socket.protocol, "meridian.live.v1");
  assert.deepEqual(server.socket.said, []);
  server.socket.accept();
  assert.deepEqual(server.socket.said, [{ type: "auth", token: "token 1" }]);
  assert.equal(live.state.status, "connecting");
  server.socket.welcome();
  assert.deepEqual(states, [{ status: "open", session: "s1", node: "edge/eu-1", user: "user:anne" }]);
});

test("waits longer after each failure, to a limit, and begins anew after a stable connection", async () => {
  const { states } = await page();
  const waits: number[] = [];
  for (let failure = 0; failure < 9; failure += 1) {
    server.socket.end(1006);
    const wait = remaining(states.at(-1));
    waits.push(wait);
    await clock.pass(wait);
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);

  server.socket.welcome();
  await clock.pass(9_000);
  server.socket.end(1001);
  assert.equal(remaining(states.at(-1)), 30_000, "an unstable connection changes nothing");
  await clock.pass(30_000);
  server.socket.welcome();
  await clock.pass(10_000);
  server.socket.end(1001);
  assert.equal(remaining(states.at(-1)), 500);
});

test("the whole wait is left to chance", async () => {
  const { states } = await page();
  clock.chance = 0.25;
  server.socket.end(1006);
  assert.equal(remaining(states.at(-1)), 125);
});

test("a server that is full, or has no such store, is left alone for longer", async () => {
  for (const code of [4429, 4503]) {
    const { live, states } = await page();
    clock.chance = 0;
    server.socket.end(code, "no room");
    assert.equal(remaining(states.at(-1)), 10_000);
    const sockets = server.sockets.length;
    live.wake();
    await clock.pass(9_999);
    assert.equal(server.sockets.length, sockets, "not even a wake changes that");
    await clock.pass(1);
    assert.equal(server.sockets.length, sockets + 1);
  }
});

test("gives up where trying again makes no sense", async () => {
  for (const code of [1009, 4400]) {
    const { live, states } = await open();
    const ends: unknown[] = [];
    const handle = live.subscribe("event:42", { onRecord: () => {}, onState: (state) => ends.push(state) });
    const sockets = server.sockets.length;
    server.socket.end(code, "never");
    assert.deepEqual(states.at(-1), { status: "closed", code, reason: "never" });
    assert.deepEqual(ends, [{ status: "ended", reason: "closed", code, message: "never" }]);
    await clock.pass(600_000);
    assert.equal(server.sockets.length, sockets);
    assert.throws(() => live.subscribe("event:1", { onRecord: () => {} }), /closed: never/);
    handle.unsubscribe();
  }
});

test("a refused token is replaced at once, but not for ever", async () => {
  const { states, whys } = await open();
  await clock.pass(60_000);
  server.socket.end(4401, "expired");
  await clock.pass(0);
  assert.deepEqual(whys, ["connect", "refused"]);
  server.socket.accept();
  assert.deepEqual(server.socket.said, [{ type: "auth", token: "token 2" }]);
  server.socket.end(4401);
  await clock.pass(1_000);
  assert.equal(server.sockets.length, 3);
  server.socket.end(4401, "expired");
  assert.deepEqual(states.at(-1), { status: "closed", code: 4401, reason: "expired" });
});

test("a token that cannot be had is asked for again", async () => {
  let asked = 0;
  const { live, states } = await page({
    token: async () => {
      asked += 1;
      if (asked === 1) throw new Error("the issuer is away");
      return "token";
    },
  });
  const state = states.at(-1);
  assert(state?.status === "waiting");
  assert.equal(state.reason, "no token: the issuer is away");
  assert.equal(server.sockets.length, 0);
  await clock.pass(500);
  server.socket.welcome();
  assert.equal(live.state.status, "open");
});

test("the token is renewed before it expires, on the open connection", async () => {
  const { live, whys } = await page();
  server.socket.welcome(300_000);
  await clock.pass(269_000);
  assert.deepEqual(whys, ["connect"]);
  await clock.pass(1_000);
  assert.deepEqual(whys, ["connect", "expiring"]);
  assert.deepEqual(server.socket.heard("auth").at(-1), { type: "auth", token: "token 2" });
  const states = live.state;
  server.socket.welcome(20_000);
  assert.equal(live.state, states, "that is no new connection");
  await clock.pass(10_000);
  assert.equal(whys.length, 3, "half of a short life");
  assert.equal(server.sockets.length, 1);
});

test("the server's word that the token expires counts, whatever this clock says", async () => {
  const { whys } = await page();
  server.socket.welcome(-5_000);
  await clock.pass(20_000);
  assert.deepEqual(whys, ["connect"]);
  server.socket.say({ type: "expiring", at: "2026-01-01T00:00:00Z" });
  server.socket.say({ type: "expiring", at: "2026-01-01T00:00:00Z" });
  await clock.pass(0);
  assert.deepEqual(whys, ["connect", "expiring"]);
});

test("a server that finds every token too short is not shown one after the other", async () => {
  const { whys } = await page();
  for (let time = 0; time < 3; time += 1) {
    server.socket.welcome(40_000);
    server.socket.say({ type: "expiring", at: "2026-01-01T00:00:00Z" });
    await clock.pass(4_999);
    assert.equal(whys.length, time + 1);
    await clock.pass(1);
    assert.equal(whys.length, time + 2);
  }
});

test("a renewal that fails is tried again", async () => {
  let fails = true;
  const { notices } = await page({
    token: async (why) => {
      if (why === "expiring" && fails) throw new Error("the issuer is away");
      return why;
    },
  });
  server.socket.welcome(60_000);
  await clock.pass(30_000);
  assert.deepEqual(notices, ["no token: the issuer is away"]);
  fails = false;
  await clock.pass(5_000);
  assert.deepEqual(server.socket.heard("auth").at(-1), { type: "auth", token: "expiring" });
});

test("a renewal that the server cannot verify now is tried again", async () => {
  const { notices, whys } = await page();
  server.socket.welcome(60_000);
  await clock.pass(30_000);
  server.socket.say({ type: "error", code: 503, message: "the issuer is away" });
  assert.deepEqual(notices, ["the server says 503: the issuer is away"]);
  await clock.pass(5_000);
  assert.deepEqual(whys, ["connect", "expiring", "expiring"]);
});

test("the server is asked for a sign of life whatever comes, and left when there is none", async () => {
  const { states } = await open();
  const { socket } = server;
  await clock.pass(9_999);
  socket.say({ type: "lagged", lost: 0 });
  assert.equal(socket.heard("ping").length, 0);
  await clock.pass(1);
  assert.equal(socket.heard("ping").length, 1);
  await clock.pass(30_000);
  assert.equal(socket.heard("ping").length, 4);
  assert.equal(states.at(-1)?.status, "open");

  socket.isMute = true;
  await clock.pass(19_999);
  assert.equal(states.at(-1)?.status, "open");
  await clock.pass(1);
  assert.equal(states.at(-1)?.status, "waiting");
  assert(socket.isClosed);
  socket.end(1006);
  await clock.pass(500);
  assert.equal(server.sockets.length, 2, "what the old one says late is not heard");
});

test("a server that takes the connection and says nothing is left too", async () => {
  const { states } = await page();
  server.socket.accept();
  await clock.pass(15_000);
  const state = states.at(-1);
  assert(state?.status === "waiting");
  assert.equal(state.reason, "no welcome in time");
});

test("a wake connects at once, and has an open connection prove itself", async () => {
  const { live, states } = await open();
  server.socket.end(1006);
  live.wake();
  await clock.pass(0);
  assert.equal(server.sockets.length, 2);
  live.wake();
  await clock.pass(0);
  assert.equal(server.sockets.length, 2, "one that is being made is left alone");
  server.socket.welcome();
  await clock.pass(1_000);
  server.socket.isMute = true;
  live.wake();
  assert.equal(server.socket.heard("ping").length, 1);
  await clock.pass(10_000);
  assert.equal(states.at(-1)?.status, "waiting");
});

test("close ends it for good", async () => {
  const { live, states } = await open();
  live.close();
  assert(server.socket.isClosed);
  assert.deepEqual(states.at(-1), { status: "closed", code: 1000, reason: "closed by the page" });
  live.wake();
  await clock.pass(600_000);
  assert.equal(server.sockets.length, 1);
});

test("what a page does when it hears of a state is done once, and closing then is closing", async () => {
  const said: string[] = [];
  const { live } = await page({
    onState: ({ status }) => {
      if (status === "open") live.subscribe(`event:${said.length}`, { onRecord: () => {} });
      if (status === "connecting") live.close();
      said.push(status);
    },
  });
  server.socket.welcome();
  assert.equal(server.socket.heard("subscribe").length, 1);
  server.socket.end(1001);
  await clock.pass(600_000);
  assert.deepEqual(said, ["open", "waiting", "closed", "connecting"]);
  assert.equal(live.state.status, "closed");
});

test("a token that comes after the close is not used", async () => {
  let give: (token: string) => void = () => {};
  const { live } = await page({ token: () => new Promise((resolve) => (give = resolve)) });
  live.close();
  give("late");
  await clock.pass(0);
  assert.equal(server.sockets.length, 0);
});

test("an address that the platform does not take ends it", async () => {
  const { states } = await page({
    WebSocket: class {
      constructor() {
        throw new Error("an insecure address on a secure page");
      }
    } as unknown as typeof WebSocket,
  });
  assert.deepEqual(states.at(-1), { status: "closed", code: 1006, reason: "an insecure address on a secure page" });
});

test("what is no JSON is a notice", async () => {
  const { notices, states } = await open();
  server.socket.onmessage?.({ data: "<html>" });
  assert.deepEqual(notices, ["the server sent what is no JSON: <html>"]);
  assert.equal(states.at(-1)?.status, "open");
});

function remaining(state: unknown): number {
  return (state as { retryAt: number }).retryAt - Date.now();
}
