import { Link, MESSAGES_PER_SECOND, TIMING, type ConnectionState, type Timing, type Why } from "./link.js";
import type { FromServer, LiveRecord } from "./protocol.js";
import { Subscription, type SubscribeOptions, type SubscriptionState } from "./subscription.js";

export interface ConnectOptions {
  /** The node's address, such as `https://edge.example/live` or `wss://…`; relative to the page where there is one. */
  readonly url: string | URL;
  /** The store; may be left out where the node's settings name one. */
  readonly storeId?: string;
  /** A token that the node takes. Called for each connection, and before the token in use expires. */
  readonly token: (why: Why) => string | Promise<string>;
  readonly onState?: (state: ConnectionState) => void;
  /** What went wrong and is being dealt with, for a log. */
  readonly onNotice?: (error: Error) => void;
  readonly timing?: Partial<Timing>;
  /** How many messages are sent in a second at most: less than the node's `live.messagesPerSecond` allows. 40. */
  readonly messagesPerSecond?: number;
  /** Another implementation, where there is none of the platform's own. */
  readonly WebSocket?: typeof WebSocket;
}

/** A subscription as its owner sees it. */
export interface Handle {
  readonly object: string;
  readonly state: SubscriptionState;
  /** Where it stands, to go on from later; none before the first record or answer. */
  readonly position: string | undefined;
  unsubscribe(): void;
}

/** A connection that is kept, and all that it carries. */
export interface Live {
  readonly state: ConnectionState;
  /**
   * Subscribes to an object such as `event:42`, or to all of a type with `event:*`.
   * @throws Error when there is a subscription to it already, or the connection is closed.
   */
  subscribe<T = unknown>(object: string, options: SubscribeOptions<T>): Handle;
  /** Does not wait any longer where it waits to connect again. */
  wake(): void;
  /** Ends the connection and all subscriptions. */
  close(): void;
}

/**
 * Connects, and stays connected: until `close()`, or until the server says that there is no sense in it.
 * @throws RangeError when `messagesPerSecond` is less than 1, and what `URL` throws of an address that is none.
 */
export function connect(options: ConnectOptions): Live {
  return new Connection(options);
}

class Connection implements Live {
  private readonly link: Link;
  private readonly timing: Timing;
  private readonly byId = new Map<string, Subscription>();
  private readonly byObject = new Map<string, Subscription>();
  private ids = 0;

  constructor(private readonly options: ConnectOptions) {
    this.timing = { ...TIMING, ...options.timing };
    const ears = {
      state: (state: ConnectionState) => this.changed(state),
      welcome: () => this.byId.forEach((subscription) => subscription.ask()),
      message: (message: FromServer) => this.hear(message),
      notice: (error: Error) => tell(options.onNotice, error),
    };
    const { token, messagesPerSecond = MESSAGES_PER_SECOND } = options;
    if (!(messagesPerSecond >= 1)) {
      throw new RangeError(`messagesPerSecond is ${messagesPerSecond}: give at least 1, and less than the node's own`);
    }
    const link = { url: address(options), token, WebSocket: options.WebSocket ?? WebSocket, timing: this.timing };
    this.link = new Link({ ...link, messagesPerSecond }, ears);
    listen("addEventListener", this);
    this.link.connect();
  }

  get state(): ConnectionState {
    return this.link.state;
  }

  subscribe<T>(object: string, options: SubscribeOptions<T>): Handle {
    if (this.state.status === "closed") throw new Error(`the connection is closed: ${this.state.reason}`);
    if (this.byObject.has(object)) throw new Error(`there is a subscription to ${object} already: use that one`);
    const id = String(++this.ids);
    const subscription = new Subscription(
      id,
      object,
      options,
      this.timing,
      (message) => this.link.send(message),
      tell,
      () => {
        this.byId.delete(id);
        this.byObject.delete(object);
      },
    );
    this.byId.set(id, subscription);
    this.byObject.set(object, subscription);
    if (this.link.isOpen) subscription.ask();
    return {
      object,
      get state() {
        return subscription.state;
      },
      get position() {
        return subscription.position;
      },
      unsubscribe: () => {
        if (!this.byId.has(id)) return;
        this.link.send({ type: "unsubscribe", id });
        subscription.end({ status: "ended", reason: "asked" });
      },
    };
  }

  wake(): void {
    this.link.wake();
  }

  close(): void {
    this.link.close();
  }

  /** Of `online`, `pageshow` and `visibilitychange`. */
  handleEvent(): void {
    if (typeof document === "undefined" || document.visibilityState === "visible") this.wake();
  }

  private changed(state: ConnectionState): void {
    if (state.status === "waiting") this.byId.forEach((subscription) => subscription.pause());
    tell(this.options.onState, state);
    if (state.status !== "closed") return;
    listen("removeEventListener", this);
    const { code, reason } = state;
    this.byId.forEach((subscription) => subscription.end({ status: "ended", reason: "closed", code, message: reason }));
  }

  private hear(message: FromServer): void {
    if (message.type === "record") {
      return message.id === undefined ? this.record(message) : this.byId.get(message.id)?.record(message);
    }
    if (message.type === "lagged") {
      return tell(this.options.onNotice, new Error(`too slow: the server has dropped ${message.lost} records`));
    }
    if (message.type === "pong") return this.byId.forEach((subscription) => subscription.reached(message.position));
    const subscription = "id" in message && message.id !== undefined ? this.byId.get(message.id) : undefined;
    if (message.type === "error" && !subscription) {
      return tell(this.options.onNotice, new Error(`the server says ${message.code}: ${message.message}`));
    }
    if (!subscription) return;
    if (message.type === "subscribed") subscription.subscribed(message);
    else if (message.type === "unsubscribed") subscription.unsubscribed(message.reason);
    else if (message.type === "error") subscription.failed(message);
  }

  /** Tells each subscription that it belongs to, once. As at the server, it belongs to all of its own object's type only. */
  private record(record: LiveRecord): void {
    const { object, objects = [] } = record;
    const names = [object, `${object.split(":", 1)}:*`, ...objects];
    const found = new Set(names.map((name) => this.byObject.get(name)));
    found.forEach((subscription) => subscription?.record(record));
  }
}

function address({ url, storeId }: ConnectOptions): string {
  const whole = new URL(url, typeof location === "undefined" ? undefined : location.href);
  whole.protocol = whole.protocol.replace(/^http/, "ws");
  if (storeId !== undefined) whole.searchParams.set("store_id", storeId);
  return whole.href;
}

function listen(how: "addEventListener" | "removeEventListener", handler: EventListenerObject): void {
  for (const event of ["online", "pageshow"]) globalThis[how]?.(event, handler);
  if (typeof document !== "undefined") document[how]("visibilitychange", handler);
}

/** What a page's own function throws is the page's to see, and does not get in the way here. */
function tell<A>(handler: ((argument: A) => void) | undefined, argument: A): void {
  try {
    handler?.(argument);
  } catch (error) {
    (globalThis.reportError ?? console.error)(error);
  }
}
