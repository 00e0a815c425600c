/** A clock that stands still, and a server that says what a test has it say. */

import assert from "node:assert/strict";
import { afterEach, beforeEach } from "node:test";

import { connect, type ConnectionState, type ConnectOptions, type Live, type Why } from "../src/index.js";
import type { FromClient, FromServer } from "../src/protocol.js";

interface Due {
  at: number;
  what: () => void;
}

const real = { setTimeout, clearTimeout, now: Date.now, random: Math.random };

/** Time, and chance: by default each backoff is the longest. */
class Clock {
  private now = 1_000_000;
  private ids = 0;
  private readonly due = new Map<number, Due>();
  chance = 1;

  install(): void {
    Object.assign(globalThis, {
      setTimeout: (what: () => void, wait = 0) => {
        this.due.set(++this.ids, { at: this.now + wait, what });
        return this.ids;
      },
      clearTimeout: (id: number) => this.due.delete(id),
    });
    Date.now = () => this.now;
    Math.random = () => this.chance;
  }

  uninstall(): void {
    Object.assign(globalThis, { setTimeout: real.setTimeout, clearTimeout: real.clearTimeout });
    Date.now = real.now;
    Math.random = real.random;
  }

  /** How many wait. */
  get waiting(): number {
    return this.due.size;
  }

  /** Lets this many milliseconds pass, and all that falls due in them happen. */
  async pass(ms: number): Promise<void> {
    const end = this.now + ms;
    for (;;) {
      await settled();
      const next = [...this.due].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!next) break;
      const [id, { at, what }] = next;
      this.due.delete(id);
      this.now = Math.max(this.now, at);
      what();
    }
    this.now = end;
    await settled();
  }
}

/** All promises that can be kept without time passing are. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** One connection as the server sees it. */
export class Socket {
  readonly said: FromClient[] = [];
  readyState = 0;
  isClosed = false;
  /** Does not answer pings. */
  isMute = false;
  /** What its answers to pings tell. */
  position: string | undefined;
  onopen: (() => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {
    server.sockets.push(this);
  }

  // The page's side.
  send(text: string): void {
    const message = JSON.parse(text) as FromClient;
    this.said.push(message);
    if (message.type !== "ping" || this.isMute) return;
    this.say({ type: "pong", ...(this.position !== undefined && { position: this.position }) });
  }

  close(): void {
    this.readyState = 2;
    this.isClosed = true;
  }

  // The server's side.
  accept(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  say(message: FromServer): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  welcome(lifetime?: number): void {
    if (this.readyState === 0) this.accept();
    this.say({
      type: "welcome",
      session: `s${server.sockets.length}`,
      node: "edge/eu-1",
      user: "user:anne",
      ...(lifetime !== undefined && { expires_at: new Date(Date.now() + lifetime).toISOString() }),
    });
  }

  end(code: number, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** What it said of one kind. */
  heard<K extends FromClient["type"]>(type: K): (FromClient & { type: K })[] {
    return this.said.filter((message): message is FromClient & { type: K } => message.type === type);
  }
}

class Server {
  sockets: Socket[] = [];

  /** The newest connection. */
  get socket(): Socket {
    const socket = this.sockets.at(-1);
    assert(socket, "nobody has connected");
    return socket;
  }
}

export let clock: Clock;
export let server: Server;
let lives: Live[];

/** Has each test begin with nothing, and leave nothing behind. */
export function eachAlone(): void {
  beforeEach(() => {
    server = new Server();
    lives = [];
    clock = new Clock();
    clock.install();
  });
  afterEach(() => {
    lives.forEach((live) => live.close());
    const { waiting } = clock;
    clock.uninstall();
    assert.equal(waiting, 0, "a closed connection has timers");
  });
}

export interface Page {
  readonly live: Live;
  readonly states: ConnectionState[];
  readonly notices: string[];
  readonly whys: Why[];
}

/** A page that connects; nobody has answered yet. */
export async function page(options: Partial<ConnectOptions> = {}): Promise<Page> {
  const states: ConnectionState[] = [];
  const notices: string[] = [];
  const whys: Why[] = [];
  const live = connect({
    url: "https://edge.example/live",
    storeId: "01STORE",
    token: (why) => {
      whys.push(why);
      return `token ${whys.length}`;
    },
    onState: (state) => states.push(state),
    onNotice: (error) => notices.push(error.message),
    WebSocket: Socket as unknown as typeof WebSocket,
    ...options,
  });
  lives.push(live);
  await clock.pass(0);
  return { live, states, notices, whys };
}

/** A page that is let in. */
export async function open(options: Partial<ConnectOptions> = {}): Promise<Page> {
  const made = await page(options);
  server.socket.welcome();
  return made;
}
