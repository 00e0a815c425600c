import { backoff } from "./backoff.js";
import type { Timing } from "./link.js";
import type { Denied, Filter, FromClient, FromServer, LiveRecord, Scalar } from "./protocol.js";

/** How a subscription stands. */
export type SubscriptionState =
  /** No record comes: there is no connection, or no answer yet, or not the one wanted; it is asked for again. */
  | { readonly status: "waiting"; readonly reason?: string }
  /**
   * Records come. `recovered` is there when the subscription was live before: `true`, then all that was missed follows;
   * `false`, then there is a gap, and what is shown should be read anew from wherever it is kept.
   */
  | { readonly status: "live"; readonly recovered?: boolean }
  /** For good. `revoked`: the permission was taken away; `denied`: it was not there; `refused`: bad or too much. */
  | {
      readonly status: "ended";
      readonly reason: "asked" | "revoked" | "denied" | "refused" | "closed";
      readonly code?: number;
      readonly message?: string;
      readonly denied?: Denied;
    };

export interface SubscribeOptions<T = unknown> {
  readonly onRecord: (record: LiveRecord<T>) => void;
  readonly onState?: (state: SubscriptionState) => void;
  /** Begins with the last record known. */
  readonly last?: boolean;
  /** Where this page is slow, gets the newest record of each object instead of every one. */
  readonly conflate?: boolean;
  readonly filter?: Filter;
  /** Goes on from a position kept from before, such as over a reload. */
  readonly position?: string;
}

/** What to say to the server again for; all else is an answer that would be the same. */
const PASSING: readonly (number | string)[] = [401, 429, 503, "expired", "authority_unreachable"];

/** One subscription, from asking for it until it ends; over any number of connections. */
export class Subscription {
  state: SubscriptionState = { status: "waiting" };
  /** Where to go on from. */
  position: string | undefined;
  /** That of the last record told. */
  private told: string | undefined;
  private wasLive = false;
  /** The next record may be the last of before, whose position is older than the subscription's. */
  private mayBeOld = false;
  private attempt = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly id: string,
    readonly object: string,
    private readonly options: SubscribeOptions<never>,
    private readonly timing: Timing,
    private readonly send: (message: FromClient) => void,
    private readonly tell: <A>(handler: ((argument: A) => void) | undefined, argument: A) => void,
    private readonly forget: () => void,
  ) {
    this.position = options.position;
  }

  ask(): void {
    clearTimeout(this.timer);
    const { last, conflate, filter } = this.options;
    this.send({
      type: "subscribe",
      id: this.id,
      object: this.object,
      ...(this.position !== undefined && { position: this.position }),
      ...(last && { last }),
      ...(conflate && { conflate }),
      ...(filter && { filter }),
    });
  }

  /** The connection is gone. */
  pause(): void {
    clearTimeout(this.timer);
    if (this.state.status === "live") this.set({ status: "waiting" });
  }

  subscribed({ position, recovered }: FromServer & { type: "subscribed" }): void {
    // Without a position of before nobody can say what was missed.
    const again = recovered ?? (this.wasLive ? false : undefined);
    this.position = position ?? this.position;
    this.mayBeOld = again !== true && this.options.last === true;
    this.wasLive = true;
    this.attempt = 0;
    this.set({ status: "live", ...(again !== undefined && { recovered: again }) });
  }

  record(record: LiveRecord): void {
    // The last one known comes again where nothing was missed.
    if (this.state.status !== "live" || record.position === this.told) return;
    this.told = record.position;
    if (!this.mayBeOld) this.position = record.position;
    this.mayBeOld = false;
    // What another subscription asked for comes once, for both.
    if (matches(this.options.filter, record.data)) this.tell(this.options.onRecord, record as LiveRecord<never>);
  }

  /** All before this position was told. */
  reached(position: string | undefined): void {
    if (this.state.status !== "live" || position === undefined) return;
    this.position = position;
    this.mayBeOld = false;
  }

  unsubscribed(reason: string): void {
    if (PASSING.includes(reason)) this.askAgain(reason);
    else this.end({ status: "ended", reason: reason === "revoked" ? reason : "asked" });
  }

  failed({ code, message, denied }: FromServer & { type: "error" }): void {
    if (PASSING.includes(code)) return this.askAgain(message);
    const reason = code === 403 ? "denied" : "refused";
    this.end({ status: "ended", reason, code, message, ...(denied && { denied }) });
  }

  end(state: SubscriptionState & { status: "ended" }): void {
    clearTimeout(this.timer);
    if (this.state.status === "ended") return;
    // Before it is told, for who hears of it may subscribe anew.
    this.forget();
    this.set(state);
  }

  private askAgain(reason: string): void {
    const { backoffBase, backoffMost } = this.timing;
    const wait = backoffBase + backoff(this.attempt, backoffBase, backoffMost);
    this.attempt += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), wait);
    this.set({ status: "waiting", reason });
  }

  private set(state: SubscriptionState): void {
    this.state = state;
    this.tell(this.options.onState, state);
  }
}

function matches(filter: Filter | undefined, data: unknown): boolean {
  return Object.entries(filter ?? {}).every(([field, wanted]) => {
    const value = (data as Record<string, unknown> | null)?.[field] as Scalar | undefined;
    return Array.isArray(wanted) ? wanted.includes(value ?? null) : wanted === (value ?? null);
  });
}
