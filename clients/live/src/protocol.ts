/** The wire of `meridian.live.v1`: one JSON object a text frame. `docs/live-channel.md` describes it in whole. */

export const PROTOCOL = "meridian.live.v1";

export type Scalar = string | number | boolean | null;

/** Which records are wanted: each field named, at the top of a record's `data`, has the value or one of the values; `null` is also for fields that are not there. */
export type Filter = Readonly<Record<string, Scalar | readonly Scalar[]>>;

/** A record, as it was published. */
export interface LiveRecord<T = unknown> {
  /** What it is about, such as `event:42`. */
  readonly object: string;
  /** What else it belongs to, such as `organization:acme`. */
  readonly objects?: readonly string[];
  /** Where it stands; opaque. */
  readonly position: string;
  /** When it was published, as RFC 3339 says. */
  readonly at: string;
  readonly data: T;
}

export type FromClient =
  | { type: "auth"; token: string }
  | {
      type: "subscribe";
      id: string;
      object: string;
      position?: string;
      last?: boolean;
      conflate?: boolean;
      filter?: Filter;
    }
  | { type: "unsubscribe"; id: string }
  | { type: "ping" };

export type FromServer =
  | { type: "welcome"; session: string; node: string; user: string; expires_at?: string }
  | { type: "subscribed"; id: string; object: string; position?: string; recovered?: boolean }
  /** `id`: for that subscription alone; without, for all that it belongs to. */
  | ({ type: "record"; id?: string } & LiveRecord)
  | { type: "unsubscribed"; id: string; reason: string }
  | { type: "error"; id?: string; code: number; message: string; denied?: Denied }
  | { type: "lagged"; lost: number }
  | { type: "expiring"; at: string }
  /** `position`: all before it of the subscriptions that are live has been told. */
  | { type: "pong"; position?: string };

/** What a subscription was denied for want of. */
export interface Denied {
  readonly user: string;
  readonly relation: string;
  readonly object: string;
}

/** What to do about a close. */
export type Remedy =
  /** Connect again, after a backoff. */
  | "retry"
  /** Connect again with another token. */
  | "token"
  /** Connect again, but leave the server alone for a while. */
  | "later"
  /** Nothing that this client could do again would end otherwise. */
  | "give up";

const REMEDIES: Readonly<Record<number, Remedy>> = {
  1009: "give up",
  4400: "give up",
  4401: "token",
  4429: "later",
  4503: "later",
};

export function remedy(closeCode: number): Remedy {
  return REMEDIES[closeCode] ?? "retry";
}
