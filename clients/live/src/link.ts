import { backoff } from "./backoff.js";
import { PROTOCOL, remedy, type FromClient, type FromServer, type Remedy } from "./protocol.js";

/** Why a token is asked for. `refused`: the server did not take the last one, so one kept from before will not do. */
export type Why = "connect" | "expiring" | "refused";

/** How the connection stands. */
export type ConnectionState =
  | { readonly status: "connecting" }
  | { readonly status: "open"; readonly session: string; readonly node: string; readonly user: string }
  /** Lost, or refused; tried again at `retryAt`, in milliseconds since 1970. */
  | { readonly status: "waiting"; readonly retryAt: number; readonly code: number; readonly reason: string }
  /** For good: `close()` was called, or trying again makes no sense. */
  | { readonly status: "closed"; readonly code: number; readonly reason: string };

/** Times in milliseconds. */
export interface Timing {
  /** The longest first wait before connecting again; it doubles with each failure. 500. */
  readonly backoffBase: number;
  /** The longest wait before connecting again. 30,000. */
  readonly backoffMost: number;
  /** The shortest wait where the server is full or cannot say who this is (4429, 4503). 10,000. */
  readonly later: number;
  /** How long a connection lasts until the failures before it are forgotten. 10,000. */
  readonly stableAfter: number;
  /** How long it may take to get a token, to connect and to be let in, together. 15,000. */
  readonly connectWithin: number;
  /** How often the server is asked for a sign of life, and up to where everything was told. 10,000. */
  readonly pingEvery: number;
  /** How long nothing may come from it then. 10,000. */
  readonly pongWithin: number;
  /** How long before the token expires the next is asked for; at most half of what is left. 30,000. */
  readonly refreshBefore: number;
}

export const TIMING: Timing = {
  backoffBase: 500,
  backoffMost: 30_000,
  later: 10_000,
  stableAfter: 10_000,
  connectWithin: 15_000,
  pingEvery: 10_000,
  pongWithin: 10_000,
  refreshBefore: 30_000,
};

/** Four fifths of what a node allows unless it is told otherwise (`live.messagesPerSecond`). */
export const MESSAGES_PER_SECOND = 40;

export interface LinkOptions {
  readonly url: string;
  readonly token: (why: Why) => string | Promise<string>;
  readonly WebSocket: typeof WebSocket;
  readonly timing: Timing;
  /** How much is said in a second, however many subscriptions there are to take up again. At least 1. */
  readonly messagesPerSecond: number;
}

/** Whom a link tells. None of these may throw. */
export interface Ears {
  state(state: ConnectionState): void;
  /** Let in; what was said before has to be said again. */
  welcome(): void;
  message(message: FromServer): void;
  /** Worth knowing, and dealt with. */
  notice(error: Error): void;
}

/** `refused` tokens in a row after which another is not asked for. */
const REFUSALS = 3;
/** The longest time that `setTimeout` takes. */
const LONGEST = 2 ** 31 - 1;
const SHORTEST_REFRESH = 1_000;
/** The time between two tokens that a server finds too short, or that were not to be had. */
const RETRY_REFRESH = 5_000;

/** Closes of this side's making; the browser's own for "lost without a word" is 1006. */
const LOST = 1006;
const NORMAL = 1000;

type Timer = "retry" | "deadline" | "ping" | "refresh" | "send";

/** One connection, made again until it is closed or cannot be had. */
export class Link {
  state: ConnectionState = { status: "connecting" };
  private socket: WebSocket | undefined;
  /** Grows with each connection, so that what was begun for one before is known as late. */
  private turn = 0;
  private attempt = 0;
  private refusals = 0;
  private why: Why = "connect";
  private openSince: number | undefined;
  private heardAt = 0;
  private shownAt = 0;
  private isRefreshing = false;
  private refreshAt = 0;
  private unsent: FromClient[] = [];
  private secondBegan = 0;
  private sentInSecond = 0;
  private readonly timers = new Map<Timer, ReturnType<typeof setTimeout>>();

  constructor(
    private readonly options: LinkOptions,
    private readonly ears: Ears,
  ) {}

  get isOpen(): boolean {
    return this.state.status === "open";
  }

  connect(): void {
    const turn = this.begin();
    this.after("deadline", this.options.timing.connectWithin, () => this.lose(LOST, "no welcome in time"));
    this.ask(this.why)
      .then(
        (token) => turn === this.turn && this.open(token),
        (error: unknown) => turn === this.turn && this.lose(LOST, `no token: ${text(error)}`),
      )
      // Such as an insecure address on a secure page.
      .catch((error: unknown) => this.close(LOST, text(error)));
    if (this.state.status !== "connecting") this.set({ status: "connecting" });
  }

  /** Says it, now or soon; where there is no connection it is lost. */
  send(message: FromClient): void {
    this.unsent.push(message);
    this.flush();
  }

  /** Something speaks for a working network: does not wait any longer, and has an open connection prove itself. */
  wake(): void {
    if (this.state.status === "waiting" && remedy(this.state.code) !== "later") this.connect();
    else if (this.isOpen) this.ping();
  }

  close(code = NORMAL, reason = "closed by the page"): void {
    this.begin();
    this.set({ status: "closed", code, reason });
  }

  private async ask(why: Why): Promise<string> {
    return this.options.token(why);
  }

  private open(token: string): void {
    const socket = new this.options.WebSocket(this.options.url, PROTOCOL);
    this.socket = socket;
    socket.onopen = () => this.show(token);
    socket.onclose = (event) => this.lose(event.code, event.reason);
    socket.onmessage = (event) => this.hear(event.data);
  }

  private flush(): void {
    const socket = this.socket?.readyState === 1 ? this.socket : undefined;
    if (!socket) {
      this.unsent = [];
      return;
    }
    const now = Date.now();
    if (now - this.secondBegan >= 1_000) {
      this.secondBegan = now;
      this.sentInSecond = 0;
    }
    const sent = this.unsent.splice(0, this.options.messagesPerSecond - this.sentInSecond);
    this.sentInSecond += sent.length;
    for (const message of sent) socket.send(JSON.stringify(message));
    if (this.unsent.length > 0) this.after("send", this.secondBegan + 1_000 - now, () => this.flush());
  }

  private show(token: string): void {
    this.shownAt = Date.now();
    // In front of subscriptions that wait: without it the connection ends before they are all taken up.
    this.unsent.unshift({ type: "auth", token });
    this.flush();
  }

  private hear(data: unknown): void {
    this.heardAt = Date.now();
    let message: FromServer;
    try {
      message = JSON.parse(String(data)) as FromServer;
    } catch {
      return this.ears.notice(new Error(`the server sent what is no JSON: ${String(data).slice(0, 100)}`));
    }
    if (message.type === "welcome") this.welcomed(message);
    else if (message.type === "expiring") this.refreshIn(this.shownAt + RETRY_REFRESH - Date.now());
    else {
      if (message.type === "error" && message.id === undefined && this.isRefreshing) this.refreshAgain();
      this.ears.message(message);
    }
  }

  /** The first welcome opens; a later one answers a refresh. */
  private welcomed({ session, node, user, expires_at }: FromServer & { type: "welcome" }): void {
    this.isRefreshing = false;
    this.why = "connect";
    this.clear("refresh");
    if (expires_at) this.refreshBefore(Date.parse(expires_at) - Date.now());
    if (this.isOpen) return;
    this.clear("deadline");
    this.openSince = Date.now();
    this.pingIn(this.options.timing.pingEvery);
    this.state = { status: "open", session, node, user };
    // Who hears of the state may subscribe, and that is not to be said twice.
    this.ears.welcome();
    this.ears.state(this.state);
  }

  /** A token that is past by this side's clock says that the clock is wrong; the server's `expiring` is left then. */
  private refreshBefore(left: number): void {
    if (!(left > 0)) return;
    const wait = left - Math.min(this.options.timing.refreshBefore, left / 2);
    this.refreshIn(Math.max(SHORTEST_REFRESH, wait));
  }

  /** Unless it is to be done earlier anyhow. */
  private refreshIn(wait: number): void {
    const at = Date.now() + Math.max(0, wait);
    if (this.isRefreshing || (this.timers.has("refresh") && this.refreshAt <= at)) return;
    this.refreshAt = at;
    this.after("refresh", at - Date.now(), () => this.refresh());
  }

  private refresh(): void {
    this.isRefreshing = true;
    const turn = this.turn;
    this.ask("expiring").then(
      (token) => turn === this.turn && this.show(token),
      (error: unknown) => {
        if (turn !== this.turn) return;
        this.refreshAgain();
        this.ears.notice(new Error(`no token: ${text(error)}`));
      },
    );
  }

  /** The token was not to be had, or could not be verified. */
  private refreshAgain(): void {
    this.isRefreshing = false;
    this.refreshIn(RETRY_REFRESH);
  }

  private pingIn(wait: number): void {
    this.after("ping", wait, () => this.ping());
  }

  private ping(): void {
    const { pingEvery, pongWithin } = this.options.timing;
    const asked = Date.now();
    this.send({ type: "ping" });
    this.after("ping", pongWithin, () => {
      if (this.heardAt < asked) this.lose(LOST, "no sign of life");
      else this.pingIn(Math.max(0, pingEvery - pongWithin));
    });
  }

  private lose(code: number, reason: string): void {
    const { timing } = this.options;
    if (this.openSince !== undefined && Date.now() - this.openSince >= timing.stableAfter) {
      this.attempt = this.refusals = 0;
    }
    this.begin();
    let what = remedy(code);
    if (what === "token") {
      this.why = "refused";
      this.refusals += 1;
      if (this.refusals >= REFUSALS) what = "give up";
    }
    if (what === "give up") return this.close(code, reason);
    const wait = this.wait(what);
    this.attempt += 1;
    this.after("retry", wait, () => this.connect());
    this.set({ status: "waiting", retryAt: Date.now() + wait, code, reason });
  }

  private wait(what: Remedy): number {
    const { backoffBase, backoffMost, later } = this.options.timing;
    if (what === "later") return later + backoff(this.attempt, later, backoffMost);
    // The first refusal is of a token that ran out, and the next one is at hand.
    if (what === "token" && this.refusals === 1) return 0;
    return backoff(this.attempt, backoffBase, backoffMost);
  }

  /** Leaves behind what there was: the socket may take minutes to notice that nobody is there. */
  private begin(): number {
    for (const timer of this.timers.keys()) this.clear(timer);
    const socket = this.socket;
    if (socket) {
      socket.onopen = socket.onclose = socket.onmessage = null;
      socket.close();
    }
    this.socket = undefined;
    this.unsent = [];
    this.openSince = undefined;
    this.isRefreshing = false;
    return ++this.turn;
  }

  private set(state: ConnectionState): void {
    this.state = state;
    this.ears.state(state);
  }

  private after(timer: Timer, wait: number, what: () => void): void {
    this.clear(timer);
    const due = (): void => {
      this.timers.delete(timer);
      what();
    };
    this.timers.set(timer, setTimeout(due, Math.min(wait, LONGEST)));
  }

  private clear(timer: Timer): void {
    clearTimeout(this.timers.get(timer));
    this.timers.delete(timer);
  }
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
